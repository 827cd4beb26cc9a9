"""Messages and progress of a run: bars with the time left on a terminal, plain lines elsewhere.

All messages also go to the package's logger, and so into ``run.log``.
"""

from __future__ import annotations

import io
import logging
import sys
import time
from collections.abc import Callable, Iterator
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
from tomopolish.run.journal.recording import LOG, SHOWN
from tomopolish.run.streams import Stream, forgiving
from tomopolish.run.verbosity import shows


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
    """Return a reporter: bars for a terminal, plain lines otherwise; a stream that fails never ends a run.

    With ``--quiet`` it shows warnings only.
    """
    if not shows(logging.INFO):
        return PlainReporter(_Nowhere())
    safe = forgiving(stream)
    return TerminalReporter(safe) if safe.isatty() else PlainReporter(safe)


class _Nowhere(io.TextIOBase):
    def write(self, text: str) -> int:
        return len(text)


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
        yield _TimedProgress(one_line(name), _log_detail)

    def passed(self, name: str, sentence: str) -> None:
        """Show nothing."""
        LOG.info("%s: %s", name, sentence, extra=SHOWN)

    def warn(self, sentence: str) -> None:
        """Store a warning."""
        self.warnings.append(sentence)
        LOG.warning("%s", sentence, extra=SHOWN)

    def say(self, sentence: str) -> None:
        """Show nothing."""
        _log(sentence)

    def show(self, table: Table) -> None:
        """Show nothing."""
        _log(table.plain())


class PassingReporter:
    """A reporter that passes everything on, in the words that `worded` returns, and collects the warnings."""

    def __init__(self, reporter: Reporter, worded: Callable[[str], str] = str) -> None:
        self._reporter = reporter
        self._worded = worded
        self._warnings: dict[str, None] = {}

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return each warning so far once, in order."""
        return tuple(self._warnings)

    def open(self, tomograms: int) -> AbstractContextManager[None]:
        """Begin a run."""
        return self._reporter.open(tomograms)

    def tomogram(self, name: str) -> AbstractContextManager[Progress]:
        """Begin a tomogram."""
        return self._reporter.tomogram(name)

    def passed(self, name: str, sentence: str) -> None:
        """Count a tomogram."""
        self._reporter.passed(name, self._worded(sentence))

    def warn(self, sentence: str) -> None:
        """Collect a warning, and pass it on."""
        self._warnings[self._worded(sentence)] = None
        self._reporter.warn(self._worded(sentence))

    def say(self, sentence: str) -> None:
        """Pass a line on."""
        self._reporter.say(self._worded(sentence))

    def show(self, table: Table) -> None:
        """Pass a table on."""
        self._reporter.show(table)


class _WarnsOnce:
    """Shows each warning once: a check and the run that follows may give the same warning."""

    def __init__(self) -> None:
        self._warned: set[str] = set()

    def warn(self, sentence: str) -> None:
        """Show a warning, unless it has been shown: one line on stderr, or above the bars."""
        if sentence not in self._warned:
            self._warned.add(sentence)
            LOG.warning("%s", sentence, extra=SHOWN)
            self._show_warning(one_line(f"warning: {sentence}"))

    def _show_warning(self, line: str) -> None:
        print(line, file=forgiving(sys.stderr), flush=True)


class PlainReporter(_WarnsOnce):
    """One line per stage and tomogram, without control characters: for log files and pipes."""

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self._stream = stream
        self._tomograms = 0
        self._begun = 0
        self._pace = Pace()

    @contextmanager
    def open(self, tomograms: int) -> Iterator[None]:
        """Begin a run."""
        self._tomograms, self._begun = tomograms, 0
        self._pace = Pace(total=tomograms)
        yield

    @contextmanager
    def tomogram(self, name: str) -> Iterator[Progress]:
        """Begin the next tomogram; a line after it says how long the others will take."""
        self._begun += 1
        try:
            yield _TimedProgress(f"{one_line(name)} ({self._begun}/{self._tomograms})", self._detail)
        except BaseException:
            self._pace.skip()
            raise
        left = self._pace.left()
        if self._tomograms > 1 and left:
            self.say(f"tomogram {self._pace.done}/{self._tomograms}, {left} left")

    def passed(self, name: str, sentence: str) -> None:
        """Count a tomogram and print a line."""
        self._begun += 1
        self._pace.skip()
        self.say(f"{name} ({self._begun}/{self._tomograms}): {sentence}")

    def say(self, sentence: str) -> None:
        """Print a line."""
        _log(sentence)
        self._print(sentence)

    def show(self, table: Table) -> None:
        """Print a table."""
        _log(table.plain())
        self._print(f"\n{table.plain()}")

    def _detail(self, sentence: str) -> None:
        _log_detail(sentence)
        self._print(sentence)

    def _print(self, sentence: str) -> None:
        print(safe_to_show(sentence), file=self._stream, flush=True)


class Pace:
    """Estimate of the remaining time from the time so far; `done` of `total` tomograms have ended."""

    def __init__(self, total: int = 0) -> None:
        self._total = total
        self._refined = 0
        self._start = time.monotonic()
        self.done = 0

    def skip(self) -> None:
        """Count a tomogram that took no time here."""
        self.done += 1

    def left(self) -> str:
        """Count a tomogram that has ended; returns the time of the others in words, "" if there are none."""
        self.done += 1
        self._refined += 1
        rest = self._total - self.done
        if rest <= 0:
            return ""
        return time_in_words((time.monotonic() - self._start) / self._refined * rest)


def time_in_words(seconds: float) -> str:
    """Return an estimated time in a suitable unit: about 40 s, about 12 min, about 3.5 h."""
    if seconds < 90:
        return f"about {max(seconds, 1):.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


class _TimedProgress:
    """Reports the time of each stage when it ends."""

    def __init__(self, label: str, detail: Callable[[str], None]) -> None:
        self._label = label
        self._detail = detail

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[StageProgress]:
        start = time.perf_counter()
        with SilentProgress().stage(name, total) as silent:
            yield silent
        self._detail(f"{self._label}: {name}, {time.perf_counter() - start:.1f} s")


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
        yield _TerminalProgress(self._bars, name, self._detail)
        self._bars.advance(self._whole)

    def passed(self, name: str, sentence: str) -> None:
        """Count a tomogram and print a line above the bars."""
        assert self._bars is not None and self._whole is not None, "open() comes first"
        LOG.info("%s: %s", name, sentence, extra=SHOWN)
        self._bars.console.print(one_line(f"{name}: {sentence}"), markup=False)
        self._bars.advance(self._whole)

    def _show_warning(self, line: str) -> None:
        if self._bars is None or not sys.stderr.isatty():
            super()._show_warning(line)
        else:
            self._bars.console.print(line, style="yellow", markup=False)

    def say(self, sentence: str) -> None:
        """Print a line."""
        _log(sentence)
        self._console.print(safe_to_show(sentence), markup=False)

    def show(self, table: Table) -> None:
        """Print a table."""
        _log(table.plain())
        title, *lines = safe_to_show(table.plain()).split("\n")
        self._console.print()
        self._console.print(Text(title, style="bold"))
        self._console.print(Text("\n".join(lines)))

    def _detail(self, sentence: str) -> None:
        _log_detail(sentence)
        if shows(logging.DEBUG):
            (self._bars.console if self._bars else self._console).print(one_line(sentence), markup=False)


class _TerminalProgress:
    def __init__(self, bars: Bars, label: str, detail: Callable[[str], None]) -> None:
        self._bars = bars
        self._label = label
        self._detail = detail

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[StageProgress]:
        start = time.perf_counter()
        task = self._bars.add_task(escape(one_line(f"{self._label}: {name}")), total=total)
        try:
            yield _TerminalStage(self._bars, task)
        finally:
            self._bars.remove_task(task)
        self._detail(f"{one_line(self._label)}: {name}, {time.perf_counter() - start:.1f} s")


class _TerminalStage:
    def __init__(self, bars: Bars, task: TaskID) -> None:
        self._bars = bars
        self._task = task

    def advance(self, steps: int = 1) -> None:
        self._bars.advance(self._task, steps)


def _log(sentence: str) -> None:
    if sentence.strip("\n"):  # an empty line is for the eye
        LOG.info("%s", sentence.strip("\n"), extra=SHOWN)


def _log_detail(sentence: str) -> None:
    LOG.debug("%s", sentence, extra=SHOWN)
