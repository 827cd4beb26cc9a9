"""Gradient and Hessian of the objective, by finite differences, for every kind of model.

See docs/dev/conventions.md, Objective.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from small_project import make_problem, random_vector
from tomopolish.settings.alignment import DeformationSettings, FitSettings, MotionSettings
from tomopolish.solve.problem import Problem, evaluate, gradient, predicted_positions
from tomopolish.solve.products import multiply_hessian

MOTION = MotionSettings(velocity_scale=1.0, distance_scale=100.0)


def warp(model: str, per_frame: bool = False) -> DeformationSettings:
    return DeformationSettings(model=model, grid=(3, 3), regulariser=2.0, per_frame=per_frame)


MODELS: dict[str, dict[str, Any]] = {
    "static": {},
    "motion": {"motion": MOTION},
    "linear": {"deformation": warp("linear")},
    "Fourier": {"deformation": warp("Fourier", per_frame=True)},
    "spline": {"deformation": warp("spline")},
    "motion and spline": {"motion": MOTION, "deformation": warp("spline", per_frame=True)},
    "input warp": {"input_warp": True, "motion": MOTION},
    "const_p": {"fit": FitSettings(const_positions=True)},
    "const_a with motion": {"fit": FitSettings(const_angles=True), "motion": MOTION},
}


def blocks(problem: Problem) -> dict[str, slice]:
    """Where each block lies in the flat vector."""
    found, start = {}, 0
    for name, shape in problem.layout.shapes.items():
        stop = start + int(np.prod(shape))
        found[name], start = slice(start, stop), stop
    return found


def central_difference(function: Any, vector: np.ndarray, i: int, h: float) -> Any:
    step = np.zeros_like(vector)
    step[i] = h
    return (function(vector + step) - function(vector - step)) / (2 * h)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("penalty", [0.0, 5.0])
def test_gradient(model: str, penalty: float) -> None:
    rng = np.random.default_rng(3)
    problem, _ = make_problem(rng, **MODELS[model])
    problem = replace(problem, surface=replace(problem.surface, range_penalty=penalty, range_px=2.0))
    vector = random_vector(problem, rng, 0.7)
    state = evaluate(problem, vector)
    slope = gradient(problem, state)
    assert state.objective == state.log_likelihood + state.log_prior
    for name, where in blocks(problem).items():
        h = 1e-6 if name == "angles" else 1e-5
        numeric = np.array(
            [
                central_difference(lambda v: evaluate(problem, v).objective, vector, i, h)
                for i in range(where.start, where.stop)
            ]
        )
        free = problem.free[where]
        assert not slope[where][~free].any()
        scale = np.abs(numeric).max(initial=1.0)
        np.testing.assert_allclose(slope[where][free], numeric[free], atol=2e-6 * scale, err_msg=name)


def test_prior_is_gaussian() -> None:
    rng = np.random.default_rng(4)
    problem, _ = make_problem(rng, **MODELS["motion and spline"])
    vector = random_vector(problem, rng)
    parts = problem.layout.unpack(vector)
    prior = evaluate(problem, vector).log_prior
    others = problem.layout.fill(motion=1.0, warp=1.0) == 0
    static = -0.5 * np.sum((problem.precision * vector**2)[others])
    motion = -0.5 * np.sum(parts.motion**2)
    bent = -np.sum(problem.deformation.penalty_weights * parts.warp**2)
    assert prior == pytest.approx(static + motion + bent, rel=1e-12)
    assert motion < 0 and bent < 0


@pytest.mark.parametrize("model", MODELS)
def test_hessian_products_are_symmetric(model: str) -> None:
    rng = np.random.default_rng(5)
    problem, _ = make_problem(rng, **MODELS[model])
    state = evaluate(problem, random_vector(problem, rng, 0.7))
    u, v = (np.where(problem.free, random_vector(problem, rng), 0) for _ in range(2))
    one, other = u @ multiply_hessian(problem, state, v), v @ multiply_hessian(problem, state, u)
    assert one == pytest.approx(other, rel=1e-9)


def numeric_product(problem: Problem, vector: np.ndarray, direction: np.ndarray) -> np.ndarray:
    h = 1e-5
    ahead, behind = (gradient(problem, evaluate(problem, vector + s * h * direction)) for s in (1, -1))
    return (behind - ahead) / (2 * h)


@pytest.mark.parametrize("model", MODELS)
def test_hessian_is_exact_where_no_force_bends_the_geometry(model: str) -> None:
    rng = np.random.default_rng(6)
    problem, _ = make_problem(rng, symmetric=True, **MODELS[model])
    vector = np.zeros(problem.layout.size)
    state = evaluate(problem, vector)
    # forces vanish to the precision of the windows
    assert np.abs(gradient(problem, state)).max() < 1e-5 * max(1.0, np.abs(state.curvature).max() * 60)
    for _ in range(3):
        direction = np.where(problem.free, random_vector(problem, rng), 0)
        numeric = numeric_product(problem, vector, direction)
        found = multiply_hessian(problem, state, direction)
        for name, where in blocks(problem).items():
            scale = np.abs(numeric[where]).max(initial=1.0)
            np.testing.assert_allclose(found[where], numeric[where], atol=1e-4 * scale, err_msg=name)


@pytest.mark.parametrize("model", ["static", "motion"])
def test_hessian_is_exact_in_what_the_positions_depend_on_linearly(model: str) -> None:
    """Shifts, positions and motion at any point, angles not zero."""
    rng = np.random.default_rng(7)
    problem, _ = make_problem(rng, **MODELS[model])
    linear = problem.layout.fill(shifts_px=1.0, positions_px=1.0, motion=1.0).astype(bool)
    vector = random_vector(problem, rng, 0.7)
    problem = replace(problem, free=linear)
    state = evaluate(problem, vector)
    direction = np.where(linear, random_vector(problem, rng), 0)
    numeric = numeric_product(problem, vector, direction)
    found = multiply_hessian(problem, state, direction)
    np.testing.assert_allclose(found, numeric, atol=1e-6 * np.abs(numeric).max())


def test_what_is_not_free_neither_moves_nor_couples() -> None:
    rng = np.random.default_rng(8)
    problem, _ = make_problem(rng, fit=FitSettings(const_angles=True, const_shifts=True))
    state = evaluate(problem, np.zeros(problem.layout.size))
    product = multiply_hessian(problem, state, random_vector(problem, rng))
    parts, free = problem.layout.unpack(product), problem.layout.unpack(problem.free)
    assert not free.angles.any() and not free.shifts_px.any() and free.positions_px.all()
    assert not parts.angles.any() and not parts.shifts_px.any() and parts.positions_px.any()


def test_predicted_positions_written_out() -> None:
    """Q(α) about the projected centre, then the shift; motion and warp as the models give them."""
    rng = np.random.default_rng(9)
    problem, _ = make_problem(rng, **MODELS["motion and spline"])
    vector = random_vector(problem, rng)
    parts = problem.layout.unpack(vector)
    found = predicted_positions(problem, parts)
    offsets = problem.motion.offsets_px(parts.motion)
    plain = np.empty_like(found)
    for f in range(problem.layout.tilts):
        M = problem.projections_px[f]
        pivot = (M @ [*problem.centre_px, 1.0])[:3]
        angle = np.linalg.norm(parts.angles[f])
        x, y, z = parts.angles[f] / angle
        K = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        Q = np.eye(3) + np.sin(angle) * K + (1 - np.cos(angle)) * K @ K
        for p in range(problem.layout.particles):
            point = problem.points_px[f, p] + parts.positions_px[p] + offsets[f, p]
            q = pivot + Q @ ((M @ [*point, 1.0])[:3] - pivot)
            plain[f, p] = q[:2] + parts.shifts_px[f]
    bent = plain + problem.deformation.displacement_px(plain, parts.warp)
    np.testing.assert_allclose(found, bent, atol=1e-9)
    assert np.abs(bent - plain).max() > 0.1
