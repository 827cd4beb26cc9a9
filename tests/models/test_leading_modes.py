"""The modes of motion that images can move, against the complete process."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tomopolish.models import leading_modes
from tomopolish.models.gaussian_process import GaussianProcessMotion
from tomopolish.models.leading_modes import LeadingModes
from tomopolish.models.motion_inverse import Followed

PARTICLES, TILTS = 25, 9
WEIGHTS = np.array([4.0, 1.0, 1.0, 0.5, 1.0, 2.0, 1.0, 1.0])


def process() -> GaussianProcessMotion:
    rng = np.random.default_rng(7)
    return GaussianProcessMotion.build(
        rng.uniform(0, 700, (PARTICLES, 3)),
        rng.permutation(TILTS),
        sigma_velocity_px=0.2,
        sigma_distance_px=600.0,
        step_weights=WEIGHTS,
    )


def information(per_px2: float) -> np.ndarray:
    """Images that measure each component of each position."""
    later = np.maximum.outer(np.arange(TILTS - 1), np.arange(TILTS - 1))
    time = per_px2 * (TILTS - 1 - later) * np.sqrt(np.outer(WEIGHTS, WEIGHTS))
    return np.kron(time, np.diag([1.0, 0.9, 0.3]))


def leading(tolerance_px: float = 0.01, per_px2: float = 1.0, threads: int = 1) -> LeadingModes:
    return LeadingModes.of(
        process(), information(per_px2), tolerance_px, np.zeros((0, PARTICLES, 3)), threads
    )


def represented(motion: LeadingModes) -> np.ndarray:
    """(F·P·3, N): what a unit of each coefficient moves."""
    units = np.eye(motion.shape[0])
    return np.stack([motion.offsets_px(unit).ravel() for unit in units], axis=1)


def test_fewer_modes_remain_where_images_tell_less() -> None:
    counts = [leading(per_px2=value).shape[0] for value in (100.0, 1.0, 0.01)]
    assert PARTICLES * (TILTS - 1) * 3 > counts[0] > 1.5 * counts[1] > 3 * counts[2] > 0


def test_prior_variance_is_represented_or_stated_as_left_out() -> None:
    motion = leading()
    stated = motion.left_out_px2
    chronological = np.cumsum([0.0, *WEIGHTS]) * 0.2**2
    expected = np.empty((TILTS, PARTICLES, 3))
    expected[motion.chronological] = chronological[:, None, None]
    own = np.sum(represented(motion) ** 2, axis=1).reshape(stated.shape)
    assert stated.max() > 0.01 * expected.max()
    np.testing.assert_allclose(own + stated, expected, atol=1e-7)


def test_modes_that_are_left_out_would_be_moved_by_less_than_the_tolerance() -> None:
    """Posterior means of particles that have the average information, whatever was planted by the prior."""
    rng, per_px2, tolerance_px = np.random.default_rng(3), 1.0, 0.05
    motion = leading(tolerance_px, per_px2)
    everything = leading(0.0, per_px2)
    axis_information = np.broadcast_to(per_px2 * np.array([1.0, 0.9, 0.3]), (TILTS, PARTICLES, 3)).ravel()
    square = []
    for _ in range(5):
        truth = everything.offsets_px(rng.normal(size=everything.shape)).ravel()
        measured = truth + rng.normal(size=truth.size) / np.sqrt(axis_information)
        means = []
        for modes in (motion, everything):
            J = represented(modes)
            H = J.T @ (axis_information[:, None] * J) + np.eye(J.shape[1])
            means.append(J @ np.linalg.solve(H, J.T @ (axis_information * measured)))
        square.append(np.mean((means[0] - means[1]) ** 2) * 3)
    assert motion.shape[0] < 0.8 * everything.shape[0]
    assert 0.2 * tolerance_px < np.sqrt(np.mean(square)) < tolerance_px


def test_adjoint_is_the_transpose_and_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leading_modes, "PANEL_ROWS", 7)
    one, three = leading(threads=1), leading(threads=3)
    rng = np.random.default_rng(5)
    coefficients, gradient = rng.normal(size=one.shape), rng.normal(size=(TILTS, PARTICLES, 3))
    offsets, pulled = one.offsets_px(coefficients), one.adjoint(gradient)
    assert np.sum(offsets * gradient) == pytest.approx(np.sum(coefficients * pulled), rel=1e-10)
    np.testing.assert_array_equal(offsets, three.offsets_px(coefficients))
    np.testing.assert_array_equal(pulled, three.adjoint(gradient))
    assert not offsets[one.chronological[0]].any()
    np.testing.assert_allclose(one.offsets_px(coefficients, rough=True), offsets, atol=1e-5)
    np.testing.assert_allclose(one.adjoint(gradient, rough=True), pulled, atol=1e-4)


def test_coefficients_invert_offsets() -> None:
    motion = leading()
    coefficients = np.random.default_rng(6).normal(size=motion.shape)
    recovered = motion.coefficients(motion.offsets_px(coefficients))
    np.testing.assert_allclose(recovered, coefficients, atol=1e-8)


def test_without_any_information_one_mode_remains() -> None:
    motion = leading(per_px2=0.0)
    assert motion.shape[0] >= 1
    assert motion.offsets_px(np.ones(motion.shape)).shape == (TILTS, PARTICLES, 3)


def test_velocities_that_projections_follow_are_represented_in_every_course() -> None:
    fields = np.stack([np.broadcast_to(axis, (PARTICLES, 3)) for axis in np.eye(3)])
    few = leading(1.0)
    more = LeadingModes.of(process(), information(1.0), 1.0, fields)
    assert few.shape[0] < more.shape[0] <= PARTICLES * (TILTS - 1) * 3
    offsets = np.cumsum(np.ones((TILTS, 1, 3)), axis=0).repeat(PARTICLES, axis=1)
    chronological = np.empty_like(offsets)
    chronological[more.chronological] = offsets - 1
    found = [motion.offsets_px(motion.coefficients(chronological)) for motion in (few, more)]
    errors = [np.abs(f - chronological).max() for f in found]
    assert errors[1] < 0.3 < errors[0]


def test_velocities_that_projections_follow_cost_what_their_priors_say() -> None:
    """The approximate inverse is exact where all particles have the same information."""
    motion = leading(0.0)
    time = information(1.0)
    fields = np.stack([np.broadcast_to(axis, (PARTICLES, 3)) for axis in np.eye(3)])
    held = 0.5 * np.eye(3 * (TILTS - 1))
    followed = Followed(shares=np.ones(PARTICLES), fields=fields, curvature=held)
    inverse = motion.near_inverse(time, 1.0, followed)
    rng = np.random.default_rng(8)
    amounts = rng.normal(size=3 * (TILTS - 1))
    shared = inverse.fields.times(amounts)
    moved = np.diff(motion.offsets_px(shared)[motion.chronological], axis=0)
    expected = amounts.reshape(TILTS - 1, 1, 3) * np.sqrt(WEIGHTS)[:, None, None]
    np.testing.assert_allclose(moved, np.broadcast_to(expected, moved.shape), atol=1e-8)
    # S = ZᵀZ + held over amounts
    curvature = inverse.fields.gram + held
    right = inverse.fields.times(np.linalg.solve(inverse.fields.gram, curvature @ amounts))
    np.testing.assert_allclose(inverse.solve(right), shared, atol=1e-8)
    still = motion.near_inverse(time, 1.0, replace(followed, fields=fields[:0], curvature=held[:0, :0]))
    vector = rng.normal(size=motion.shape)
    np.testing.assert_allclose(still.solve(vector) * still.apart.curvature, vector, rtol=1e-12)
