"""Exports and evaluations use the geometry only, and need no optics, exposures or half sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from star_edits import drop_column, drop_table, set_column
from tomopolish.cli import run
from tomopolish.dataset.project import open_dataset
from tomopolish.errors import InputError


def without_optics() -> None:
    drop_column("tomograms.star", "global", "rlnVoltage", "rlnSphericalAberration", "rlnTomoHand")
    drop_column("tilt_series/TS_01.star", "TS_01", "rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle")
    drop_column("tilt_series/TS_01.star", "TS_01", "rlnMicrographPreExposure")
    set_column("particles.star", "particles", "rlnRandomSubset", "<NA>")
    drop_table("particles.star", "optics")


def test_geometry_is_read_as_with_the_rest(project: Path) -> None:
    before = open_dataset(Path("optimisation_set.star")).load("TS_01")
    without_optics()
    dataset = open_dataset(Path("optimisation_set.star"))
    with pytest.raises(InputError):
        dataset.load("TS_01")
    after = dataset.load("TS_01", geometry_only=True)
    np.testing.assert_array_equal(after[0].projections_px, before[0].projections_px)
    np.testing.assert_array_equal(after[1].positions_px, before[1].positions_px)
    assert after[0].remarks == ()


def test_values_that_can_be_read_are(project: Path) -> None:
    plain = open_dataset(Path("optimisation_set.star")).load("TS_01")
    found = open_dataset(Path("optimisation_set.star")).load("TS_01", geometry_only=True)
    np.testing.assert_array_equal(found[0].pre_exposure, plain[0].pre_exposure)
    np.testing.assert_array_equal(found[0].ctf.defocus_u_angstrom, plain[0].ctf.defocus_u_angstrom)
    assert found[1].half_set.tolist() == plain[1].half_set.tolist()


def test_export_and_evaluate_need_geometry_alone(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate = ["evaluate", "--truth", "truth.json", "--i", "optimisation_set.star"]
    assert run(evaluate) == 0
    expected = capsys.readouterr().out
    assert run(["export", "--i", "optimisation_set.star", "--o", "before"]) == 0
    without_optics()
    capsys.readouterr()
    assert run(evaluate) == 0
    assert capsys.readouterr().out == expected
    assert run(["export", "--i", "optimisation_set.star", "--o", "after"]) == 0
    files = [path.relative_to("before") for path in Path("before").rglob("*.*") if path.is_file()]
    timed = (".tomopolish", "run.log", "run.yaml")
    files = [path for path in files if path.parts[0] not in timed]
    assert len(files) > 5
    for file in files:
        # Half sets colour the markers, and the list of written files holds times.
        if file.suffix not in (".cmm", ".json"):
            assert (Path("after") / file).read_text() == (Path("before") / file).read_text(), file


def test_exports_say_what_they_assume(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for label in ("rlnTomoSizeX", "rlnTomoSizeY", "rlnTomoSizeZ"):
        set_column("tomograms.star", "global", label, "0")
    assert run(["export", "--i", "optimisation_set.star", "--o", "out"]) == 0
    said = capsys.readouterr()
    assert "points for other programs" in " ".join((said.out + said.err).split())
