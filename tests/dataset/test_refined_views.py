"""Refined orientations and optics, written in RELION's columns and read back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from star_edits import set_column
from tomopolish.dataset.model import Alignment, RefinedOptics
from tomopolish.dataset.project import open_dataset
from tomopolish.dataset.star import read_star
from tomopolish.physics.geometry import rotation_from_vector

SETS = ("optimisation_set.star", "optimisation_set_r4.star")
UNTOUCHED = ("rlnTomoSubtomogramRot", "rlnTomoSubtomogramTilt", "rlnTomoSubtomogramPsi")


def refine(name: str, optics: RefinedOptics, *, turn: bool) -> tuple[np.ndarray, Alignment]:
    """Write a set whose particles turned; returns the orientations and what was written."""
    dataset = open_dataset(Path(name))
    series, particles = dataset.load("TS_01")
    turns = np.random.default_rng(3).normal(size=(len(particles), 3)) * 0.05
    rotations = particles.rotations @ rotation_from_vector(turns)
    alignment = Alignment(
        tomogram="TS_01",
        projections_px=series.projections_px,
        rows=particles.rows,
        positions_px=particles.positions_px,
        rotations=rotations if turn else None,
        optics=optics,
    )
    dataset.write(Path("out"), {"TS_01": alignment}, motion=False)
    return rotations, alignment


@pytest.mark.parametrize("name", SETS)
def test_orientations_and_optics_come_back(name: str, project: Path) -> None:
    series, _ = open_dataset(Path(name)).load("TS_01")
    rng, tilts = np.random.default_rng(5), len(series)
    changed = replace(
        series.ctf,
        defocus_u_angstrom=series.ctf.defocus_u_angstrom + rng.normal(0, 500, tilts),
        defocus_v_angstrom=series.ctf.defocus_v_angstrom + rng.normal(0, 500, tilts),
        defocus_angle_degrees=rng.uniform(-80, 80, tilts),
        phase_shift_degrees=rng.uniform(0, 90, tilts),
        bfactor_angstrom2=rng.uniform(-20, 90, tilts),
        scale=rng.uniform(0.5, 1.5, tilts),
    )
    optics = RefinedOptics(
        defocus_angstrom=np.stack([changed.defocus_u_angstrom, changed.defocus_v_angstrom], axis=-1),
        astigmatism_degrees=changed.defocus_angle_degrees,
        phase_shift_degrees=changed.phase_shift_degrees,
        bfactor_angstrom2=changed.bfactor_angstrom2,
        scale=changed.scale,
    )
    rotations, _ = refine(name, optics, turn=True)
    read, particles = open_dataset(Path("out/optimisation_set.star")).load("TS_01")
    np.testing.assert_allclose(particles.rotations, rotations, atol=1e-7)
    for field, value in vars(changed).items():
        np.testing.assert_allclose(getattr(read.ctf, field), value, atol=1e-6)


def test_a_second_level_of_angles_stays_as_it_was(project: Path) -> None:
    for label, angle in zip(UNTOUCHED, ("10.5", "-33.25", "71"), strict=True):
        set_column("particles.star", "particles", label, angle)
    rotations, _ = refine(SETS[0], RefinedOptics(), turn=True)
    table = read_star(Path("out/particles.star")).table("particles")
    assert [table.strings(label)[0] for label in UNTOUCHED] == ["10.5", "-33.25", "71"]
    particles = open_dataset(Path("out/optimisation_set.star")).load("TS_01")[1]
    np.testing.assert_allclose(particles.rotations, rotations, atol=1e-7)


def test_what_was_not_refined_goes_back_cell_by_cell(project: Path) -> None:
    before = read_star(Path("particles.star")).table("particles")
    optics = read_star(Path("tilt_series/TS_01.star")).tables[0]
    refine(SETS[0], RefinedOptics(), turn=False)
    after = read_star(Path("out/particles.star")).table("particles")
    for label in ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"):
        assert list(after.strings(label)) == list(before.strings(label))
    new = read_star(Path("out/tilt_series/TS_01.star")).tables[0]
    assert set(new.columns) == set(optics.columns)
    assert list(new.strings("rlnDefocusU")) == list(optics.strings("rlnDefocusU"))
