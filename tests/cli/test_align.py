"""`tomopolish align` from the command line to the files."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import tomopolish
from tomopolish import pipeline
from tomopolish.cli import run
from tomopolish.errors import RunError
from tomopolish.run import align as align_run
from tomopolish.run import inputs
from tomopolish.run.work import Stages

ALIGN = ["align", "--i", "optimisation_set.star", "--b", "48", "--r", "6", "--j", "2", "--o", "out/"]


def files_in(folder: Path) -> list[str]:
    """Return all files but the program's own list of them."""
    found = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return sorted(str(path) for path in found if path.parts[0] != ".tomopolish")


def execute(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tomopolish", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_run_writes_the_sets_and_says_what_changed(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(ALIGN) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert re.search(r"^TS_02 \(2/2\): .*\d s$", captured.out, re.MULTILINE)
    rows = [line.split() for line in captured.out.splitlines() if line.startswith("TS_02  ")]
    assert rows[0][1:3] == ["6", "66"]
    assert float(rows[0][3]) > 10_000  # log-likelihood: the input is 10 Å off
    assert files_in(project / "out") == [
        "note.txt",
        "optimisation_set.star",
        "particles.star",
        "report.html",
        "run.log",
        "run.yaml",
        "scores.star",
        "summary.csv",
        "temp/TS_01.npz",
        "temp/TS_01_projections.star",
        "temp/TS_02.npz",
        "temp/TS_02_projections.star",
        "temp/run.json",
        "tilt_series/TS_01.star",
        "tilt_series/TS_02.star",
        "tomograms.star",
        "uncertainty.star",
    ]
    note = (project / "out/note.txt").read_text()
    assert "tomopolish align --i optimisation_set.star --b 48" in note
    written = tomopolish.load("out/optimisation_set.star")
    before = tomopolish.load("optimisation_set.star").first.load("TS_02")
    after = written.first.load("TS_02")
    assert written.tomogram_names == ("TS_01", "TS_02")
    assert np.abs(after[0].projections_px - before[0].projections_px).max() > 0.5
    assert np.abs(after[1].positions_px - before[1].positions_px).max() > 0.5


def test_a_failed_tomogram_keeps_its_input_and_sets_the_status(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = pipeline.align_tomogram

    def failing(tomogram, *rest):  # type: ignore[no-untyped-def]
        if tomogram.series.name == "TS_02":
            raise RunError("TS_02.mrcs: section 3 cannot be read")
        return sound(tomogram, *rest)

    stages = Stages(prepare=pipeline.prepare_species, align_tomogram=failing)
    monkeypatch.setitem(align_run.run_align.__kwdefaults__, "stages", stages)
    assert run(ALIGN) == 1
    captured = capsys.readouterr()
    assert "warning: TS_02 failed: TS_02.mrcs: section 3 cannot be read\n" in captured.err
    assert "Traceback" not in captured.err
    assert captured.out.splitlines()[-1] == (
        "TS_02 failed and keeps its input values: TS_02.mrcs: section 3 cannot be read"
    )
    before, after = (tomopolish.load(f"{f}optimisation_set.star").first.load("TS_02") for f in ("", "out/"))
    np.testing.assert_allclose(after[0].projections_px, before[0].projections_px, atol=1e-6)
    np.testing.assert_allclose(after[1].positions_px, before[1].positions_px, atol=1e-6)


def test_a_dry_run_writes_nothing_and_estimates(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files_in(project)
    assert run([*ALIGN, "--dry_run"]) == 0
    captured = capsys.readouterr()
    assert files_in(project) == before
    rows = [line.split() for line in captured.out.splitlines() if line.startswith("TS_")]
    assert [row[:4] for row in rows] == [["TS_01", "6", "11", "66"], ["TS_02", "6", "11", "66"]]
    assert "2 tomograms, 132 visible pairs" in captured.out


def test_a_dry_run_counts_only_the_frames_that_take_part(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*ALIGN, "--dry_run", "--min_frame", "2", "--max_frame", "5"]) == 0
    assert "2 tomograms, 48 visible pairs" in capsys.readouterr().out


BAD_INPUTS = {
    "no such set": (["--i", "nowhere.star"], "nowhere.star"),
    "box below the map": (["--b", "32"], "--b 32"),
    "box beyond the images": (["--b", "512"], "--b 512"),
    "no such particles": (["--p", "nowhere.star"], "nowhere.star"),
    "output on input": (["--o", "."], "--o ."),
    "output is a file": (["--o", "fsc.star"], "--o fsc.star"),
}


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_bad_input_ends_in_one_sentence_before_anything_is_written(
    case: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, text = BAD_INPUTS[case]
    before = files_in(project)
    sound = ALIGN if "--b" not in options else [*ALIGN[:3], *ALIGN[5:]]
    assert run([*sound, *options]) == 2
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert lines[-1].startswith("tomopolish: ")
    assert text in lines[-1]
    assert all(line.startswith("warning: ") for line in lines[:-1])
    assert captured.out == ""
    assert files_in(project) == before


def test_the_executable_reports_bad_input_without_a_traceback(project: Path) -> None:
    outcome = execute("align", "--i", "nowhere.star", "--b", "48", "--o", "out")
    assert outcome.returncode == 2
    assert outcome.stderr.startswith("tomopolish: ")
    assert outcome.stderr.count("\n") == 1


def test_debug_shows_the_traceback(project: Path) -> None:
    for arguments in (["--debug", *ALIGN], [*ALIGN, "--debug"]):
        outcome = execute(*arguments, "--i", "nowhere.star")
        assert outcome.returncode == 2
        assert "Traceback" in outcome.stderr
        assert outcome.stderr.splitlines()[-1].startswith("tomopolish: ")


def test_an_unexpected_error_is_one_sentence(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise AssertionError("what no one thought of")

    monkeypatch.setattr(inputs, "check_project", broken)
    for folder_exists in (False, True):
        if folder_exists:
            (project / "out").mkdir()
        assert run(ALIGN) == 1
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        found = re.fullmatch(
            r"tomopolish: an internal error of tomopolish \(AssertionError: what no one thought of\); please "
            r"report it to the authors, with the file (.+), which contains the details\n",
            said,
        )
        assert found is not None, said
        details = Path(found[1])
        assert (details == Path("out/errors/run.txt")) == folder_exists
        text = details.read_text()
        assert "in broken" in text and "numpy" in text and text.startswith("Internal error of tomopolish 0.")
        details.unlink()


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_an_interruption_ends_with_a_sentence_and_no_sets(project: Path) -> None:
    code = (
        "import time\n"
        "from tomopolish import pipeline\n"
        "def wait(*_):\n"
        "    print('begun', flush=True)\n"
        "    time.sleep(60)\n"
        "pipeline.align_tomogram = wait\n"
        "from tomopolish.cli import main\n"
        "main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, *ALIGN], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert "begun\n" in iter(process.stdout.readline, "")
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.strip().startswith("tomopolish: interrupted")
    assert "Traceback" not in errors
    assert files_in(project / "out") == ["note.txt", "run.log", "run.yaml", "temp/run.json"]
