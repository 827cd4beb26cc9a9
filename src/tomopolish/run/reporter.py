"""Messages and progress of a run: bars with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TextIO, cast

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.text import Text

from tomopolish.output.table import Table
from tomopolish.plain_text import one_line, safe_to_show
from tomopolish.progress import Progress, SilentProgress, StageProgress
from tomopolish.run.streams import Stream, forgiving


class Reporter(Protocol):
    """Receives the messages and the progress of a run."""

    def open(self, tomograms: int) -> AbstractContextManager[None]:
        """Begin a run over `tomograms` tomograms; it ends when the context closes."""

    def tomogram(self, name: str) -> AbstractContextManager[Progress]:
        """Begin the next tomogram; its stages are shown until the context closes."""

    def passed(self, name: str, sentence: str) -> None:
        """Count a tomogram that was refined elsewhere or earlier, or failed, and show the sentence."""

    def warn(self, sentence: str) -> None:
        """Show a warning: one line on stderr."""

    def say(self, sentence: str) -> None:
        """Show a line of information."""

    def show(self, table: Table) -> None:
        """Show a table."""


def reporter_for(stream: Stream | None) -> Reporter:
    """Return a reporter: bars for a terminal, plain lines otherwise; a stream that fails never ends a run."""
    safe = forgiving(stream)
    return TerminalReporter(safe) if safe.isatty() else PlainReporter(safe)


class SilentReporter:
    """Keeps warnings for the caller and shows nothing."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    @contextmanager
    def open(self, tomograms: int) -> Iterator[None]:
        """Begin a run and show nothing."""
        yield

    @contextmanager
    def tomogram(self, name: str) -> Iterator[Progress]:
        """Begin a tomogram and show nothing."""
        yield SilentProgress()

    def passed(self, name: str, sentence: str) -> None:
        """Show nothing."""

    def warn(self, sentence: str) -> None:
        """Store a warning."""
        self.warnings.append(sentence)

    def say(self, sentence: str) -> None:
        """Show nothing, and forget the line."""

    def show(self, table: Table) -> None:
        """Show nothing, and forget the table."""


class _WarnsOnce:
    """Remembers warnings that have been shown: a check and the run that follows may give the same warning."""

    def __init__(self) -> None:
        self._warned: set[str] = set()

    def is_new(self, sentence: str) -> bool:
        """Return whether a warning is given for the first time."""
        new = sentence not in self._warned
        self._warned.add(sentence)
        return new


class PlainReporter(_WarnsOnce):
    """One line per stage and tomogram, without control characters: for log files and pipes."""

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self._stream = stream
        self._tomograms = 0
        self._begun = 0

    @contextmanager
    def open(self, tomograms: int) -> Iterator[None]:
        """Begin a run."""
        self._tomograms, self._begun = tomograms, 0
        yield

    @contextmanager
    def tomogram(self, name: str) -> Iterator[Progress]:
        """Begin the next tomogram."""
        self._begun += 1
        yield _PlainProgress(self, f"{one_line(name)} ({self._begun}/{self._tomograms})")

    def passed(self, name: str, sentence: str) -> None:
        """Count a tomogram and print a line."""
        self._begun += 1
        self.say(f"{name} ({self._begun}/{self._tomograms}): {sentence}")

    def warn(self, sentence: str) -> None:
        """Show a warning: one line on stderr, once."""
        if self.is_new(sentence):
            _warn(sentence)

    def say(self, sentence: str) -> None:
        """Print a line."""
        print(safe_to_show(sentence), file=self._stream, flush=True)

    def show(self, table: Table) -> None:
        """Print a table."""
        self.say(f"\n{table.plain()}")


class _PlainProgress:
    def __init__(self, reporter: PlainReporter, label: str) -> None:
        self._reporter = reporter
        self._label = label

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[StageProgress]:
        start = time.perf_counter()
        with SilentProgress().stage(name, total) as silent:
            yield silent
        self._reporter.say(f"{self._label}: {name}, {time.perf_counter() - start:.1f} s")


class TerminalReporter(_WarnsOnce):
    """Bars with the time left: one for the run, one for the running stage."""

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        terminal = cast(TextIO, forgiving(stream).taking_escapes())
        self._console = Console(file=terminal, highlight=False, soft_wrap=True)
        self._bars: Bars | None = None
        self._whole: TaskID | None = None

    @contextmanager
    def open(self, tomograms: int) -> Iterator[None]:
        """Begin a run: the bars stay until the context closes."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Bars(*columns, console=self._console, transient=True) as bars:
            self._bars, self._whole = bars, bars.add_task("tomograms", total=tomograms)
            try:
                yield
            finally:
                self._bars = None
                bars.remove_task(self._whole)

    @contextmanager
    def tomogram(self, name: str) -> Iterator[Progress]:
        """Begin the next tomogram."""
        assert self._bars is not None and self._whole is not None, "open() comes first"
        yield _TerminalProgress(self._bars, name)
        self._bars.advance(self._whole)

    def passed(self, name: str, sentence: str) -> None:
        """Count a tomogram and print a line above the bars."""
        assert self._bars is not None and self._whole is not None, "open() comes first"
        self._bars.console.print(one_line(f"{name}: {sentence}"), markup=False)
        self._bars.advance(self._whole)

    def warn(self, sentence: str) -> None:
        """Show a warning: one line on stderr, above the bars, once."""
        if not self.is_new(sentence):
            return
        if self._bars is None or not sys.stderr.isatty():
            _warn(sentence)
        else:
            self._bars.console.print(one_line(f"warning: {sentence}"), style="yellow", markup=False)

    def say(self, sentence: str) -> None:
        """Print a line."""
        self._console.print(safe_to_show(sentence), markup=False)

    def show(self, table: Table) -> None:
        """Print a table."""
        title, *lines = safe_to_show(table.plain()).split("\n")
        self._console.print()
        self._console.print(Text(title, style="bold"))
        self._console.print(Text("\n".join(lines)))


class _TerminalProgress:
    def __init__(self, bars: Bars, label: str) -> None:
        self._bars = bars
        self._label = label

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[StageProgress]:
        task = self._bars.add_task(escape(one_line(f"{self._label}: {name}")), total=total)
        try:
            yield _TerminalStage(self._bars, task)
        finally:
            self._bars.remove_task(task)


class _TerminalStage:
    def __init__(self, bars: Bars, task: TaskID) -> None:
        self._bars = bars
        self._task = task

    def advance(self, steps: int = 1) -> None:
        self._bars.advance(self._task, steps)


def _warn(sentence: str) -> None:
    print(one_line(f"warning: {sentence}"), file=forgiving(sys.stderr), flush=True)
