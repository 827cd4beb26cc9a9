"""Particles that a first search misplaced are moved when the probabilities and the prior are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from small_project import make_problem
from tomopolish.imaging.windows import CorrelationWindows
from tomopolish.solve.kernels.search import score_places
from tomopolish.solve.maximisation import Tally
from tomopolish.solve.outliers import Trust
from tomopolish.solve.problem import Problem, evaluate
from tomopolish.solve.second_search import EVALUATIONS, move_misplaced
from tomopolish.solve.surface import evaluate_surface, smooth_surface
from tomopolish.solve.workers import Workers

PLACE, WRONG = np.array([0.8, -0.5, 0.4]), np.array([-3.5, 2.0, 1.0])
SPREAD_PX, MISPLACED = 1.2, 3


def trust(tilts: np.ndarray, particles: np.ndarray) -> Trust:
    F, P = len(tilts), len(particles)
    return Trust(
        particles=particles, tilts=tilts, particle_agreement=np.ones(P), tilt_agreement=np.ones(F),
        particle_ratio=np.ones(P), tilt_ratio=np.ones(F), particle_z=np.zeros(P), tilt_z=np.zeros(F),
        centres=np.ones(1),
    )  # fmt: skip


def counts() -> Tally:
    return Tally(max_evaluations=200, enough=1e-3)


def misplaced(blank: bool = False) -> tuple[Problem, CorrelationWindows, np.ndarray]:
    """Peaks at `PLACE`, and others at `WRONG` for the particle that is there, or in one image."""
    problem, windows = make_problem(np.random.default_rng(4), tilts=9, particles=6, symmetric=True)
    axis = (np.arange(windows.values.shape[-1]) - windows.origin) * windows.step_px
    rows = problem.projections_px[:, :2, :3]

    def peaks(place: np.ndarray, height: np.ndarray) -> np.ndarray:
        at = rows @ place
        x, y = (np.exp(-((axis[None, :] - at[:, k, None]) ** 2) / 3) for k in (0, 1))
        return (height[:, None, None] * y[:, :, None] * x[:, None, :]).astype(np.float32)

    values = np.repeat(peaks(PLACE, np.full(9, 3.0))[:, None], 6, axis=1)
    heights = np.where(np.arange(9) == 4, 60.0, 0.0) if blank else np.full(9, 3.2)
    values[:, MISPLACED] += peaks(WRONG, heights)
    values[~windows.visible] = 0
    windows = replace(windows, values=values)
    precision = problem.layout.fill(angles=1e4, shifts_px=1.0, positions_px=1 / SPREAD_PX**2)
    problem = replace(problem, precision=precision, surface=smooth_surface(windows))
    vector = problem.layout.fill()
    problem.layout.unpack(vector).positions_px[:] = PLACE
    problem.layout.unpack(vector).positions_px[MISPLACED] = WRONG
    return (
        replace(problem, anchors_px=evaluate(problem, problem.layout.fill()).positions_2d_px),
        windows,
        vector,
    )


@pytest.mark.parametrize("threads", [1, 2])
def test_a_particle_goes_where_the_prior_makes_it_likelier(threads: int) -> None:
    problem, _, vector = misplaced()
    particles = np.ones(6)
    particles[MISPLACED] = 0.8
    tally = counts()
    with Workers(threads) as workers:
        state = evaluate(problem, vector)
        moved = move_misplaced(problem, state, trust(np.ones(9), particles), 1.2, tally, workers)
    assert 1 < tally.evaluations <= EVALUATIONS
    positions = problem.layout.unpack(moved).positions_px
    assert np.linalg.norm(positions[MISPLACED] - PLACE) < 0.4
    others = np.arange(6) != MISPLACED
    np.testing.assert_array_equal(positions[others], problem.layout.unpack(vector).positions_px[others])


def test_an_empty_image_does_not_draw_a_particle() -> None:
    problem, _, vector = misplaced(blank=True)
    tilts, particles = np.ones(9), np.full(6, 0.5)
    with Workers(1) as workers:
        state = evaluate(problem, vector)
        drawn = move_misplaced(problem, state, trust(tilts, particles), 1.2, counts(), workers)
        tilts[4] = 0.0
        judged = move_misplaced(problem, state, trust(tilts, particles), 1.2, counts(), workers)
    place = problem.layout.unpack(judged).positions_px[MISPLACED]
    assert np.linalg.norm(place - PLACE) < 0.4
    assert np.linalg.norm(problem.layout.unpack(drawn).positions_px[MISPLACED] - PLACE) > 1.5


def test_particles_that_are_certain_and_fixed_positions_stay() -> None:
    problem, _, vector = misplaced()
    fixed = replace(problem, free=problem.free & (problem.layout.fill(angles=1.0, shifts_px=1.0) > 0))
    with Workers(1) as workers:
        for case, probability in ((problem, 1.0), (fixed, 0.5)):
            state = evaluate(case, vector)
            moved = move_misplaced(
                case, state, trust(np.ones(9), np.full(6, probability)), 1.2, counts(), workers
            )
            np.testing.assert_array_equal(moved, vector)


def test_places_are_scored_by_the_surfaces_values_also_beyond_the_range() -> None:
    problem, _, _ = misplaced()
    surface = replace(problem.surface, range_penalty=0.7)
    rng, pairs = np.random.default_rng(0), surface.visible.shape
    weights = np.where(surface.visible, rng.uniform(0.2, 1, pairs), 0.0)
    which, places = np.array([4, 1]), rng.normal(size=(50, 3)) * 4
    start, rows = 3 * rng.normal(size=(pairs[0], 2, 2)), problem.projections_px[:, :2, :3]
    score = np.empty((2, 50))
    score_places(
        surface.coefficients.numbers, surface.coefficients.units, weights, start, rows, places,
        np.array([1 / surface.step_px, surface.origin]), np.array([surface.range_px, surface.range_penalty]),
        which, surface.basis, score,
    )  # fmt: skip
    chosen = surface.of_particles(which)
    displaced = start + (rows @ places.T).transpose(2, 0, 1)[:, :, None]
    assert (np.hypot(*np.moveaxis(displaced, -1, 0)) > surface.range_px).any()
    expected = [np.sum(evaluate_surface(chosen, at).value * weights[:, which], axis=0) for at in displaced]
    np.testing.assert_allclose(score, np.transpose(expected), atol=1e-9)
