"""--config repeats a run; long names, suggestions and completion of the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tomopolish.cli import run
from tomopolish.cli.align import COMMAND

ALIGN = ["align", "--i", "optimisation_set.star", "--b", "48", "--r", "7", "--it", "2", "--no_report"]


def test_a_run_is_repeated_and_the_command_line_wins(project: Path) -> None:
    assert run([*ALIGN, "--hold_out", "0", "--o", "out"]) == 0
    assert run(["align", "--config", "out/run.yaml", "--o", "again", "--r", "6"]) == 0
    first, again = (yaml.safe_load((project / f"{name}/run.yaml").read_text()) for name in ("out", "again"))
    assert again["options"] == {**first["options"], "o": "again", "r": 6}
    assert run(["align", "--config", "out/run.yaml"]) == 0
    repeated = yaml.safe_load((project / "out/run.yaml").read_text())
    assert repeated["options"] == first["options"]


def test_a_file_of_options_is_enough(project: Path) -> None:
    (project / "my.yaml").write_text(
        "input: optimisation_set.star\nbox: 48\nrange: 7\nit: 2\nno_report: true\noutput: out\n"
        "exclude_tilts: ['TS_01:2', 'TS_02:3']\n"
    )
    assert run(["align", "--config", "my.yaml"]) == 0
    options = yaml.safe_load((project / "out/run.yaml").read_text())["options"]
    assert options["exclude_tilts"] == ["TS_01:2", "TS_02:3"] and options["b"] == [48]


@pytest.mark.parametrize(
    ("content", "expected"), [("motion: true", "on"), ("motion: auto", "auto"), ("motion: false", None)]
)
def test_motion_in_a_file_is_a_flag_or_a_word(
    content: str, expected: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my.yaml").write_text(f"{content}\n")
    monkeypatch.chdir(tmp_path)
    words = ["--config", "my.yaml", "--i", "set.star", "--b", "48", "--o", "out"]
    assert COMMAND.make_context("align", words).params["motion"] == expected


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("rnage: 7", "'rnage' is no option of align; did you mean range?"),
        ("frobnicate: 7", "'tomopolish align --help' lists them"),
        ("r: [1, 2]", "my.yaml: r is [1, 2], but must be a number, a text or true or false"),
        ("r: {a: 1}", "but must be a number"),
        ("strict: 7", "strict is 7, but must be true or false"),
        ("r: true", "r is True, but must be a value"),
        ("- 7", "contains no options"),
        ("command: tune\noptions: {}", "this is the run of 'tomopolish tune', not of 'tomopolish align'"),
        ("options: 7", "options is 7, but must list options"),
        ("r: !!python/object/apply:os.system [x]", "not a YAML file that can be read"),
        ("r: seven", "'seven' is not a valid integer"),
    ],
)
def test_what_is_no_file_of_options_is_named(
    content: str,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text(content)
    assert run(["align", "--i", "a.star", "--b", "48", "--o", "out", "--config", "my.yaml"]) == 2
    errors = capsys.readouterr().err
    assert says in errors and errors.count("\n") == 1


def test_tuning_with_a_file_still_searches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tomopolish.run.commands import tune

    seen = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tune, "run_tune", lambda settings, *_: seen.append(settings))
    (tmp_path / "my.yaml").write_text("i: a.star\nb: 48\no: out\nr: 20\n")
    assert run(["tune", "--config", "my.yaml"]) == 0
    (tmp_path / "my.yaml").write_text("i: a.star\nb: 48\no: out\ns_div: 5000\n")
    assert run(["tune", "--config", "my.yaml"]) == 0
    assert [(s.search_distance, s.search_kernel) for s in seen] == [(True, True), (False, True)]


def test_long_names_work_and_errors_name_what_was_typed(capsys: pytest.CaptureFixture[str]) -> None:
    start = ["align", "--input", "a.star", "--output", "out"]
    assert run([*start, "--box", "48", "--range", "30"]) == 2
    assert "--range 30 does not fit into --box 48" in capsys.readouterr().err
    assert run([*start, "--b", "48", "--range=30"]) == 2
    assert "--range 30 does not fit into --b 48" in capsys.readouterr().err
    assert run(["tune", "--tomograms", "0", "--i", "a.star", "--box", "48", "--output", "out"]) == 2
    assert "--tomograms 0 leaves no tomogram" in capsys.readouterr().err


def test_a_mistyped_command_is_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["algin"]) == 2
    assert "did you mean 'align'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"), [("al", "align"), ("align --ran", "--range"), ("simulate --dialect ", "5")]
)
def test_a_shell_completes_words(words: str, expected: str) -> None:
    line = f"tomopolish {words}"
    environment = {
        **os.environ,
        "_TOMOPOLISH_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
    }
    answer = subprocess.run(
        [sys.executable, "-m", "tomopolish"], env=environment, capture_output=True, text=True, check=False
    )
    assert f"plain,{expected}" in answer.stdout.splitlines()
    assert not answer.stderr
