"""A polishing run that is ended in a round goes on in that round: real processes."""

from __future__ import annotations

from pathlib import Path

import pytest
from runs_in_round_2 import at_round_2, start

from tomopolish.cli import run

PROJECT = ["--i", "optimisation_set.star", "--b", "48", "--r", "6", "--no_report", "--o", "out"]
OPTIONS = [*PROJECT, "--rounds", "3", "--pipeline_control", "out"]


def test_a_run_killed_in_round_2_goes_on_there(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with at_round_2("unmoved", *OPTIONS) as process:
        assert run(["polish", *OPTIONS]) == 2
        assert f"--o out is in use by process {process.pid}" in capsys.readouterr().err
    best = (project / "out/optimisation_set.star").read_text()
    assert "round00" in best or "round01" in best  # what is there can be used
    done = {path: path.stat().st_mtime_ns for path in (project / "out").glob("round0[01]/maps/*")}
    Path("computed").unlink()
    Path("hurry").touch()
    again = start("unmoved", *OPTIONS, "--only_do_unfinished")
    out, err = again.communicate(timeout=60)
    assert again.returncode == 0, err
    assert "Finished earlier: round00, round01" in out
    assert Path("computed").read_text().splitlines()[0] == "round02 TS_02"
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert (project / "out/round02/maps/optimisation_set.star").is_file()
    assert (project / "out/RELION_JOB_EXIT_SUCCESS").exists()


def test_a_run_that_is_terminated_says_how_to_resume(project: Path) -> None:
    with at_round_2("unmoved", *OPTIONS) as process:
        process.terminate()
        _, err = process.communicate(timeout=30)
    assert process.returncode == 143
    assert "round01 is the last finished round" in err
    assert "--only_do_unfinished continues" in err
    assert (project / "out/RELION_JOB_EXIT_ABORTED").exists()


def test_other_options_make_all_rounds_again(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [*PROJECT, "--rounds", "1", "--no_joint", "--hold_out", "0"]
    assert run(["polish", *options]) == 0
    capsys.readouterr()
    assert run(["polish", *options, "--only_do_unfinished"]) == 0
    assert "Finished earlier: round00, round01" in capsys.readouterr().out
    assert run(["polish", *options, "--only_do_unfinished", "--sym", "C2"]) == 0
    out = capsys.readouterr().out
    assert "all rounds are made again" in out
    assert "Round 0: " in out
