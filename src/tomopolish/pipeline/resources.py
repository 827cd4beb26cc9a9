"""Resources of a refinement: threads, device, and a progress display that also measures the time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tomopolish.progress import Progress, StageProgress


@dataclass(kw_only=True, eq=False)
class Resources:
    """Threads and device of a refinement; its stages run under the caller's progress display.

    Attributes
    ----------
    device
        ``auto``, ``cpu``, ``cuda`` or devices such as ``cuda:0``.
    seconds
        Wall time of each stage so far, in the order in which they began.
    """

    threads: int
    device: str
    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[StageProgress]:
        """Show a stage while it runs and add up its time; `total` counts its items, where it has any."""
        begin = time.perf_counter()
        with self.progress.stage(name, total) as handle:
            yield handle
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin
