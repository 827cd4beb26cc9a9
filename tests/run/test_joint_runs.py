"""Joint refinement of two species: on workers and resumed, the same sets as on one core."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from star_edits import check_same_sets
from tomopolish.cli import run
from tomopolish.dataset.project import open_dataset
from tomopolish.dataset.star import format_floats, read_star, write_star
from tomopolish.physics.geometry import rotation_vector
from tomopolish.simulate.parts import (
    AcquisitionSettings,
    CompanionSettings,
    MoleculeSettings,
    NoiseSettings,
    PlantedErrors,
    SimulationSettings,
    SpecimenSettings,
    write_project,
)
from workers_marks import ON_FORKED_WORKERS

pytestmark = ON_FORKED_WORKERS
SETTINGS = SimulationSettings(
    seed=6,
    tomograms=2,
    molecule=MoleculeSettings(box_px=48, diameter_fraction=0.65, blob_sigma_px=0.8, resolution_px=2.6),
    acquisition=AcquisitionSettings(image_size_px=(272, 256), tilt_step_degrees=15.0),
    specimen=SpecimenSettings(particles=16, thickness_angstrom=400.0),
    noise=NoiseSettings(pair_snr=300.0),
    errors=PlantedErrors(max_displacement_px=2.0),
    companions=(
        CompanionSettings(
            name="fas", molecule=MoleculeSettings(box_px=40, seed=1), particles=8, pair_snr=300.0
        ),
    ),
)
COMMAND = ["align", "--i", "both.yaml", "--r", "5", "--no_report", "--joint"]
YAML = """species:
- {name: apo, optimisation_set: optimisation_set.star, box: 48}
- {name: fas, optimisation_set: fas_optimisation_set.star, box: 40}
"""
SETS = ("tomograms.star", "tilt_series/TS_01.star", "tilt_series/TS_02.star")
SETS += tuple(f"{s}/{f}.star" for s in ("apo", "fas") for f in ("particles", "uncertainty", "scores"))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose orientations and defocus are off, and what a run without workers makes of it."""
    folder = tmp_path_factory.mktemp("joint") / "project"
    write_project(folder, SETTINGS, threads=2)
    (folder / "both.yaml").write_text(YAML)
    rng = np.random.default_rng(2)
    for path in (folder / "particles.star", folder / "fas/particles.star"):
        star = read_star(path)
        table = star.table("particles")
        tilts = table.floats("rlnAngleTilt") + rng.normal(0, 3, len(table))
        write_star(path, star.with_table(table.with_columns({"rlnAngleTilt": format_floats(tilts)})))
    for path in sorted((folder / "tilt_series").glob("*.star")):
        star = read_star(path)
        table, shared = star.tables[0], rng.normal(0, 900, len(star.tables[0]))
        off = {label: format_floats(table.floats(label) + shared) for label in ("rlnDefocusU", "rlnDefocusV")}
        write_star(path, star.with_table(table.with_columns(off)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run([*COMMAND, "--o", "alone"]) == 0
    return folder


def test_workers_make_the_same_sets_and_a_rerun_takes_them(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    command = [*COMMAND, "--workers", "1", "--o", "both"]
    assert run(command) == 0
    check_same_sets(project, "both", SETS)
    assert run([*command, "--only_do_unfinished"]) == 0
    assert capsys.readouterr().out.count("finished earlier") == 2
    check_same_sets(project, "both", SETS)


def test_every_species_has_its_orientations_and_all_share_the_defocus(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    for name, source in (("apo", "optimisation_set.star"), ("fas", "fas_optimisation_set.star")):
        series, particles = open_dataset(Path(f"alone/{name}/optimisation_set.star")).load("TS_01")
        before, given = open_dataset(Path(source)).load("TS_01")
        turned = rotation_vector(np.swapaxes(given.rotations, 1, 2) @ particles.rotations)
        assert np.rad2deg(np.linalg.norm(turned, axis=1)).max() > 1
        assert np.abs(series.ctf.defocus_u_angstrom - before.ctf.defocus_u_angstrom).max() > 100
        scores = read_star(Path(f"alone/{name}/scores.star")).table("particles")
        of_first = np.array(scores.strings("rlnTomoName")) == "TS_01"
        stated = scores.floats("tomopolishTurn")[of_first]
        np.testing.assert_allclose(stated, np.rad2deg(np.linalg.norm(turned, axis=1)), atol=0.01)
        errors = read_star(Path(f"alone/{name}/uncertainty.star"))
        for label in ("DefocusAngst", "RelativeScale", "Bfactor"):
            assert f"tomopolishSigma{label}" in errors.table("tilt_images")
        assert errors.table("particles").floats("tomopolishSigmaOrientationX").max() > 0.1
