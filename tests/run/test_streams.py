"""A run that cannot show its messages does its work, says once that messages are missing, and ends with 0."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tomopolish.plain_text import one_line, safe_to_show
from tomopolish.run.reporter import PlainReporter, TerminalReporter
from tomopolish.run.streams import ForgivingStream, Losses, forgiving

ALIGN = "align --i optimisation_set.star --b 48 --r 6 --no_report --o"
FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")


def in_shell(arguments: str, redirection: str) -> subprocess.CompletedProcess[str]:
    command = f"{sys.executable} -m tomopolish {arguments} {redirection}"
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)


@needs_full
def test_a_full_disk_for_the_log_costs_no_results(project: Path) -> None:
    done = in_shell(f"{ALIGN} out", "> /dev/full")
    assert done.returncode == 0
    sentence = (
        "not all messages could be written to stdout (No space left on device); the run was not affected\n"
    )
    assert done.stderr.endswith(f"tomopolish: {sentence}")
    assert done.stderr.count("No space") == 1 and "Exception" not in done.stderr
    assert (project / "out/optimisation_set.star").exists()
    assert (project / "out/note.txt").read_text().endswith(sentence)  # for where nothing can be said


CASES = {
    "a reader that left": ("--help", "| true; exit ${PIPESTATUS[0]}", 0, "stdout (Broken pipe)"),
    "closed": ("--help", ">&-", 1, "stdout (it is closed)"),
    "closed errors": ("align --nonsense", "2>&-", 2, "stderr (it is closed)"),
    "all closed": ("align --nonsense", "<&- >&- 2>&-", 2, ""),
    "full": ("--version", "> /dev/full", 1, "stdout (No space left on device)"),
    "full errors": ("align --nonsense", "2> /dev/full", 2, "stderr (No space left on device)"),
}


@needs_full
@pytest.mark.parametrize("case", CASES)
def test_standard_streams_that_fail(case: str) -> None:
    arguments, redirection, status, sentence = CASES[case]
    done = in_shell(arguments, redirection)
    assert done.returncode == status
    assert sentence in done.stdout + done.stderr
    assert "Exception" not in done.stderr and "Traceback" not in done.stderr


class Failing(io.StringIO):
    """A stream on a disk that is full for a while."""

    def __init__(self, *, is_terminal: bool = False) -> None:
        super().__init__()
        self.is_full = True
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal

    def write(self, text: str) -> int:
        if self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(text)


def test_messages_are_shown_again_when_they_can_be() -> None:
    stream = Failing()
    safe = forgiving(stream, "the log")
    print("lost", file=safe, flush=True)
    stream.is_full = False
    print("shown", file=safe, flush=True)
    assert "shown" in stream.getvalue() and "lost" not in stream.getvalue()
    assert safe.losses.sentence is not None and "the log (No space left" in safe.losses.sentence
    assert forgiving(safe) is safe


def test_a_terminal_that_fails_does_not_end_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    for reporter in (TerminalReporter(Failing(is_terminal=True)), PlainReporter(forgiving(Failing()))):
        with reporter.open(1), reporter.tomogram("TS_01") as progress, progress.stage("windows", 3) as stage:
            stage.advance()
            reporter.say("words")
        reporter.say("done")


def test_names_reach_a_terminal_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    reporter = TerminalReporter(stream)
    with reporter.open(2):
        with reporter.tomogram("T\x1b]0;x\x07\u202e[red]") as progress, progress.stage("windows", 3):
            assert reporter._bars is not None
            reporter._bars.refresh()
        reporter.passed("A\x1b[2J", "finished earlier")
    reporter.say("B\u202e")
    text = stream.getvalue()
    assert r"T\x1b]0;x\x07\u202e[red]: windows" in text
    assert r"A\x1b[2J: finished earlier" in text and r"B\u202e" in text
    assert not {"\x1b]0;", "\x1b[2J", "\u202e"} & {text[i : i + n] for i in range(len(text)) for n in (1, 4)}


def test_text_that_is_safe_to_show() -> None:
    assert safe_to_show("Å × 3\n\tπ") == "Å × 3\n\tπ"
    assert safe_to_show("\x1b\x9b\x07\r\x00\x7f") == r"\x1b\x9b\x07\x0d\x00\x7f"
    assert safe_to_show("\u202e\u2066\u200b\ufeff\U000e0041") == r"\u202e\u2066\u200b\ufeff\U000e0041"
    assert safe_to_show("\udcff\ud800") == r"\xff\ud800"
    assert one_line("a\n b\x1b\r\nc") == r"a b\x1b c"


def test_characters_that_a_stream_has_no_code_for_are_replaced() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    safe = ForgivingStream(stream, Losses(name="stdout"))
    assert safe.write("3 Å") == 3
    safe.flush()
    assert stream.buffer.getvalue() == b"3 ?"  # type: ignore[attr-defined]
    assert safe.losses.sentence is None
