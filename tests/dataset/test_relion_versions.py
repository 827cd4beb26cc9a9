"""Positions in px, which RELION 4.0 and 5 take to be 1 px apart: who is meant, and that the run says so."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from star_edits import drop_column, edit, set_column, without_columns
from tomopolish.dataset.model import Alignment
from tomopolish.dataset.project import Dataset, open_dataset
from tomopolish.dataset.relion.particles import CENTRED, CORNERED
from tomopolish.dataset.star import format_floats

MOVE = np.array([3.25, -1.5, 0.75])
FOUR, FIVE = "optimisation_set_r4.star", "optimisation_set.star"


def opened(start: str, version: int | None = None) -> Dataset:
    return open_dataset(Path(start), relion_version=version)


def in_pixels(positions_px: np.ndarray) -> None:
    """Give the RELION 5 particle set positions in px only."""
    cells = {label: format_floats(positions_px[:, i]) for i, label in enumerate(CORNERED)}
    edit("particles.star", "particles", lambda t: without_columns(t, CENTRED).with_columns(cells))


def test_relion_5_reads_pixels_without_adding_one(project: Path) -> None:
    """Measured with RELION 5.0.1: 29.668824 px of 128 at 6 Å/px is −205.987 Å from the centre."""
    for label in ("rlnTomoSizeX", "rlnTomoSizeY", "rlnTomoSizeZ"):
        set_column("tomograms.star", "global", label, "128")
    set_column("tomograms.star", "global", "rlnTomoTiltSeriesPixelSize", "6")
    in_pixels(np.full((6, 3), 29.668824))
    series, particles = opened(FIVE).load("TS_01")
    centred = (particles.positions_px - np.array(series.tomogram_size_px) / 2) * series.pixel_size_angstrom
    np.testing.assert_allclose(centred, -205.987056, atol=1e-6)


@pytest.mark.parametrize(
    ("start", "version", "added"),
    [(FIVE, None, 0), (FIVE, 4, 1), (FOUR, None, 1), (FOUR, 5, 0), (FOUR, 4, 1)],
)
def test_who_reads_decides_and_results_are_for_the_same_reader(
    project: Path, start: str, version: int | None, added: int
) -> None:
    stated = np.random.default_rng(2).uniform(60, 130, (6, 3)).round(6)
    if start == FIVE:
        in_pixels(stated)
    else:
        cells = {label: format_floats(stated[:, i]) for i, label in enumerate(CORNERED)}
        edit("particles_r4.star", "particles", lambda t: t.with_columns(cells))
    dataset = pickle.loads(pickle.dumps(opened(start, version)))
    series, particles = dataset.load("TS_01")
    np.testing.assert_allclose(particles.positions_px, stated + added)
    moved = particles.positions_px + MOVE
    alignment = Alignment(
        tomogram="TS_01", projections_px=series.projections_px, rows=particles.rows, positions_px=moved
    )
    dataset.write(Path("out"), {"TS_01": alignment}, motion=False)
    again = opened("out/optimisation_set.star", version)
    np.testing.assert_allclose(again.load("TS_01")[1].positions_px, moved, atol=1e-6)
    table = again.particles.table
    written = np.stack([table.floats(label) for label in CORNERED], axis=-1)
    np.testing.assert_allclose(written, stated + MOVE, atol=1e-6)


def test_what_was_assumed_is_said_where_it_matters(project: Path) -> None:
    assert opened(FIVE).conventions == []  # positions in Å from the centre mean the same to both
    (assumed,) = opened(FOUR).conventions
    assert "particles_r4.star are read as RELION 4.0 does, + 1 px" in assumed
    assert "the tomogram set is one of RELION 4; give --relion_version 5 if RELION 5" in assumed
    (asked,) = opened(FOUR, 5).conventions
    assert "without + 1 px, because of --relion_version 5" in asked
    in_pixels(np.ones((6, 3)))
    (sentence,) = opened(FIVE).conventions
    assert "particles.star are read as RELION 5 does, without + 1 px" in sentence


def test_centred_positions_count_before_those_in_pixels(project: Path) -> None:
    expected = opened(FIVE).load("TS_01")[1].positions_px
    for label in CORNERED:
        set_column("particles.star", "particles", label, "7")
    np.testing.assert_array_equal(opened(FIVE).load("TS_01")[1].positions_px, expected)
    drop_column("particles.star", "particles", *CENTRED)
    assert (opened(FIVE).load("TS_01")[1].positions_px == 7).all()
