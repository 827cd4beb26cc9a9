"""Searching again for what is badly placed: the most probable place, not the highest peak in the range."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from small_project import make_problem
from tomopolish.models.parameters import Parameters
from tomopolish.solve.coarse import CoarseWindows, coarse_windows
from tomopolish.solve.initial import ball, place_particles, search_tilt
from tomopolish.solve.problem import Problem
from tomopolish.solve.surface import smooth_surface

NEAR, FAR = np.array([1.0, 0.0, 0.0]), np.array([-4.0, 0.0, 0.0])


def two_places(heights: tuple[float, float]) -> tuple[Problem, CoarseWindows, Parameters]:
    """Tilt images that all look straight down; a peak near every input position and one far off."""
    problem, windows = make_problem(np.random.default_rng(0), tilts=4, particles=3)
    M = np.broadcast_to(np.eye(4), problem.projections_px.shape).copy()
    M[:, :2, 3] = problem.projections_px[:, :2, 3]
    problem = replace(problem, projections_px=M)
    start = problem.layout.unpack(np.zeros(problem.layout.size))
    q = (problem.points_px @ np.swapaxes(M[:, :3, :3], 1, 2))[..., :2] + M[:, None, :2, 3]
    axis = np.arange(windows.values.shape[-1]) - windows.origin
    values = np.zeros_like(windows.values)
    for height, place in zip(heights, (NEAR, FAR), strict=True):
        peak = np.exp(-((axis[None, :] - place[0]) ** 2 + (axis[:, None] - place[1]) ** 2) / 2)
        values += (height * peak).astype(np.float32)
    values[~windows.visible] = 0
    windows = replace(windows, values=values, anchors_px=q)
    surface = replace(smooth_surface(windows), length_px=1.25)
    return replace(problem, anchors_px=q, surface=surface), coarse_windows(surface), start


@pytest.mark.parametrize(("spread_px", "found"), [(0.7, NEAR), (30.0, FAR)])
def test_a_far_peak_must_outweigh_the_prior(spread_px: float, found: np.ndarray) -> None:
    problem, windows, start = two_places((20.0, 22.0))
    problem = replace(
        problem,
        precision=problem.layout.fill(angles=1e4, shifts_px=1 / spread_px**2, positions_px=1 / spread_px**2),
    )
    places = place_particles(problem, windows, start, ball(6.0, 1.0))
    np.testing.assert_allclose(places, np.broadcast_to(found, places.shape), atol=1e-9)
    for tilt in range(problem.layout.tilts):
        turn, shift = search_tilt(problem, windows, start, tilt, np.zeros((1, 3)))
        # What lies beside the shift that is held is left to the refinement.
        assert np.abs(shift - found[:2]).max() <= windows.step_px + 1e-9
        assert not turn.any()


def test_a_turn_must_outweigh_the_prior() -> None:
    """Where the images say nothing of the turn, the one nearest to the input's is taken."""
    problem, windows, start = two_places((0.0, 30.0))
    problem = replace(problem, precision=problem.layout.fill(angles=1e6, shifts_px=1e-3, positions_px=1e-3))
    start.angles[:] = [0.0, 0.0, 1e-2]
    turns = np.array([[0.0, 0.0, 1e-2], [0.0, 0.0, -2e-3], [0.0, 0.0, 5e-3]])
    turn, _ = search_tilt(problem, windows, start, 0, turns)
    np.testing.assert_array_equal(turn, turns[1])
