"""--only: runs over some tomograms, as a job array starts them, and the run that joins them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tomopolish.cli import run

ALIGN = ["align", "--i", "optimisation_set.star", "--b", "48", "--r", "6", "--no_report"]
SETS = ("particles.star", "scores.star", "tilt_series/TS_01.star", "tilt_series/TS_02.star")


def test_tasks_of_an_array_are_joined_without_refining_again(
    project: Path, calls: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = [
        subprocess.Popen([sys.executable, "-m", "tomopolish", *ALIGN, "--o", "out", "--only", name])
        for name in ("TS_01", "TS_02")
    ]
    assert [task.wait(timeout=120) for task in tasks] == [0, 0]
    out = project / "out"
    assert sorted(path.name for path in out.iterdir()) == ["only"]
    assert sorted(path.name for path in (out / "only/TS_02/temp").glob("*.npz")) == ["TS_02.npz"]
    assert (out / "only/TS_02/run.log").exists() and not list(out.rglob("particles.star"))
    capsys.readouterr()
    assert run([*ALIGN, "--o", "out", "--only_do_unfinished", "--dry_run"]) == 0
    assert "not refined again: 2 tomograms: TS_01, TS_02" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == ["only"]
    assert run([*ALIGN, "--o", "out", "--only_do_unfinished"]) == 0
    assert calls == []
    assert run([*ALIGN, "--o", "alone"]) == 0
    for name in SETS:
        assert (out / name).read_bytes() == (project / "alone" / name).read_bytes()


def test_a_task_of_other_options_or_with_damage_is_refined_again(project: Path, calls: list[str]) -> None:
    assert run([*ALIGN, "--o", "out", "--only", "TS_01", "--pad", "1.5"]) == 0
    assert run([*ALIGN, "--o", "out", "--only", "TS_02", "--only", "TS_01"]) == 0
    (part,) = (project / "out/only").glob("TS_02-and-1-*/temp")
    assert calls == ["TS_01", "TS_01", "TS_02"]
    (part / "TS_02.npz").write_bytes((part / "TS_02.npz").read_bytes()[:700])
    calls.clear()
    assert run([*ALIGN, "--o", "out", "--only_do_unfinished"]) == 0
    assert calls == ["TS_02"]


def test_an_unknown_tomogram_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*ALIGN, "--o", "out", "--only", "TS_1"]) == 2
    errors = capsys.readouterr().err
    assert (
        "--only TS_1: the project has no tomogram of that name" in errors and "did you mean TS_01?" in errors
    )
    assert run([*ALIGN, "--o", "out", "--only", "TS_01", "--evaluate"]) == 2
    assert "--only writes no refined sets" in capsys.readouterr().err
    assert not (project / "out").exists()
