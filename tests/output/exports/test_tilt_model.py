"""Decomposing projections: exact with a pitch, right at the pivot without one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from small_project import make_series, random_rotations
from tomopolish.dataset.model import TiltSeries
from tomopolish.output.exports.tilt_model import half_size_px, middle_px, tilt_model
from tomopolish.physics.geometry import project

TILTS = 7


def any_series(seed: int) -> TiltSeries:
    """Images 64 × 51 px about a tomogram of 65 × 51 × 41, rotations of any kind."""
    rng = np.random.default_rng(seed)
    series = make_series(rng, np.zeros((TILTS, 51, 64), dtype=np.float32))
    projections = series.projections_px.copy()
    projections[:, :3, :3] = random_rotations(rng, TILTS)
    return make_series(rng, np.zeros((TILTS, 51, 64), dtype=np.float32), projections_px=projections)


@pytest.mark.parametrize("seed", range(4))
def test_any_rotation_is_an_axis_a_tilt_and_a_small_pitch(seed: int) -> None:
    series = any_series(seed)
    points = np.random.default_rng(seed).uniform(0, 60, (20, 3))
    for centre in (middle_px, half_size_px):
        model = tilt_model(series, centre)
        assert model.residual_px(series.projections_px, points).max() < 1e-9
        assert np.abs(model.pitch_degrees).max() <= 90
        assert np.abs(model.tilt_degrees).max() <= 180


def test_without_pitch_the_pivot_stays_where_it_is_seen() -> None:
    series = any_series(7)
    points = np.random.default_rng(7).uniform(0, 60, (20, 3))
    pivot = points.mean(axis=0)
    model = tilt_model(series, middle_px, points)
    assert not model.pitch_degrees.any()
    np.testing.assert_allclose(
        model.project(pivot[None]), project(series.projections_px, pivot[None])[..., :2]
    )
    # What is dropped is a rotation: a point at distance d moves by 2 d sin(pitch/2) at most.
    pitch = tilt_model(series, middle_px).pitch_degrees
    reach = np.linalg.norm(points - pivot, axis=1)
    bound = 2 * np.sin(np.deg2rad(np.abs(pitch)) / 2)[:, None] * reach
    residual = model.residual_px(series.projections_px, points)
    assert (residual <= bound + 1e-9).all()
    assert residual.max() > 1


def test_a_volume_seen_from_behind_is_tilted_and_not_pitched() -> None:
    """Turned by 180° about x, a tilt of 20° about y is one of 160° with the image turned by 180°."""
    series = any_series(1)
    projections = series.projections_px.copy()
    c, s = np.cos(np.deg2rad(20)), np.sin(np.deg2rad(20))
    projections[:, :3, :3] = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]) @ np.diag([1.0, -1.0, -1.0])
    model = tilt_model(replace(series, projections_px=projections), middle_px)
    np.testing.assert_allclose(model.pitch_degrees, 0, atol=1e-9)
    np.testing.assert_allclose(np.abs(model.tilt_degrees), 160)
    np.testing.assert_allclose(np.abs(model.axis_degrees), 180)


def test_without_particles_the_pivot_is_the_middle() -> None:
    series = any_series(2)
    middle = np.array([[32, 25, 20.0]])  # of 65 × 51 × 41 px
    model = tilt_model(series, middle_px, np.zeros((0, 3)))
    np.testing.assert_allclose(model.project(middle), project(series.projections_px, middle)[..., :2])
