"""The program as a whole: help, version, start-up."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from tomopolish import __version__
from tomopolish.cli import SUMMARIES, Commands, run
from tomopolish.cli.align import COMMAND
from tomopolish.cli.grouped import NamedPath


def fastest(*arguments: str) -> float:
    """Wall time of the fastest of several starts of Python: other work may keep the processor busy."""
    times = []
    for _ in range(7):
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
        times.append(time.perf_counter() - start)
    return min(times)


@pytest.mark.alone
def test_the_help_answers_at_once() -> None:
    """A user notices half a second; on any machine it takes at most four times the start with click."""
    seconds = fastest("-m", "tomopolish", "--help")
    assert seconds <= 0.5
    assert seconds <= 4 * fastest("-c", "import click")


def test_the_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    for name, summary in SUMMARIES.items():
        assert f"{name} " in text
        assert summary in text


def test_without_arguments_there_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    assert "Usage: tomopolish" in capsys.readouterr().out


@pytest.mark.parametrize("name", SUMMARIES)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == 0
    assert f"Usage: tomopolish {name}" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["refine"], ["--frobnicate"], ["align", "--frobnicate"]])
def test_unknown_words_are_refused_in_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("tomopolish: ")
    assert arguments[-1] in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("name", SUMMARIES)
def test_no_path_may_be_empty(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a script's unset variable leaves it: ``--o "$OUT"``."""
    monkeypatch.chdir(tmp_path)
    found = Commands().get_command(click.Context(COMMAND), name)
    assert found is not None
    for option in found.params:
        assert not isinstance(option.type, click.Path) or isinstance(option.type, NamedPath), option.name
        if isinstance(option.type, NamedPath):
            for empty in ("", " "):
                words = [empty] if isinstance(option, click.Argument) else [option.opts[0], empty]
                assert run([name, *words]) == 2
                assert "the name is empty" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_align_help_groups_options_and_marks_what_is_not_available(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "110")
    run(["align", "--help"])
    text = capsys.readouterr().out
    headings = [
        "Input",
        "Alignment",
        "Weights of frequencies",
        "Particle motion",
        "Image deformation",
        "Joint refinement",
        "Run",
    ]
    places = [text.index(f"\n{heading}") for heading in headings]
    assert places == sorted(places)
    assert "[default: 20]" in text
    assert "Not available" not in text
