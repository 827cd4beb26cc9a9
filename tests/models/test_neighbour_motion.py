"""Motion that neighbours predict, against the covariance of all particles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import eigh
from scipy.spatial.distance import cdist

from tomopolish import load
from tomopolish.cli import run
from tomopolish.models import motion as motion_models
from tomopolish.models import (
    neighbour_inverse,
    neighbour_kernels,
    neighbour_motion,
    neighbour_predictions,
)
from tomopolish.models.gaussian_process import GaussianProcessMotion
from tomopolish.models.motion_inverse import Followed
from tomopolish.models.neighbour_motion import NEIGHBOURS, NeighbourMotion

PARTICLES, TILTS = 320, 5
WEIGHTS = np.array([4.0, 1.0, 0.5, 2.0])
SIGMA_PX, DISTANCE_PX = 0.3, 4000.0


def positions(particles: int = PARTICLES) -> np.ndarray:
    return np.random.default_rng(7).uniform(0, 1500, (particles, 3))


def chronological() -> np.ndarray:
    return np.random.default_rng(8).permutation(TILTS)


def motion(particles: int = PARTICLES, threads: int = 1) -> NeighbourMotion:
    process = NeighbourMotion.build(
        positions(particles),
        chronological(),
        sigma_velocity_px=SIGMA_PX,
        sigma_distance_px=DISTANCE_PX,
        step_weights=WEIGHTS,
    )
    return process.along(information(), threads)


def information() -> np.ndarray:
    """Images that measure each component of each position."""
    later = np.maximum.outer(np.arange(TILTS - 1), np.arange(TILTS - 1))
    time = (TILTS - 1 - later) * np.sqrt(np.outer(WEIGHTS, WEIGHTS))
    return np.kron(time, np.diag([20.0, 15.0, 0.3]))


def covariance(particles: int = PARTICLES) -> np.ndarray:
    """That of a component of velocities in a typical step."""
    return SIGMA_PX**2 * np.exp(-cdist(positions(particles), positions(particles)) / DISTANCE_PX)


def covariance_by_neighbours(process: NeighbourMotion) -> np.ndarray:
    """The same, from the offsets in the second exposure that coefficients of variance 1 make."""
    particles, courses = process.shape
    second = process.chronological[1]
    made = np.zeros((particles, particles))
    for course in range(courses):
        for particle in range(particles):
            unit = np.zeros(process.shape)
            unit[particle, course] = 1
            moved = process.offsets_px(unit)[second, :, 0]
            made += np.outer(moved, moved)
    return made / WEIGHTS[0]


def test_velocities_have_the_prior_covariance_where_all_particles_are_neighbours() -> None:
    few = NEIGHBOURS // 4
    np.testing.assert_allclose(
        covariance_by_neighbours(motion(few)), covariance(few), atol=1e-6 * SIGMA_PX**2
    )


def test_the_most_probable_velocities_hardly_depend_on_what_neighbours_leave_out() -> None:
    exact, near = covariance(), covariance_by_neighbours(motion())
    ratios = eigh(near, exact, eigvals_only=True)
    assert ratios[0] > 0.9 and ratios[-1] < 1.1
    for per_px2 in (1.0, 100.0):  # information of each particle
        noise = np.eye(PARTICLES) / per_px2
        means = [np.linalg.solve(prior + noise, prior).T for prior in (near, exact)]
        difference = means[0] - means[1]
        square = np.trace(difference @ (exact + noise) @ difference.T) / PARTICLES
        error = np.trace(exact - means[1] @ exact) / PARTICLES
        assert square < (0.01**2) * error


def test_adjoint_is_the_transpose_and_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbour_predictions, "BLOCK", 5)
    for module in (neighbour_motion, neighbour_predictions):
        monkeypatch.setattr(module, "PANEL", 50)
    alone, three = motion(), motion(threads=3)
    rng = np.random.default_rng(5)
    coefficients, gradient = rng.normal(size=alone.shape), rng.normal(size=(TILTS, PARTICLES, 3))
    offsets, pulled = alone.offsets_px(coefficients), alone.adjoint(gradient)
    assert np.sum(offsets * gradient) == pytest.approx(np.sum(coefficients * pulled), rel=1e-10)
    np.testing.assert_array_equal(offsets, three.offsets_px(coefficients))
    np.testing.assert_array_equal(pulled, three.adjoint(gradient))
    assert not offsets[alone.chronological[0]].any()


def test_coefficients_invert_offsets() -> None:
    process = motion()
    coefficients = np.random.default_rng(6).normal(size=process.shape)
    recovered = process.coefficients(process.offsets_px(coefficients))
    np.testing.assert_allclose(recovered, coefficients, atol=1e-9)


def test_trajectories_of_the_complete_covariance_are_represented() -> None:
    complete = GaussianProcessMotion.build(
        positions(),
        chronological(),
        sigma_velocity_px=SIGMA_PX,
        sigma_distance_px=DISTANCE_PX,
        step_weights=WEIGHTS,
    )
    moved = complete.offsets_px(np.random.default_rng(4).normal(size=complete.shape))
    process = motion()
    np.testing.assert_allclose(process.offsets_px(process.coefficients(moved)), moved, atol=1e-10)


def followed() -> Followed:
    """Translations, which priors of the projections limit."""
    fields = np.stack([np.broadcast_to(axis, (PARTICLES, 3)) for axis in np.eye(3)])
    shares = np.random.default_rng(9).uniform(0.3, 1.7, PARTICLES)
    return Followed(shares=shares, fields=fields, curvature=0.5 * np.eye(3 * (TILTS - 1)))


def test_the_inverse_is_near_that_of_the_curvature() -> None:
    """The curvature of each course is 1 + λ LᵀL, with λ for each particle.

    A step takes products in proportion to the square root of the largest over the smallest eigenvalue, 1.8
    here at most; a factor of 32 neighbours instead of 16 brings that to 1.4, but takes twice as long.
    """
    process, others = motion(), followed()
    alone = replace(others, fields=others.fields[:0], curvature=others.curvature[:0, :0])
    inverse = process.near_inverse(information(), 1.0, alone)
    average = np.sum(process.courses * (information() @ process.courses), axis=0)
    for course in (0, len(average) // 2, len(average) - 1):
        applied = np.empty((PARTICLES, PARTICLES))
        L = np.empty_like(applied)
        for particle in range(PARTICLES):
            unit = np.zeros(process.shape)
            unit[particle, course] = 1
            applied[particle] = inverse.solve(unit)[:, course]
            velocities = np.diff(process.offsets_px(unit)[process.chronological], axis=0)
            whitened = (velocities / np.sqrt(WEIGHTS)[:, None, None]).swapaxes(0, 1).reshape(PARTICLES, -1)
            L[:, particle] = whitened @ process.courses[:, course]
        curvature = np.eye(PARTICLES) + average[course] * L.T @ (others.shares[:, None] * L)
        np.testing.assert_allclose(applied, applied.T, atol=1e-5 * np.abs(applied).max())
        values = np.linalg.eigvals(applied @ curvature).real
        assert values.min() > 0.5 and values.max() < 1.6


def test_the_inverse_is_made_anew_where_images_tell_much_more() -> None:
    process = motion()
    first = process.near_inverse(information(), 1.0, followed())
    near, far = (process.near_inverse(factor * information(), 1.0, followed(), first) for factor in (1.05, 2))
    assert near.apart is first.apart
    assert far.apart is not first.apart
    fewer = replace(followed(), shares=np.where(np.arange(PARTICLES) % 2, followed().shares, 0.0))
    assert process.near_inverse(information(), 1.0, fewer, first).apart is not first.apart


def test_velocities_that_projections_follow_cost_what_their_priors_say() -> None:
    """The inverse is in single precision, and so are its fields."""
    process, others = motion(), followed()
    inverse = process.near_inverse(information(), 1.0, others)
    amounts = np.random.default_rng(8).normal(size=3 * (TILTS - 1))
    follow = inverse.fields
    shared = inverse.coefficients(follow.times(follow.shapes, amounts))
    moved = np.diff(process.offsets_px(shared)[process.chronological], axis=0)
    expected = amounts.reshape(TILTS - 1, 1, 3) * np.sqrt(WEIGHTS)[:, None, None]
    np.testing.assert_allclose(moved, np.broadcast_to(expected, moved.shape), atol=1e-5)
    fields = [follow.times(follow.shapes, unit) for unit in np.eye(len(amounts))]
    columns = np.stack([inverse.coefficients(field).ravel() for field in fields], axis=1)
    gram = columns.T @ columns
    by_prior = np.array([follow.transposed_times(follow.pulled, field) for field in fields])
    np.testing.assert_allclose(by_prior, gram, atol=1e-5 * gram.max())
    again = np.array(
        [follow.transposed_times(follow.shapes, follow.times(follow.pulled, e)) for e in np.eye(len(gram))]
    )
    np.testing.assert_allclose(again, gram, atol=1e-5 * gram.max())
    right = columns @ np.linalg.solve(gram, (gram + others.curvature) @ amounts)
    np.testing.assert_allclose(inverse.solve(right.reshape(process.shape)), shared, atol=1e-4)


def test_a_step_is_the_inverse_of_a_residual_and_what_forces_add_and_threads_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(neighbour_predictions, "BLOCK", 5)
    monkeypatch.setattr(neighbour_inverse, "BLOCK", 5)
    for module in (neighbour_motion, neighbour_predictions):
        monkeypatch.setattr(module, "PANEL", 50)
    alone, three = motion(), motion(threads=3)
    rng = np.random.default_rng(3)
    residual, forces = rng.normal(size=alone.shape), rng.normal(size=(TILTS, PARTICLES, 3))
    inverse = alone.near_inverse(information(), 2.0, followed())
    step, offsets = alone.step(inverse, residual, forces)
    expected = inverse.solve(residual + alone.adjoint(forces))
    np.testing.assert_allclose(step, expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(offsets, alone.offsets_px(step), atol=1e-5 * np.abs(offsets).max())
    others = three.step(three.near_inverse(information(), 2.0, followed()), residual, forces)
    np.testing.assert_array_equal(step, others[0])
    np.testing.assert_array_equal(offsets, others[1])


def test_whitening_inverts_the_making_of_velocities_of_noise() -> None:
    process, values = motion(), np.random.default_rng(2).normal(size=(PARTICLES, 7))
    forward, back = process.predictions.whitening
    made, pulled = values.copy(), values.copy()
    process.predictions.apply(neighbour_kernels.correlate, made, 1)
    process.predictions.apply(neighbour_kernels.correlate_transposed, pulled, 1)
    np.testing.assert_allclose(forward.times(made, 1), values, atol=1e-9)
    np.testing.assert_allclose(back.times(pulled, 1), values, atol=1e-9)


def test_particles_at_one_place_move_alike() -> None:
    same = positions(100)
    same[50:] = same[:50]
    process = NeighbourMotion.build(
        same, chronological(), sigma_velocity_px=SIGMA_PX, sigma_distance_px=DISTANCE_PX
    )
    moved = process.offsets_px(np.random.default_rng(2).normal(size=process.shape))
    np.testing.assert_allclose(moved[:, :50], moved[:, 50:], atol=0.01)


def test_a_run_finds_the_trajectories_that_the_complete_covariance_leads_to(
    mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(mini)
    paths_angstrom = {}
    for name, many in (("neighbours", 1), ("complete", 1000)):
        monkeypatch.setattr(motion_models, "MANY", many)
        folder = tmp_path / name
        options = ["--b", "48", "--r", "6", "--motion", "--device", "cpu", "--no_report"]
        assert run(["align", "--i", "optimisation_set.star", *options, "--o", str(folder)]) == 0
        tomogram = load(folder / "optimisation_set.star").tomogram("TS_01")
        trajectories = tomogram.particles.trajectories_px
        assert trajectories is not None
        paths_angstrom[name] = trajectories * tomogram.series.pixel_size_angstrom
    difference = paths_angstrom["neighbours"] - paths_angstrom["complete"]
    assert np.abs(paths_angstrom["complete"]).max() > 1
    assert np.sqrt(np.mean(difference**2)) < 0.01
