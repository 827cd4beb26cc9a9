"""The evidence of a motion prior against the same integral written out with dense matrices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from small_project import make_problem
from tomopolish.models.motion import GaussianProcessMotion
from tomopolish.settings import MotionSettings
from tomopolish.solve.problem import Problem, evaluate, multiply_hessian
from tomopolish.solve.uncertainty import expected_state
from tomopolish.tune.evidence import linearise, log_evidence

DOSE, PIXEL_ANGSTROM = 3.0, 3.0


def with_motion(problem: Problem, motion: MotionSettings) -> Problem:
    unit = DOSE / PIXEL_ANGSTROM
    model = GaussianProcessMotion.build(
        problem.points_px[0],
        problem.motion.chronological,
        sigma_velocity_px=unit * motion.velocity_scale,
        sigma_distance_px=unit * motion.distance_scale,
        squared_exponential=motion.squared_exponential,
    )
    return replace(problem, motion=model)


def dense_log_evidence(problem: Problem, power: np.ndarray) -> float:
    """½ gᵀH⁻¹g − ½ log det H at the input geometry."""
    zero = np.zeros(problem.layout.size)
    exact = evaluate(problem, zero)
    state = expected_state(problem, exact, power)
    H = np.stack([multiply_hessian(problem, state, e) for e in np.eye(problem.layout.size)])
    sign, logarithm = np.linalg.slogdet(H)
    assert sign > 0
    return float(0.5 * exact.gradient @ np.linalg.solve(H, exact.gradient) - 0.5 * logarithm)


@pytest.mark.parametrize("squared", [False, True])
def test_evidence_ratios_are_those_of_the_dense_integral(squared: bool) -> None:
    first = MotionSettings(velocity_scale=0.3, distance_scale=60.0)
    other = MotionSettings(velocity_scale=3.0, distance_scale=25.0, squared_exponential=squared)
    problem, windows = make_problem(np.random.default_rng(5), tilts=6, particles=5, motion=first)
    zero = np.zeros(problem.layout.size)
    linear = linearise(
        "a",
        problem,
        zero,
        [(problem.surface.visible, zero)],
        windows.power,
        problem.points_px[0],
        frame_dose=DOSE,
        pixel_size_angstrom=PIXEL_ANGSTROM,
    )
    expected = dense_log_evidence(with_motion(problem, other), windows.power)
    expected -= dense_log_evidence(with_motion(problem, first), windows.power)
    assert abs(expected) > 1
    found = log_evidence(linear, other) - log_evidence(linear, first)
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)
