"""The camera–point factor: the static problem inverted exactly, and positive definite always."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from small_project import make_problem, random_vector
from tomopolish.pipeline.problem import with_leading_modes
from tomopolish.settings.alignment import DeformationSettings, FitSettings, MotionSettings
from tomopolish.solve.lifted import joined
from tomopolish.solve.preconditioner import CoupledFactor, SchurFactor, factorise, positive_curvature
from tomopolish.solve.problem import Problem, State, evaluate
from tomopolish.solve.products import multiply_hessian

curvatures = arrays.arrays(
    np.float64, (2, 3, 3), elements=st.floats(-1e3, 1e3).filter(lambda v: v == 0 or abs(v) > 1e-3)
)


@given(curvature=curvatures)
def test_positive_curvature_keeps_the_axes_and_takes_absolute_eigenvalues(curvature: np.ndarray) -> None:
    found = positive_curvature(curvature)
    for before, after in zip(curvature.reshape(-1, 3), found.reshape(-1, 3), strict=True):
        values, vectors = np.linalg.eigh([[before[0], before[1]], [before[1], before[2]]])
        expected = vectors @ np.diag(np.abs(values)) @ vectors.T
        np.testing.assert_allclose(
            after, expected[[0, 0, 1], [0, 1, 1]], atol=1e-9 * (1 + np.abs(before).max())
        )


CASES: dict[str, dict[str, Any]] = {
    "all free": {},
    "const_p": {"fit": FitSettings(const_positions=True)},
    "const_a": {"fit": FitSettings(const_angles=True)},
    "const_s": {"fit": FitSettings(const_shifts=True)},
    "positions alone": {"fit": FitSettings(const_angles=True, const_shifts=True)},
}


def made_positive(state: State) -> State:
    return replace(state, curvature=positive_curvature(state.curvature))


def dense(problem: Problem, state: State) -> np.ndarray:
    """The Hessian as a matrix, column by column."""
    return np.stack([multiply_hessian(problem, state, e) for e in np.eye(problem.layout.size)], axis=1)


def inverse_of(problem: Problem, factor: SchurFactor | CoupledFactor) -> np.ndarray:
    """What a factor inverts as a matrix of flat vectors, row by row."""
    size = problem.layout.size
    return np.stack([factor.solve(joined(problem, e, None))[:size] for e in np.eye(size)])


@pytest.mark.parametrize("case", CASES)
def test_static_problems_are_inverted_exactly(case: str) -> None:
    rng = np.random.default_rng(2)
    problem, _ = make_problem(rng, tilts=4, particles=5, **CASES[case])
    state = evaluate(problem, random_vector(problem, rng, 0.7))
    assert (state.curvature[..., 0] * state.curvature[..., 2] < state.curvature[..., 1] ** 2).any()
    matrix = dense(problem, made_positive(state))
    free = problem.free
    assert np.linalg.eigvalsh(matrix[np.ix_(free, free)]).min() > 0
    factor = factorise(problem, state)
    for _ in range(3):
        right = rng.normal(size=problem.layout.size)
        solution = factor.solve(right)
        assert not solution[~free].any()
        expected = np.linalg.solve(matrix[np.ix_(free, free)], right[free])
        np.testing.assert_allclose(solution[free], expected, rtol=1e-7, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("model", ["motion", "linear", "Fourier", "spline"])
def test_with_more_models_it_stays_symmetric_and_positive(model: str) -> None:
    rng = np.random.default_rng(3)
    if model == "motion":
        more: dict[str, Any] = {"motion": MotionSettings(velocity_scale=1.0, distance_scale=100.0)}
    else:
        more = {"deformation": DeformationSettings(model=model, regulariser=1.0)}
    problem, _ = make_problem(rng, **more)
    state = evaluate(problem, random_vector(problem, rng, 0.5))
    factor = factorise(problem, state)
    inverse = inverse_of(problem, factor)
    np.testing.assert_allclose(inverse, inverse.T, rtol=0, atol=1e-6 * np.abs(inverse).max())  # float32
    assert np.linalg.eigvalsh((inverse + inverse.T) / 2).min() > 0


@pytest.mark.parametrize(
    "more",
    [
        {"motion": MotionSettings(velocity_scale=1.0, distance_scale=100.0)},
        {"motion": MotionSettings(velocity_scale=20.0, distance_scale=5000.0)},
        {"deformation": DeformationSettings(model="spline", regulariser=1.0)},
        {"deformation": DeformationSettings(model="Fourier", regulariser=0.01, per_frame=True)},
    ],
)
def test_motion_and_warps_need_few_more_steps_than_the_static_problem(more: dict[str, Any]) -> None:
    rng = np.random.default_rng(4)
    problem, _ = make_problem(rng, **more)
    state = made_positive(evaluate(problem, random_vector(problem, rng, 0.2)))
    factor = factorise(problem, state)
    matrix = dense(problem, state)
    inverse = inverse_of(problem, factor)
    # the spread of these eigenvalues decides how many conjugate-gradient steps are needed
    values = np.sort(np.linalg.eigvals(inverse @ matrix).real)
    assert values[0] > 0
    bare = np.sort(np.linalg.eigvals(matrix / np.diag(matrix)[:, None]).real)
    assert values[-1] / values[0] < 0.1 * bare[-1] / bare[0]
    assert values[-1] / values[0] < 300


@pytest.mark.parametrize("fit", [FitSettings(), FitSettings(const_angles=True)], ids=["free", "const_a"])
def test_motion_that_projections_follow_needs_no_more_steps(fit: FitSettings) -> None:
    rng = np.random.default_rng(4)
    motion = MotionSettings(velocity_scale=20.0, distance_scale=5000.0)
    complete, windows = make_problem(rng, tilts=6, particles=9, motion=motion, fit=fit)
    problem = with_leading_modes(complete, windows.power, 3.0)
    state = made_positive(evaluate(problem, problem.layout.fill()))
    factor = factorise(problem, state)
    free = problem.free
    inverse = inverse_of(problem, factor)
    values = np.linalg.eigvals(inverse[np.ix_(free, free)] @ dense(problem, state)[np.ix_(free, free)]).real
    assert 0 < values.max() < 100 * values.min()


@pytest.mark.parametrize("per_frame", [False, True])
@pytest.mark.parametrize("model", ["linear", "Fourier", "spline"])
def test_beside_constant_parameters_a_warp_is_solved_exactly(model: str, per_frame: bool) -> None:
    """Parameters that are not free cannot replace the warp: none of its curvature is left to others."""
    rng = np.random.default_rng(6)
    fit = FitSettings(const_positions=True, const_angles=True, const_shifts=True)
    asked = DeformationSettings(model=model, regulariser=0.1, per_frame=per_frame)
    problem, _ = make_problem(rng, fit=fit, deformation=asked)
    state = made_positive(evaluate(problem, problem.layout.fill()))
    matrix, free = dense(problem, state), problem.free
    assert free.sum() == problem.layout.unpack(free).warp.size
    right = np.where(free, rng.normal(size=problem.layout.size), 0.0)
    solution = factorise(problem, state).solve(right)
    expected = np.linalg.solve(matrix[np.ix_(free, free)], right[free])
    np.testing.assert_allclose(solution[free], expected, rtol=1e-6, atol=1e-9 * np.abs(expected).max())
    assert not solution[~free].any()


def test_nothing_to_see_leaves_the_prior_alone() -> None:
    rng = np.random.default_rng(5)
    problem, windows = make_problem(rng)
    blind = replace(problem.surface, visible=np.zeros_like(windows.visible))
    problem = replace(problem, surface=blind)
    vector = random_vector(problem, rng)
    factor = factorise(problem, evaluate(problem, vector))
    np.testing.assert_allclose(factor.solve(problem.precision * vector), vector, rtol=1e-12)
