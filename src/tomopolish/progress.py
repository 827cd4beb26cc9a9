"""Protocols by which the computation reports its progress; the run layer displays it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class StageProgress(Protocol):
    """Handle of a running stage; safe to call from several threads."""

    def advance(self, steps: int = 1) -> None:
        """Report `steps` more of the stage's total as done."""


class Progress(Protocol):
    """Receives the stages of one tomogram.

    Stages follow each other and do not nest::

        with progress.stage("windows", total=len(series)) as stage:
            for tilt in series.chronological:
                ...
                stage.advance()
    """

    def stage(self, name: str, total: int | None = None) -> AbstractContextManager[StageProgress]:
        """Open a stage of `total` steps (None: unknown); it ends when the context closes, and is timed."""


class _SilentStage:
    def advance(self, steps: int = 1) -> None:
        pass


class SilentProgress:
    """Progress that shows nothing, for the Python API and for tests."""

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[StageProgress]:
        """Open a stage whose progress is not shown."""
        yield _SilentStage()
