"""Messages of a run, on a terminal and elsewhere."""

from __future__ import annotations

import io
import re

import pytest

from tomopolish.output.table import Table
from tomopolish.run.reporter import PlainReporter, Reporter, SilentReporter, TerminalReporter, reporter_for

TABLE = Table(title="Title", columns=("tomogram", "count"), rows=[("TS_[01]", "12")])


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run_two_tomograms(reporter: Reporter) -> None:
    with reporter.open(2):
        for name in ("TS_[01]", "TS_02"):
            with reporter.tomogram(name) as progress:
                with progress.stage("windows", total=11) as stage:
                    stage.advance(10)
                    stage.advance()
                with progress.stage("solve") as stage:
                    stage.advance()
    reporter.say("done")
    reporter.show(TABLE)


def test_a_file_gets_one_plain_line_per_stage_and_tomogram() -> None:
    stream = io.StringIO()
    reporter = reporter_for(stream)
    assert isinstance(reporter, PlainReporter)
    run_two_tomograms(reporter)
    lines = stream.getvalue().splitlines()
    stages = [re.sub(r"\d+(\.\d)? s", "# s", line) for line in lines[:5]]
    assert stages == [
        "TS_[01] (1/2): windows, # s",
        "TS_[01] (1/2): solve, # s",
        "tomogram 1/2, about # s left",
        "TS_02 (2/2): windows, # s",
        "TS_02 (2/2): solve, # s",
    ]
    assert lines[5] == "done"
    assert lines[-1].split() == ["TS_[01]", "12"]
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", stream.getvalue())


def test_a_terminal_gets_bars_that_name_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    stream = FakeTerminal()
    reporter = reporter_for(stream)
    assert isinstance(reporter, TerminalReporter)
    with reporter.open(2), reporter.tomogram("TS_[01]") as progress, progress.stage("windows", 11) as stage:
        stage.advance(10)
        assert reporter._bars is not None
        reporter._bars.refresh()
        shown = stream.getvalue()
    assert "TS_[01]: windows" in shown
    assert "10/11" in shown
    assert "0/2" in shown
    run_two_tomograms(reporter)
    assert stream.getvalue().splitlines()[-1].split() == ["TS_[01]", "12"]


def test_a_stage_that_fails_closes_its_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    reporter = TerminalReporter(FakeTerminal())
    with reporter.open(1):
        with (
            pytest.raises(ValueError, match="bad"),
            reporter.tomogram("TS_01") as progress,
            progress.stage("windows", 3),
        ):
            raise ValueError("bad")
        assert reporter._bars is not None
        assert [task.description for task in reporter._bars.tasks] == ["tomograms"]


def test_warnings_are_single_lines_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    PlainReporter(io.StringIO()).warn("first line\nsecond line")
    captured = capsys.readouterr()
    assert captured.err == "warning: first line second line\n"
    assert captured.out == ""


def test_the_silent_reporter_keeps_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = SilentReporter()
    run_two_tomograms(reporter)
    reporter.warn("watch out")
    assert reporter.warnings == ["watch out"]
    assert capsys.readouterr() == ("", "")
