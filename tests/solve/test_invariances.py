"""Changes that no image shows leave the objective unchanged (docs/dev/conventions.md, Objective)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from small_project import (
    compute_windows,
    make_particles,
    make_problem,
    make_references,
    make_series,
    make_settings,
    random_vector,
    smooth_noise,
)
from tomopolish.physics.geometry import rotation_from_vector, rotation_vector, tomogram_centre_px
from tomopolish.solve.problem import Problem, evaluate, gradient

turns = arrays.arrays(np.float64, 3, elements=st.floats(-3, 3))
steps = arrays.arrays(np.float64, 3, elements=st.floats(-80, 80))

RNG = np.random.default_rng(1)
SERIES = make_series(RNG, smooth_noise(RNG, (3, 128, 120), 0.7).astype(np.float32))
CENTRE = tomogram_centre_px(SERIES.tomogram_size_px)
PARTICLES = make_particles(RNG, CENTRE + RNG.uniform(-30, 30, (5, 3)))
REFERENCES = make_references(RNG, 32, fsc=np.concatenate([np.linspace(1, 0.5, 10), np.zeros(7)]))
SETTINGS = make_settings(32, 4)
WINDOWS = compute_windows(SERIES, PARTICLES, REFERENCES, SETTINGS)


def moved_world(turn: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Rigid motion about the tomogram's centre, as a 4×4 matrix."""
    G = np.eye(4)
    G[:3, :3] = rotation_from_vector(turn)
    G[:3, 3] = CENTRE - G[:3, :3] @ CENTRE + step
    return G


@given(turn=turns)
@settings(max_examples=15)
def test_windows_do_not_change_when_the_specimen_and_the_microscope_turn(turn: np.ndarray) -> None:
    G = moved_world(turn, np.zeros(3))
    series = replace(SERIES, projections_px=SERIES.projections_px @ np.linalg.inv(G))
    particles = replace(
        PARTICLES,
        positions_px=PARTICLES.positions_px @ G[:3, :3].T + G[:3, 3],
        rotations=G[:3, :3] @ PARTICLES.rotations,
    )
    found = compute_windows(series, particles, REFERENCES, SETTINGS)
    np.testing.assert_array_equal(found.visible, WINDOWS.visible)
    np.testing.assert_allclose(found.anchors_px, WINDOWS.anchors_px, atol=1e-9)
    scale = np.abs(WINDOWS.values).max()
    np.testing.assert_allclose(found.values, WINDOWS.values, atol=1e-5 * scale)


PROBLEM, _ = make_problem(np.random.default_rng(2), tilts=6, particles=5)
VECTOR = random_vector(PROBLEM, np.random.default_rng(3), 0.7)
STATE = evaluate(PROBLEM, VECTOR)


@given(turn=turns, step=steps)
def test_the_objective_is_the_same_in_every_frame(turn: np.ndarray, step: np.ndarray) -> None:
    G = np.eye(4)
    G[:3, :3], G[:3, 3] = rotation_from_vector(turn), step
    problem = replace(
        PROBLEM,
        projections_px=PROBLEM.projections_px @ np.linalg.inv(G),
        points_px=PROBLEM.points_px @ G[:3, :3].T + step,
        centre_px=G[:3, :3] @ PROBLEM.centre_px + step,
    )
    vector = VECTOR.copy()
    parts = problem.layout.unpack(vector)
    parts.positions_px[...] = parts.positions_px @ G[:3, :3].T
    state = evaluate(problem, vector)
    np.testing.assert_allclose(state.log_likelihood, STATE.log_likelihood, rtol=1e-9)
    np.testing.assert_allclose(state.log_prior, STATE.log_prior, rtol=1e-9)
    found, expected = (problem.layout.unpack(gradient(p, s)) for p, s in ((problem, state), (PROBLEM, STATE)))
    scale = np.abs(gradient(PROBLEM, STATE)).max()
    np.testing.assert_allclose(found.angles, expected.angles, atol=1e-7 * scale)
    np.testing.assert_allclose(found.positions_px, expected.positions_px @ G[:3, :3].T, atol=1e-7 * scale)


def gauge_rotation(problem: Problem, vector: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Turn all positions about the projected centre and all projections the other way."""
    W = rotation_from_vector(turn)
    parts = problem.layout.unpack(vector)
    R0 = problem.projections_px[:, :3, :3]
    R = rotation_from_vector(parts.angles) @ R0
    X0 = problem.points_px[0]
    X = X0 + parts.positions_px
    return problem.layout.fill(
        angles=rotation_vector(R @ W.T @ np.swapaxes(R0, 1, 2)),
        shifts_px=parts.shifts_px,
        positions_px=(X - problem.centre_px) @ W.T + problem.centre_px - X0,
    )


@given(turn=turns)
def test_a_common_rotation_is_a_gauge_of_the_likelihood(turn: np.ndarray) -> None:
    turned = evaluate(PROBLEM, gauge_rotation(PROBLEM, VECTOR, turn))
    np.testing.assert_allclose(turned.log_likelihood, STATE.log_likelihood, rtol=1e-8)


@given(step=steps)
def test_a_common_translation_is_a_gauge_of_the_likelihood(step: np.ndarray) -> None:
    vector = VECTOR.copy()
    parts = PROBLEM.layout.unpack(vector)
    R = rotation_from_vector(parts.angles) @ PROBLEM.projections_px[:, :3, :3]
    parts.positions_px[...] += step
    parts.shifts_px[...] -= (R @ step)[:, :2]
    np.testing.assert_allclose(evaluate(PROBLEM, vector).log_likelihood, STATE.log_likelihood, rtol=1e-8)
