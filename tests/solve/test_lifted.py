"""Lifted vectors: what they stand for, and that the solver finds the same with them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from small_project import make_problem, random_vector
from tomopolish.pipeline.problem import with_leading_modes
from tomopolish.settings.alignment import DeformationSettings, FitSettings, MotionSettings
from tomopolish.solve.lifted import joined, lift, lifted_gradient, multiply_lifted, split
from tomopolish.solve.maximisation import newton
from tomopolish.solve.newton import NewtonOptions
from tomopolish.solve.preconditioner import CoupledFactor, factorise, positive_curvature
from tomopolish.solve.problem import Problem, State, evaluate, gradient
from tomopolish.solve.products import multiply_hessian

MOTION = MotionSettings(velocity_scale=1.0, distance_scale=300.0)
CASES: dict[str, dict[str, Any]] = {
    "motion": {"motion": MOTION},
    "const_a": {"motion": MOTION, "fit": FitSettings(const_angles=True)},
    "motion and warp": {
        "motion": MOTION,
        "deformation": DeformationSettings(model="spline", regulariser=1.0),
    },
    "still": {},
}


def case(name: str, rng: np.random.Generator) -> tuple[Problem, State]:
    complete, windows = make_problem(rng, **CASES[name])
    problem = with_leading_modes(complete, windows.power, 3.0)
    state = evaluate(problem, random_vector(problem, rng, 0.2))
    return problem, replace(state, curvature=positive_curvature(state.curvature))


@pytest.mark.parametrize("name", CASES)
def test_scalar_products_are_those_of_the_flat_vectors(name: str) -> None:
    rng = np.random.default_rng(1)
    problem, state = case(name, rng)
    u, v = (np.where(problem.free, random_vector(problem, rng), 0) for _ in range(2))
    step = lift(problem, v)
    flat, offsets = split(problem, step)
    np.testing.assert_array_equal(flat, v)
    assert (offsets is None) == (name == "still")
    assert lifted_gradient(problem, state) @ step == pytest.approx(gradient(problem, state) @ v, rel=1e-9)
    expected = u @ multiply_hessian(problem, state, v)
    assert lift(problem, u) @ multiply_lifted(problem, state, step) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["motion", "const_a", "motion and warp"])
def test_steps_are_consistent_with_their_motion_and_do_not_depend_on_where_forces_stand(name: str) -> None:
    rng = np.random.default_rng(2)
    problem, state = case(name, rng)
    factor = factorise(problem, state)
    assert isinstance(factor, CoupledFactor)
    step = factor.solve(lifted_gradient(problem, state))
    flat, offsets = split(problem, step)
    scale = np.abs(flat).max()
    at_once = joined(problem, gradient(problem, state), None)
    np.testing.assert_allclose(flat, split(problem, factor.solve(at_once))[0], atol=1e-5 * scale)
    np.testing.assert_allclose(step, lift(problem, flat), atol=1e-5 * scale)
    assert offsets is not None and np.abs(offsets).max() > 1e-3


@pytest.mark.parametrize("fixed", [False, True])
def test_motion_that_is_not_free_stays_and_counts(fixed: bool) -> None:
    rng = np.random.default_rng(3)
    problem, _ = case("motion", rng)
    vector = np.where(problem.free, random_vector(problem, rng, 0.2), 0)
    if fixed:
        moving = problem.layout.fill(motion=1.0).astype(bool)
        problem = replace(problem, free=problem.free & ~moving)
    solution = newton(problem, vector, NewtonOptions())
    before, after = (problem.layout.unpack(v).motion for v in (vector, solution.state.vector))
    assert np.array_equal(before, after) == fixed
    assert solution.state.vector.shape == vector.shape
    exact = evaluate(problem, solution.state.vector)
    assert solution.state.objective == pytest.approx(exact.objective, abs=1e-4)
    assert (
        np.abs(gradient(problem, exact)).max()
        < 1e-3 * np.abs(gradient(problem, evaluate(problem, vector))).max()
    )


def test_zeros_stand_for_no_forces() -> None:
    rng = np.random.default_rng(4)
    problem, _ = case("motion", rng)
    vector = random_vector(problem, rng)
    flat, forces = split(problem, joined(problem, vector, None))
    np.testing.assert_array_equal(flat, vector)
    assert forces is not None and not forces.any()
