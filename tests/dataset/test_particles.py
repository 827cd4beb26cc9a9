"""Particle sets: positions, orientations and half sets behind the text, and the way back."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_edits import copy_row, drop_column, set_cell, set_column
from tomopolish.dataset.model import TiltSeries
from tomopolish.dataset.project import open_dataset
from tomopolish.dataset.relion.particles import (
    CENTRED,
    CORNERED,
    ORIGIN,
    SUBTOMOGRAM_ANGLES,
    ParticleTable,
    ParticleUpdate,
    read_particle_table,
)
from tomopolish.dataset.star import StarFile, StarTable, write_star
from tomopolish.physics.optics import Microscope, TiltCtf

SETS = ("optimisation_set.star", "optimisation_set_r4.star")


def read(name: str) -> ParticleTable:
    return read_particle_table(Path(name), working_directory=Path.cwd())


def test_the_position_formulas(project: Path) -> None:
    """By hand from the first particle's cells: 168.321760 Å from the centre, or 137.080440 px and one."""
    five, four = (open_dataset(Path(name)).load("TS_01")[1] for name in SETS)
    np.testing.assert_allclose(five.positions_px[0, 0], 168.321760 / 4 + 96, rtol=1e-12)
    np.testing.assert_allclose(five.positions_px[0, 2], 13.144422 / 4 + 125, rtol=1e-12)
    np.testing.assert_allclose(four.positions_px[0], [137.080440 + 1, 143.263062 + 1, 127.286105 + 1])
    np.testing.assert_allclose(five.positions_px, four.positions_px, atol=1e-6)
    assert five.names == four.names == tuple(f"TS_01/{i}" for i in range(1, 7))
    assert five.half_set.tolist() == [0, 1, 0, 1, 0, 1]
    np.testing.assert_array_equal(five.rotations, four.rotations)


def test_odd_sizes_have_true_halves(project: Path) -> None:
    set_cell("tomograms.star", "global", "rlnTomoSizeZ", 0, "251")
    _, particles = open_dataset(Path("optimisation_set.star")).load("TS_01")
    np.testing.assert_allclose(particles.positions_px[0, 2], 13.144422 / 4 + 125.5, rtol=1e-12)


def test_origins_and_two_level_orientations(in_golden: Path) -> None:
    """The variant set says the same things with origins and subtomogram angles."""
    plain = open_dataset(Path("optimisation_set.star"))
    variant = open_dataset(
        Path("optimisation_set.star"),
        tomograms=Path("tomograms_variant.star"),
        particles=Path("particles_variant.star"),
    )
    truth = json.loads(Path("truth.json").read_text())
    for name in plain.tomogram_names:
        a, b = plain.load(name)[1], variant.load(name)[1]
        np.testing.assert_allclose(a.positions_px, b.positions_px, atol=1e-6)
        np.testing.assert_allclose(a.rotations, b.rotations, atol=1e-7)
        angle = np.trace(np.swapaxes(b.rotations, 1, 2) @ np.array(truth[name]["A"]), axis1=1, axis2=2)
        assert np.rad2deg(np.arccos(np.clip((angle - 1) / 2, -1, 1))).max() < 3  # planted errors are small
        (group,) = b.optics_groups
        assert group.odd_zernike == (0.4, -0.3, 0.8, -0.6, 0.5, 0.2)
        assert group.even_zernike[:2] == (0.05, 0.6) and len(group.even_zernike) == 9


def test_missing_angles_and_origins_are_identity(project: Path) -> None:
    angles = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
    origins = ("rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginZAngst")
    drop_column("particles.star", "particles", *angles, *origins)
    _, particles = open_dataset(Path("optimisation_set.star")).load("TS_01")
    np.testing.assert_array_equal(particles.rotations, np.broadcast_to(np.eye(3), (6, 3, 3)))


@pytest.mark.parametrize("name", SETS)
def test_writing_back_unchanged_positions(project: Path, name: str) -> None:
    dataset = open_dataset(Path(name))
    series, particles = dataset.load("TS_01")
    update = ParticleUpdate(dataset.particles)
    update.add(series, particles.rows, particles.positions_px)
    update.write(Path("out.star"))
    old, new = dataset.particles.star, read("out.star").star
    assert old.names == new.names
    for before, after in zip(old.tables, new.tables, strict=True):
        assert before.version == after.version
        assert list(before.columns) == list(after.columns)
        assert dict(before.columns) == dict(after.columns)  # positions have six decimals, origins were 0


def test_only_refined_rows_change(project: Path) -> None:
    variant = open_dataset(Path("optimisation_set.star"), particles=Path("particles_variant.star"))
    series, particles = variant.load("TS_01")
    update = ParticleUpdate(variant.particles)
    rows = np.array([4, 1])
    positions = particles.positions_px[rows] + [[1.5, -2.25, 0.125], [0, 0, 3]]
    update.add(series, rows, positions)
    update.write(Path("out.star"))
    old, new = variant.particles.table, read("out.star").table
    moved = {f"rlnCenteredCoordinate{a}Angst" for a in "XYZ"} | {f"rlnOrigin{a}Angst" for a in "XYZ"}
    for label in old.columns:
        for row in range(6):
            same = old.columns[label][row] == new.columns[label][row]
            assert same or (label in moved and row in rows)
    assert {new.value(f"rlnOrigin{a}Angst", row) for a in "XYZ" for row in (4, 1)} == {"0.000000"}
    _, again = open_dataset(Path("optimisation_set.star"), particles=Path("out.star")).load("TS_01")
    expected = particles.positions_px.copy()
    expected[rows] = positions
    np.testing.assert_allclose(again.positions_px, expected, atol=2e-7)
    np.testing.assert_array_equal(again.rotations, particles.rotations)


class NoImages:
    """Positions need none."""

    size_px = (10, 10)

    def __len__(self) -> int:
        return 2

    def read(self, tilt: int) -> np.ndarray:
        raise AssertionError(f"tilt image {tilt} was read")


NUMBERS = st.floats(-5000, 5000, allow_nan=False)


@given(
    position=st.tuples(NUMBERS, NUMBERS, NUMBERS),
    origin=st.tuples(*[st.floats(-50, 50)] * 3),
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    size=st.tuples(*[st.integers(1, 5000)] * 3),
    pixel_size=st.floats(0.5, 20),
    centred=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_any_position_survives(
    position: tuple[float, ...],
    origin: tuple[float, ...],
    angles: tuple[float, ...],
    size: tuple[int, int, int],
    pixel_size: float,
    centred: bool,
) -> None:
    cells = dict(zip(CENTRED if centred else CORNERED, position, strict=True))
    cells |= dict(zip((*ORIGIN, *SUBTOMOGRAM_ANGLES), (*origin, *angles), strict=True))
    columns = {label: [repr(value)] for label, value in cells.items()}
    columns |= {"rlnTomoName": ["T"], "rlnTomoParticleName": ["T/1"], "rlnRandomSubset": ["2"]}
    columns |= {"rlnOpticsGroup": ["7"]}
    optics = {"rlnOpticsGroup": ["7"], "rlnTomoTiltSeriesPixelSize": ["1"], "rlnVoltage": ["300"]}
    optics |= {"rlnSphericalAberration": ["2.7"], "rlnAmplitudeContrast": ["0.1"]}
    tables = (StarTable(name="optics", columns=optics), StarTable(name="particles", columns=columns))
    series = make_series(size, pixel_size)
    before = ParticleTable(star=StarFile(tables=tables))
    found = before.particles(series)
    update = ParticleUpdate(before)
    update.add(series, found.rows, found.positions_px)
    again = ParticleTable(star=StarFile(tables=tables).with_table(update.table())).particles(series)
    text_precision = 1e-6 / (pixel_size if centred else 1)
    np.testing.assert_allclose(again.positions_px, found.positions_px, rtol=0, atol=text_precision + 1e-9)
    np.testing.assert_array_equal(again.rotations, found.rotations)


def make_series(size: tuple[int, int, int], pixel_size: float) -> TiltSeries:
    one = np.ones(2)
    return TiltSeries(
        name="T",
        projections_px=np.stack([np.eye(4)] * 2),
        tomogram_size_px=size,
        pixel_size_angstrom=pixel_size,
        hand=1.0,
        defocus_slope=1.0,
        microscope=Microscope(voltage_kv=300.0, spherical_aberration_mm=2.7, amplitude_contrast=0.1),
        ctf=TiltCtf(
            defocus_u_angstrom=one,
            defocus_v_angstrom=one,
            defocus_angle_degrees=one,
            phase_shift_degrees=one,
            bfactor_angstrom2=one,
            scale=one,
        ),
        pre_exposure=np.arange(2.0),
        bfactor_per_dose=np.zeros(2),
        fractional_dose=3.0,
        images=NoImages(),
    )


def test_particles_of_interleaved_tomograms(project: Path) -> None:
    for row, name in enumerate(["B", "TS_01", "B", "TS_01", "C", "TS_01"]):
        set_cell("particles.star", "particles", "rlnTomoName", row, name)
    table = read("particles.star")
    rows = table.rows_by_tomogram
    assert {name: r.tolist() for name, r in rows.items()} == {"B": [0, 2], "TS_01": [1, 3, 5], "C": [4]}
    dataset = open_dataset(Path("optimisation_set.star"))
    assert dataset.tomogram_names == ("TS_01",)
    assert dataset.load("TS_01")[1].names == ("TS_01/2", "TS_01/4", "TS_01/6")


def test_optics_groups_by_number(project: Path) -> None:
    """Those in use count, and those with the same aberrations once."""
    set_column("particles.star", "optics", "rlnEvenZernike", "[0,0]")
    for number, aberrations in (("9", "[0,1]"), ("5", "[0,2,3]"), ("7", "[0]"), ("4", "[0,2,3,0]")):
        cells = {"rlnOpticsGroup": number, "rlnOpticsGroupName": f"no. {number}"}
        copy_row("particles.star", "optics", 0, rlnEvenZernike=aberrations, **cells)
    for row, number in ((2, "5"), (3, "7"), (5, "4")):
        set_cell("particles.star", "particles", "rlnOpticsGroup", row, number)
    _, particles = open_dataset(Path("optimisation_set.star")).load("TS_01")
    assert particles.optics_group.tolist() == [0, 0, 1, 0, 0, 1]
    assert [group.name for group in particles.optics_groups] == ["opticsGroup1", "no. 5"]
    assert particles.optics_groups[1].even_zernike == (0, 2, 3)


def test_a_large_set_is_grouped_in_seconds(tmp_path: Path) -> None:
    count, tomograms = 100_000, 100
    rng = np.random.default_rng(0)
    columns = {
        "rlnTomoName": [f"T{i % tomograms}" for i in range(count)],
        "rlnTomoParticleName": [f"T{i % tomograms}/{i}" for i in range(count)],
        "rlnRandomSubset": [str(1 + i % 2) for i in range(count)],
        "rlnOpticsGroup": ["1"] * count,
    }
    numbers = np.char.mod("%.6f", rng.normal(size=count)).tolist()
    columns |= {f"rlnCenteredCoordinate{a}Angst": numbers for a in "XYZ"}
    columns |= {f"rlnAngle{a}": numbers for a in ("Rot", "Tilt", "Psi")}
    optics = {"rlnOpticsGroup": ["1"], "rlnTomoTiltSeriesPixelSize": ["1"], "rlnVoltage": ["300"]}
    optics |= {"rlnSphericalAberration": ["2.7"], "rlnAmplitudeContrast": ["0.1"]}
    write_star(
        tmp_path / "p.star",
        [StarTable(name="optics", columns=optics), StarTable(name="particles", columns=columns)],
    )
    start = time.perf_counter()
    table = read_particle_table(tmp_path / "p.star", working_directory=tmp_path)
    update = ParticleUpdate(table)
    series = make_series((10, 10, 10), 2.0)
    for name in table.rows_by_tomogram:
        particles = table.particles(replace(series, name=name))
        assert len(particles) == count // tomograms
        update.add(series, particles.rows, particles.positions_px)
    update.write(tmp_path / "out.star")
    assert time.perf_counter() - start < 15
    assert (tmp_path / "out.star").stat().st_size > 5e6


def test_half_sets_count_from_zero(project: Path) -> None:
    set_column("particles.star", "particles", "rlnRandomSubset", "1")
    assert not read("particles.star").half_sets.any()
