"""Threads of the solver, which share the tilt images; callers leave none to linear algebra."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise


class Workers(ThreadPoolExecutor):
    """Threads of the solver, for work in which the caller takes part (`over`) or does not (`map`)."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.threads = threads

    def over(self, tilts: int, work: Callable[[slice], None]) -> None:
        """Call `work` with consecutive parts of range(tilts), one for each thread; the caller does the first.

        Results must not depend on where the parts end.
        """
        parts = max(1, min(self.threads, tilts))
        bounds = [tilts * part // parts for part in range(parts + 1)]
        slices = [slice(first, last) for first, last in pairwise(bounds)]
        futures = [self.submit(work, part) for part in slices[1:]]
        work(slices[0])
        for future in futures:
            future.result()


def alone(tilts: int, work: Callable[[slice], None]) -> None:
    """Call `work` like `Workers.over`, with all tilt images in the caller's thread."""
    work(slice(0, tilts))


Spread = Callable[[int, Callable[[slice], None]], None]
"""`Workers.over` or `alone`."""
