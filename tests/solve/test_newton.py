"""The trust-region Newton method on functions whose optimum is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomopolish.solve.newton import NewtonOptions, Solution, Step, maximise, truncated_cg


@dataclass(frozen=True)
class Point:
    vector: np.ndarray
    objective: float
    gradient: np.ndarray


@dataclass(frozen=True)
class Scaling:
    """A diagonal preconditioner."""

    diagonal: np.ndarray

    def solve(self, vector: np.ndarray) -> np.ndarray:
        return vector / self.diagonal


Function = Callable[[np.ndarray], tuple[float, np.ndarray, np.ndarray]]


def run(function: Function, start: np.ndarray, **options: float) -> Solution[Point]:
    """Maximise −function (value, gradient, Hessian) from `start`, preconditioned by |diagonal|."""

    def evaluate(x: np.ndarray) -> Point:
        value, gradient, _ = function(x)
        return Point(x, -value, -gradient)

    return maximise(
        evaluate=evaluate,
        multiply=lambda state, v: function(state.vector)[2] @ v,
        factorise=lambda state: Scaling(np.abs(np.diag(function(state.vector)[2])) + 1e-3).solve,
        start=start,
        options=NewtonOptions(**options),
    )


def rosenbrock(x: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    a, b = x
    value = (1 - a) ** 2 + 100 * (b - a * a) ** 2
    gradient = np.array([-2 * (1 - a) - 400 * a * (b - a * a), 200 * (b - a * a)])
    hessian = np.array([[2 - 400 * (b - 3 * a * a), -400 * a], [-400 * a, 200.0]])
    return value, gradient, hessian


def wells(x: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Two wells at x = ±1, curved upwards (a maximum of the cost) between them."""
    value = np.sum((x**2 - 1) ** 2)
    return float(value), 4 * x * (x**2 - 1), np.diag(12 * x**2 - 4)


@pytest.mark.parametrize("seed", range(3))
def test_a_quadratic_takes_few_steps_and_one_with_its_inverse(seed: int) -> None:
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(12, 12))
    H, optimum = A @ A.T + np.eye(12), rng.normal(size=12)

    def bowl(x: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        d = x - optimum
        return 0.5 * float(d @ H @ d), H @ d, H

    found = run(bowl, optimum + 1e-3 * rng.normal(size=12))
    # truncated where iterations gain little
    assert found.converged and len(found.history) <= 8
    np.testing.assert_allclose(found.state.vector, optimum, atol=2e-4)
    exact = maximise(
        evaluate=lambda x: Point(x, -bowl(x)[0], -bowl(x)[1]),
        multiply=lambda _, v: H @ v,
        factorise=lambda _: lambda v: np.linalg.solve(H, v),
        start=rng.normal(size=12),
        options=NewtonOptions(),
    )
    assert exact.converged and exact.evaluations == 2 and exact.products <= 2
    np.testing.assert_allclose(exact.state.vector, optimum, atol=1e-9)


@pytest.mark.parametrize("start", [(-1.2, 1.0), (0.0, 0.0), (3.0, -3.0), (-2.0, 5.0)])
def test_a_curved_valley_is_followed_to_its_end(start: tuple[float, float]) -> None:
    found = run(rosenbrock, np.array(start), relative_tolerance=1e-14)
    assert found.converged and found.evaluations < 60
    np.testing.assert_allclose(found.state.vector, [1, 1], atol=1e-6)
    assert all(a < b for a, b in zip(found.history, found.history[1:], strict=False))
    assert found.history[-1] == found.state.objective


@pytest.mark.parametrize("start", [0.01, -0.3, 0.5, 4.0])
def test_negative_curvature_leads_away_from_the_ridge(start: float) -> None:
    found = run(wells, np.array([start, 0.2, -0.1]), relative_tolerance=1e-12)
    assert found.converged
    np.testing.assert_allclose(np.abs(found.state.vector), 1, atol=1e-5)
    assert np.sign(found.state.vector[0]) == np.sign(start)


def test_steps_into_impossible_regions_are_taken_back() -> None:
    """−Σ log x is infinite for x ≤ 0, or no number at all: the region shrinks instead."""
    for bad in (np.inf, np.nan):

        def barrier(x: np.ndarray, bad: float = bad) -> tuple[float, np.ndarray, np.ndarray]:
            if (x <= 0).any():
                return bad, np.zeros(2), np.eye(2)
            return float(np.sum(x - np.log(x))), 1 - 1 / x, np.diag(1 / x**2)

        found = run(barrier, np.array([30.0, 0.01]), relative_tolerance=1e-12)
        assert found.converged
        np.testing.assert_allclose(found.state.vector, 1, atol=1e-4)


def test_it_stops_at_the_optimum_and_at_the_limit() -> None:
    at_once = run(rosenbrock, np.ones(2))
    assert at_once.converged and at_once.evaluations == 1 and at_once.history == (0.0,)
    cut = run(rosenbrock, np.array([-1.2, 1.0]), max_evaluations=5)
    assert not cut.converged and cut.evaluations == 5
    assert cut.state.objective == max(cut.history)


@given(
    seed=st.integers(0, 10**6),
    size=st.integers(1, 9),
    log_radius=st.floats(-3, 4),
    lowest=st.floats(-2, 0.5),
)
def test_truncated_cg(seed: int, size: int, log_radius: float, lowest: float) -> None:
    """The step's length in the factor's norm, its predicted gain, and the region, for any curvature."""
    rng = np.random.default_rng(seed)
    Q, _ = np.linalg.qr(rng.normal(size=(size, size)))
    H = Q @ np.diag(lowest + rng.uniform(0, 3, size)) @ Q.T
    M = np.diag(rng.uniform(0.2, 5, size))
    g, radius = rng.normal(size=size), 10**log_radius
    step = truncated_cg(lambda v: H @ v, Scaling(np.diag(M)).solve, g, radius, 50)
    s = step.vector
    assert np.sqrt(s @ M @ s) == pytest.approx(step.length, rel=1e-6)
    assert step.length <= radius * (1 + 1e-9)
    assert step.at_edge == (step.length == radius)
    assert step.predicted == pytest.approx(g @ s - 0.5 * s @ H @ s, rel=1e-6, abs=1e-9)
    # never worse than the best step along the preconditioned gradient
    d = np.linalg.solve(M, g)
    bend, edge = d @ H @ d, radius / np.sqrt(d @ M @ d)
    t = min(edge, (g @ d) / bend) if bend > 0 else edge
    assert step.predicted >= (t * g @ d - 0.5 * t**2 * bend) * (1 - 1e-9)


def test_without_a_region_negative_curvature_gives_the_preconditioned_gradient() -> None:
    g, M = np.array([3.0, -1.0]), np.array([2.0, 5.0])
    step = truncated_cg(lambda v: -v, Scaling(M).solve, g, np.inf, 50)
    np.testing.assert_allclose(step.vector, g / M)
    assert step.at_edge and step.length == pytest.approx(np.sqrt(g @ (g / M)))


@given(st.integers(0, 10_000), st.floats(0.01, 0.99))
def test_a_shorter_step_is_that_of_the_smaller_region(seed: int, share: float) -> None:
    """Also where the model bends up along a direction, and where the step was shortened before."""
    rng = np.random.default_rng(seed)
    turned, _ = np.linalg.qr(rng.normal(size=(12, 12)))
    hessian = turned @ np.diag(rng.uniform(-0.2, 3, 12)) @ turned.T
    solve, gradient = Scaling(np.abs(np.diag(hessian)) + 0.1).solve, rng.normal(size=12)

    def computed(radius: float) -> Step:
        return truncated_cg(lambda v: hessian @ v, solve, gradient, radius, 6)

    whole = computed(np.inf)
    for first, radius in ((whole, share * whole.length), (computed(0.7 * whole.length), 0.3 * whole.length)):
        shorter, expected = first.within(radius), computed(radius)
        assert shorter is not None
        assert (shorter.products, shorter.at_edge) == (0, True)
        np.testing.assert_allclose(shorter.vector, expected.vector, rtol=1e-9, atol=1e-12)
        assert shorter.predicted == pytest.approx(expected.predicted, rel=1e-9)
        assert shorter.length == pytest.approx(radius)
