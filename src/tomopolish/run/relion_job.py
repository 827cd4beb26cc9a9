"""The exit and abort files by which RELION's pipeline and its jobs communicate."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tomopolish.dataset.files import atomic_path
from tomopolish.errors import RunStopped
from tomopolish.progress import Progress, StageProgress
from tomopolish.run.folder.lock import FolderInUseError
from tomopolish.run.invocation import path_after
from tomopolish.run.reporter import PassingReporter, Reporter
from tomopolish.run.signals import raise_if_asked_to_end

EXIT_PREFIX = "RELION_JOB_EXIT_"
ABORT_NAME = "RELION_JOB_ABORT_NOW"
SECONDS_BETWEEN_LOOKS = 1.0


@dataclass(kw_only=True)
class PipelineControl:
    """Job folder in RELION's pipeline; None: there is no pipeline, and no file is written or read."""

    folder: Path | None
    _looked: float = field(default=float("-inf"), init=False)

    def begin(self) -> None:
        """Remove the exit files of an earlier run."""
        if self.folder is None:
            return
        for path in self.folder.glob(f"{EXIT_PREFIX}*"):
            path.unlink(missing_ok=True)

    def end(self, status: int, error: BaseException | None = None) -> None:
        """Write the file that says how the run ended, from its exit status or the error that ended it.

        A run that was refused because another run uses the folder writes none, since that run will.
        """
        if self.folder is None or isinstance(error, FolderInUseError):
            return
        word = "FAILURE" if status else "SUCCESS"
        if isinstance(error, RunStopped | KeyboardInterrupt):
            (self.folder / ABORT_NAME).unlink(missing_ok=True)
            word = "ABORTED"
        with atomic_path(self.folder / f"{EXIT_PREFIX}{word}"):
            pass

    def look(self) -> None:
        """Raise RunStopped when the abort file is there, and AskedToEnd after a signal.

        The file is looked for about once a second.
        """
        raise_if_asked_to_end()
        now = time.monotonic()
        if self.folder is None or now - self._looked < SECONDS_BETWEEN_LOOKS:
            return
        self._looked = now
        if (self.folder / ABORT_NAME).exists():
            raise RunStopped(
                f"{self.folder / ABORT_NAME} asks to abort; --only_do_unfinished reuses the finished "
                "tomograms"
            )


class WatchedReporter(PassingReporter):
    """A reporter that looks for the abort file at every tomogram, stage and step."""

    def __init__(self, reporter: Reporter, control: PipelineControl) -> None:
        super().__init__(reporter)
        self._control = control

    @contextlib.contextmanager
    def tomogram(self, name: str) -> Iterator[Progress]:
        """Begin a tomogram."""
        self._control.look()
        with super().tomogram(name) as progress:
            yield _WatchedProgress(progress, self._control)


def control_of(arguments: Sequence[str]) -> PipelineControl:
    """Return the job folder that a command line names, even if the line cannot be parsed."""
    return PipelineControl(folder=path_after(arguments, "--pipeline_control"))


class _WatchedProgress:
    def __init__(self, progress: Progress, control: PipelineControl) -> None:
        self._progress = progress
        self._control = control

    @contextlib.contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[StageProgress]:
        self._control.look()
        with self._progress.stage(name, total) as stage:
            yield _WatchedStage(stage, self._control)


class _WatchedStage:
    def __init__(self, stage: StageProgress, control: PipelineControl) -> None:
        self._stage = stage
        self._control = control

    def advance(self, steps: int = 1) -> None:
        self._control.look()
        self._stage.advance(steps)
