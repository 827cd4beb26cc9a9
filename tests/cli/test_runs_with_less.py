"""Whole runs on a project that lacks what is not computed with: the results of the project that has it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import mrcfile
import numpy as np
import pytest

import tomopolish
from star_edits import without_columns
from tomopolish.cli import run
from tomopolish.dataset.star import StarTable, read_star, write_star
from tomopolish.solve import uncertainty

SETS = ("optimisation_set.star", "tomograms.star", "particles.star", "fsc.star")
ALIGN = ("align", "--b", "48", "--r", "6", "--hold_out", "0", "--no_report", "--j", "2")
RUNS = {
    "align": ALIGN,
    "motion": (*ALIGN, "--motion", "--s_vel", "0.3"),
    "shift_only": (*ALIGN, "--shift_only"),
    "shift_only_by_particles": (*ALIGN, "--shift_only", "--shift_only_by_particles"),
}


def edit(path: Path, name: str, columns: dict[str, str], drop: tuple[str, ...] = ()) -> None:
    star = read_star(path)
    table: StarTable = without_columns(star.table(name), drop)
    table = table.with_columns({label: [cell] * len(table) for label, cell in columns.items()})
    write_star(path, star.with_table(table))


def strip(folder: Path) -> None:
    """Leave out, unset or contradict all that nothing is computed with."""
    unset = {"rlnTomoSizeX": "0", "rlnTomoSizeY": "0", "rlnTomoSizeZ": "?", "rlnTomoDefocusSlope": "<NA>"}
    edit(folder / "tomograms.star", "global", unset)
    cells = {"rlnPhaseShift": "nan", "rlnCtfBfactor": "None", "rlnCtfMaxResolution": "inf"}
    edit(folder / "tilt_series/TS_01.star", "TS_01", cells, drop=("rlnTomoXTilt", "rlnCtfScalefactor"))
    edit(folder / "particles.star", "particles", {"rlnOriginXAngst": "null"}, drop=("rlnTomoParticleName",))
    edit(folder / "particles.star", "optics", {"rlnVoltage": "200"}, drop=("rlnAmplitudeContrast",))
    curve = ("rlnResolution", "rlnAngstromResolution")
    edit(folder / "fsc.star", "fsc", {}, drop=curve)
    for name in ("mask.mrc", "ref_half1.mrc"):
        with mrcfile.open(folder / name, "r+") as file:
            file.voxel_size = 1.0
    for path in (*[folder / name for name in SETS], folder / "tilt_series/TS_01.star"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))


@pytest.fixture(scope="module")
def folders(mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """The small project, and its copy without all that it does not need."""
    made = []
    for name in ("sound", "stripped"):
        folder = tmp_path_factory.mktemp(name) / "project"
        folder.mkdir()
        for file in (*SETS, "ref_half1.mrc", "ref_half2.mrc", "mask.mrc"):
            shutil.copy(mini / file, folder)
        shutil.copytree(mini / "tilt_series", folder / "tilt_series")
        made.append(folder)
    sound, stripped = made
    edit(sound / "tilt_series/TS_01.star", "TS_01", {}, drop=("rlnCtfScalefactor",))
    strip(stripped)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uncertainty, "PROBES", ((np.inf, 1),))
        yield sound, stripped


def seen(out: str) -> np.ndarray:
    """Where a result sees its particles."""
    series, particles = tomopolish.load(f"{out}/optimisation_set.star").first.load("TS_01")
    points = particles.positions_px[None]
    if particles.trajectories_px is not None:
        points = points + np.swapaxes(particles.trajectories_px, 0, 1)
    matrices = series.projections_px[:, :2]
    return (
        np.einsum(
            "fij,fpj->fpi", matrices[..., :3], np.broadcast_to(points, (len(series), *points.shape[1:]))
        )
        + matrices[:, None, :, 3]
    )


@pytest.mark.parametrize("name", RUNS)
def test_results_are_those_of_the_project_that_has_everything(
    name: str,
    folders: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = []
    for folder in folders:
        monkeypatch.chdir(folder)
        assert run([*RUNS[name], "--i", "optimisation_set.star", "--o", f"out_{name}"]) == 0
        found.append(seen(f"out_{name}"))
    # The assumed size makes a prior on the angles a little wider or narrower, which the images outweigh.
    np.testing.assert_allclose(found[1], found[0], atol=0.02)
    said = " ".join(capsys.readouterr().err.split())
    for part in (
        "rlnTomoSizeZ not set",
        "voltage is 300, which is used",
        "mask.mrc: the header's pixel size of 1",
    ):
        assert said.count(part) == 1, said


def test_maps_are_those_of_the_project_that_has_everything(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = []
    for folder in folders:
        monkeypatch.chdir(folder)
        assert run(["reconstruct", "--i", "optimisation_set.star", "--b", "48", "--o", "maps"]) == 0
        maps.append(mrcfile.read("maps/merged.mrc"))
    np.testing.assert_allclose(maps[1], maps[0], atol=1e-4 * np.abs(maps[0]).max())
