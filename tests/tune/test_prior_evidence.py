"""The evidence of a motion prior against the same integrals written out with dense matrices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tuning_cases import dense, make_prior, planted

from small_project import make_problem
from tomopolish.models.gaussian_process import GaussianProcessMotion
from tomopolish.settings.alignment import MotionSettings
from tomopolish.solve.problem import Problem, evaluate, gradient
from tomopolish.solve.products import multiply_hessian
from tomopolish.solve.uncertainty import expected_state
from tomopolish.tune.kalman import log_evidence, smoothed_errors
from tomopolish.tune.linear import linearise
from tomopolish.tune.prior import MotionPrior


@pytest.mark.parametrize("steps", [(1.0,) * 5, (9.0, 1.0, 1.0, 0.3, 2.0)])
@pytest.mark.parametrize("squared", [False, True])
def test_the_filter_is_the_density_of_all_measurements(squared: bool, steps: tuple[float, ...]) -> None:
    prior = make_prior(squared_exponential=squared)
    tomogram = planted(np.random.default_rng(1), prior, tilts=6, particles=5, visible=0.7)
    tomogram = replace(tomogram, step_weights=np.array(steps))
    values, covariance = dense(tomogram, prior)
    expected = -0.5 * values @ np.linalg.solve(covariance, values) - 0.5 * np.linalg.slogdet(covariance)[1]
    assert log_evidence(tomogram, prior) == pytest.approx(expected, rel=1e-9)


def test_smoothed_errors_use_all_measurements_and_know_their_size() -> None:
    prior = make_prior()
    tomogram = planted(np.random.default_rng(2), prior, tilts=5, particles=6, visible=0.7)
    values, covariance = dense(tomogram, prior)
    inverse = np.linalg.inv(covariance)
    squares, expected = map(np.concatenate, smoothed_errors(tomogram, prior))
    np.testing.assert_allclose(squares, np.square(inverse @ values).reshape(-1, 2).sum(axis=1), rtol=1e-8)
    np.testing.assert_allclose(expected, np.diag(inverse).reshape(-1, 2).sum(axis=1), rtol=1e-8)


def test_a_tilt_image_without_measurements_lets_time_pass() -> None:
    prior = make_prior()
    tomogram = planted(np.random.default_rng(3), prior, tilts=5, particles=4)
    gone = replace(
        tomogram.frames[2],
        particles=np.zeros(0, dtype=np.int64),
        design=np.zeros((0, 2, 3)),
        tilt_design=np.zeros((0, 2, 5)),
        value=np.zeros((0, 2)),
    )
    tomogram = replace(tomogram, frames=(*tomogram.frames[:2], gone, *tomogram.frames[3:]))
    values, covariance = dense(tomogram, prior)
    expected = -0.5 * values @ np.linalg.solve(covariance, values) - 0.5 * np.linalg.slogdet(covariance)[1]
    assert log_evidence(tomogram, prior) == pytest.approx(expected, rel=1e-9)
    assert all(len(by_tilt[2]) == 0 for by_tilt in smoothed_errors(tomogram, prior))


def with_motion(problem: Problem, prior: MotionPrior) -> Problem:
    motion = GaussianProcessMotion.build(
        problem.points_px[0],
        problem.motion.chronological,
        sigma_velocity_px=prior.velocity_scale,
        sigma_distance_px=prior.distance_scale,
        squared_exponential=prior.squared_exponential,
        step_weights=problem.motion.step_scales**2,
    )
    return replace(problem, motion=motion)


def quadratic_evidence(problem: Problem, power: np.ndarray) -> float:
    """½ gᵀH⁻¹g − ½ log det H at the input geometry."""
    zero = np.zeros(problem.layout.size)
    exact = evaluate(problem, zero)
    state = expected_state(problem, exact, power)
    H = np.stack([multiply_hessian(problem, state, e) for e in np.eye(problem.layout.size)])
    sign, logarithm = np.linalg.slogdet(H)
    assert sign > 0
    slope = gradient(problem, exact)
    return float(0.5 * slope @ np.linalg.solve(H, slope) - 0.5 * logarithm)


@pytest.mark.parametrize("squared", [False, True])
def test_measurements_say_what_the_problem_says(squared: bool) -> None:
    """Ratios of evidences are those of the solver's own objective, expanded to second order."""
    one = make_prior(distance_scale=60.0, drift_scale=0.0)
    other = make_prior(velocity_scale=3.0, distance_scale=25.0, drift_scale=0.0, squared_exponential=squared)
    settings = MotionSettings(velocity_scale=0.3, distance_scale=60.0, absolute=True)
    problem, windows = make_problem(np.random.default_rng(5), tilts=6, particles=5, motion=settings)
    uneven = replace(problem.motion, step_scales=np.array([3.0, 1.0, 1.0, 0.5, 1.0]))
    problem = replace(problem, motion=uneven)
    zero = np.zeros(problem.layout.size)
    measured = linearise("a", problem, zero, windows.power, problem.points_px[0], 1.0)
    expected = quadratic_evidence(with_motion(problem, other), windows.power)
    expected -= quadratic_evidence(with_motion(problem, one), windows.power)
    assert abs(expected) > 1
    found = log_evidence(measured, other) - log_evidence(measured, one)
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)
