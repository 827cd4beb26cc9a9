"""A polishing run that is ended in a round goes on in that round: real processes."""

from __future__ import annotations

from pathlib import Path

import pytest
from polish_inputs import without_references
from runs_in_round_2 import at_round_2, start

from tomopolish.cli import run
from tomopolish.errors import RunError

PROJECT = ["--i", "optimisation_set.star", "--b", "48", "--r", "6", "--no_report", "--o", "out"]
TINY = ["--rounds", "1", "--no_joint", "--hold_out", "0"]
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


def test_a_changed_option_is_refused_and_removes_nothing(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["polish", *PROJECT, *TINY]
    assert run(options) == 0
    capsys.readouterr()
    files = contents(project / "out")
    assert (
        run([*options, "--only_do_unfinished", "--sym", "C2", "--r", "5", "--exclude_tilts", "TS_01:3"]) == 2
    )
    err = capsys.readouterr().err
    for change in ("--sym C1 → C2", "--r 6 → 5", "--exclude_tilts none → TS_01:3"):
        assert change in err
    assert "give --overwrite" in err
    assert contents(project / "out") == files
    (project / "particles.star").touch()
    assert run([*options, "--only_do_unfinished"]) == 2
    assert "its input files changed (particles.star)" in capsys.readouterr().err
    assert contents(project / "out") == files
    assert run([*options, "--only_do_unfinished", "--sym", "C2", "--overwrite"]) == 0
    out = capsys.readouterr().out
    assert "are made again, because its options and input files changed (--sym C1 → C2" in out
    assert "Round 0: " in out
    journal = project / "out/.tomopolish/rounds.json"
    journal.write_text("{")
    assert run([*options, "--only_do_unfinished", "--sym", "C2"]) == 2
    assert "rounds.json is damaged" in capsys.readouterr().err


def contents(folder: Path) -> dict[Path, bytes]:
    """Return the files of all rounds, of the best one, and the records."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_round_without_one_of_its_files_is_made_again(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["polish", *PROJECT, *TINY]
    without_references(project)
    assert run(options) == 0
    expected = contents(project / "out")
    for lost in ("round01/particles.star", "round00/maps/mask.mrc"):
        (project / "out" / lost).unlink()
        capsys.readouterr()
        assert run([*options, "--only_do_unfinished"]) == 0
        out = capsys.readouterr().out
        assert f"Files of {lost.partition('/')[0]} are missing" in out
        assert "changed" not in out
        after = contents(project / "out")
        assert after.keys() == expected.keys()
        for path in after:
            if path.suffix in (".mrc", ".star") and path.name != "rounds.star":  # which has the time it took
                assert after[path] == expected[path], path


def test_a_folder_whose_rounds_are_overwritten_never_names_missing_files(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [
        "polish",
        *PROJECT,
        "--rounds",
        "1",
        "--no_joint",
        "--hold_out",
        "0",
        "--pipeline_control",
        "out",
    ]
    assert run(options) == 0
    expected = contents(project / "out").keys()

    def interrupted(*_: object) -> None:
        raise RunError("interrupted")

    with monkeypatch.context() as patch:
        patch.setattr("tomopolish.rounds.polish.maps_of_round", interrupted)
        assert run([*options, "--overwrite"]) == 1
    left = {path.name for path in (project / "out").iterdir() if path.is_file()}
    assert left == {"run.log", "run.yaml", "RELION_JOB_EXIT_FAILURE"}
    assert not list((project / "out").glob("round*"))
    assert run([*options, "--only_do_unfinished"]) == 0
    assert contents(project / "out").keys() == expected


def test_rounds_are_removed_only_after_what_names_them(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["polish", *PROJECT, *TINY]
    assert run(options) == 0

    def interrupted(*_: object, **__: object) -> None:
        raise RunError("interrupted")

    with monkeypatch.context() as patch:
        patch.setattr("tomopolish.rounds.journal.Journal.remove", interrupted)
        assert run([*options, "--overwrite"]) == 1
    assert not (project / "out/optimisation_set.star").exists()
    assert not (project / "out/rounds.star").exists()
    assert (project / "out/round01/maps/optimisation_set.star").exists()
    assert run([*options, "--only_do_unfinished"]) == 0
    assert (project / "out/optimisation_set.star").exists()
