"""Gauss–Newton steps with the particles eliminated, against dense linear algebra."""

from __future__ import annotations

import numpy as np
import pytest

from tomopolish.physics.geometry import rotation_from_vector
from tomopolish.solve.joint import (
    JointPrior,
    NormalEquations,
    estimated_mean,
    estimated_width,
    estimated_widths,
    joint_step,
    without_net_turn,
)

TILTS, PARTICLES, SIZE = 4, 5, 8


def equations(rng: np.random.Generator) -> tuple[NormalEquations, np.ndarray, np.ndarray]:
    """Random equations, and the same as one matrix and one vector: particles, then tilt images."""
    own, shared = PARTICLES * 6, TILTS * SIZE
    J = np.zeros((PARTICLES, TILTS, 12, own + shared))
    for p in range(PARTICLES):
        for f in range(TILTS):
            J[p, f, :, 6 * p : 6 * p + 6] = rng.normal(size=(12, 6))
            J[p, f, :, own + SIZE * f : own + SIZE * (f + 1)] = rng.normal(size=(12, SIZE))
    H = np.einsum("pfki,pfkj->ij", J, J)
    g = rng.normal(size=own + shared)
    index = np.arange(PARTICLES)
    blocks = H[:own, :own].reshape(PARTICLES, 6, PARTICLES, 6)[index, :, index]
    tilts = H[own:, own:].reshape(TILTS, SIZE, TILTS, SIZE)[np.arange(TILTS), :, np.arange(TILTS)]
    return (
        NormalEquations(
            particles=blocks,
            particle_gradient=g[:own].reshape(PARTICLES, 6),
            tilts=tilts,
            tilt_gradient=g[own:].reshape(TILTS, SIZE),
            cross=H[:own, own:].reshape(PARTICLES, 6, TILTS, SIZE),
            log_likelihood=np.zeros(PARTICLES),
        ),
        H,
        g,
    )


@pytest.mark.parametrize("fixed", [False, True])
def test_the_step_is_that_of_all_unknowns_together(fixed: bool) -> None:
    rng = np.random.default_rng(3)
    found, H, g = equations(rng)
    own_free, shared_free = np.ones(6, dtype=bool), np.ones((TILTS, SIZE), dtype=bool)
    if fixed:
        own_free[:2], shared_free[1], shared_free[:, 5] = False, False, False
    prior = JointPrior(
        particle_precision=rng.uniform(0.5, 2, (PARTICLES, 6)),
        tilt_precision=rng.uniform(0.5, 2, (TILTS, SIZE)),
        particle_free=own_free,
        tilt_free=shared_free,
    )
    own, shared = rng.normal(size=(PARTICLES, 6)), rng.normal(size=(TILTS, SIZE))
    step = joint_step(found, prior, own, shared)
    precision = np.concatenate([prior.particle_precision.ravel(), prior.tilt_precision.ravel()])
    free = np.concatenate([np.tile(own_free, PARTICLES), shared_free.ravel()])
    gradient = (g - precision * np.concatenate([own.ravel(), shared.ravel()]))[free]
    inverse = np.linalg.inv((H + np.diag(precision))[np.ix_(free, free)])
    expected, variance = np.zeros(len(free)), np.zeros(len(free))
    expected[free], variance[free] = inverse @ gradient, np.diag(inverse)
    joined = np.concatenate([step.particles.ravel(), step.tilts.ravel()])
    np.testing.assert_allclose(joined, expected, atol=1e-7)
    joined = np.concatenate([step.particle_variance.ravel(), step.tilt_variance.ravel()])
    np.testing.assert_allclose(joined, variance, atol=1e-7)
    assert step.predicted == pytest.approx(0.5 * gradient @ inverse @ gradient)


def test_variances_without_the_net_turn_are_those_of_turns_without_their_mean() -> None:
    rng = np.random.default_rng(8)
    found, H, _ = equations(rng)
    prior = JointPrior(
        particle_precision=rng.uniform(0.5, 2, (PARTICLES, 6)),
        tilt_precision=rng.uniform(0.5, 2, (TILTS, SIZE)),
        particle_free=np.ones(6, dtype=bool),
        tilt_free=np.ones((TILTS, SIZE), dtype=bool),
    )
    frames = rotation_from_vector(rng.normal(size=(PARTICLES, 3)))
    departures = np.zeros((PARTICLES, 6)), np.zeros((TILTS, SIZE))
    step = joint_step(found, prior, *departures, frames=frames)
    precision = np.concatenate([prior.particle_precision.ravel(), prior.tilt_precision.ravel()])
    covariance = np.linalg.inv(H + np.diag(precision))
    everyone = np.ones(PARTICLES, dtype=bool)

    def left(vectors: np.ndarray) -> np.ndarray:
        """Take the mean turn out of each column."""
        result = vectors.copy()
        blocks = result[: 6 * PARTICLES].reshape(PARTICLES, 6, -1)
        blocks[:, :3] = without_net_turn(blocks[:, :3], frames, everyone)
        return result

    expected = np.diag(left(left(covariance).T))
    np.testing.assert_allclose(step.particle_variance.ravel(), expected[: 6 * PARTICLES], atol=1e-7)
    common = np.swapaxes(frames, 1, 2) @ np.array([0.1, -0.2, 0.3])
    np.testing.assert_allclose(without_net_turn(common, frames, everyone), 0, atol=1e-15)
    plain = joint_step(found, prior, *departures)
    np.testing.assert_array_equal(step.particle_variance[:, 3:], plain.particle_variance[:, 3:])
    np.testing.assert_array_equal(step.tilt_variance, plain.tilt_variance)


def test_the_rise_of_a_step_is_that_of_the_quadratic_model() -> None:
    rng = np.random.default_rng(5)
    found, H, g = equations(rng)
    own, shared = rng.normal(size=(PARTICLES, 6)), rng.normal(size=(TILTS, SIZE))
    step = np.concatenate([own.ravel(), shared.ravel()])
    assert found.rise(own, shared) == pytest.approx(step @ g - step @ H @ step / 2)


@pytest.mark.parametrize("true", [0.0, 0.3, 2.0])
def test_the_width_of_a_prior_is_that_of_its_members(true: float) -> None:
    rng = np.random.default_rng(7)
    noise = rng.uniform(0.2, 1.0, 3000)
    measured = true * rng.normal(size=3000) + noise * rng.normal(size=3000)
    width = 1.0
    for _ in range(200):
        share = width**2 / (width**2 + noise**2)
        width = estimated_width(share * measured, share * noise**2, width, (1.0, 5.0))
    assert width == pytest.approx(true, abs=0.12 if true == 0 else 0.05 * max(true, 1))


def test_a_width_does_not_depend_on_the_one_before() -> None:
    rng = np.random.default_rng(9)
    measured, noise = rng.normal(size=20) * 2.0, rng.uniform(0.5, 3.0, 20)
    found = []
    for width in (0.01, 1.0, 30.0):
        share = width**2 / (width**2 + noise**2)
        found.append(estimated_width(share * measured, share * noise**2, width, (1.0, 40.0)))
    np.testing.assert_allclose(found, found[0], rtol=1e-6)


def test_members_lie_as_far_off_as_their_width_and_errors_say() -> None:
    """Few members with large errors, whose true widths vary: their most probable width is often zero."""
    rng = np.random.default_rng(10)
    squares = []
    for _ in range(400):
        true = np.abs(rng.standard_cauchy()) * 20.0
        if true > 100.0:
            continue
        noise = rng.uniform(20.0, 70.0, 20)
        departures = true * rng.normal(size=20)
        measured, width = departures + noise * rng.normal(size=20), 20.0
        for _ in range(2):
            share = width**2 / (width**2 + noise**2)
            width = estimated_width(share * measured, share * noise**2, width, (20.0, 100.0))
        share = width**2 / (width**2 + noise**2)
        squares.append(np.mean((share * measured - departures) ** 2 / (share * noise**2)))
    assert np.sqrt(np.mean(squares)) == pytest.approx(1.0, abs=0.15)


def test_without_data_a_width_is_that_of_its_own_prior() -> None:
    fine = np.linspace(0, 5.0, 200_001)
    prior = 1 / (1 + fine**2)
    expected = np.sqrt(np.sum(prior * fine**2) / np.sum(prior))
    for width in (0.3, 1.0):
        assert estimated_width(np.zeros(4), np.full(4, width**2), width, (1.0, 5.0)) == pytest.approx(
            expected, rel=0.02
        )
    assert estimated_width(np.full(4, 90.0), np.full(4, 1e-4), 1.0, (1.0, 5.0)) == pytest.approx(
        5.0, rel=0.01
    )
    certain = estimated_width(np.zeros(40), np.full(40, 1e-6), 1.0, (1.0, 5.0))
    assert certain < 1e-3


def test_groups_without_members_have_the_widths_of_their_prior() -> None:
    none = np.zeros((0, 3))
    together, each = estimated_widths(none, none, np.zeros(0, dtype=np.int64), (1.0, 2.0), (1.0, 5.0))
    assert each == (together, together)
    assert together == pytest.approx(estimated_width(np.zeros(4), np.ones(4), 1.0, (1.0, 5.0)))


def test_each_group_has_the_width_that_its_members_show_and_small_ones_that_of_all() -> None:
    rng = np.random.default_rng(5)
    owner = np.repeat([0, 1, 2], [400, 400, 1])
    true, noise = np.array([1.0, 4.0, 1.0])[owner][:, None], 0.5
    measured = rng.normal(size=(len(owner), 3)) * np.hypot(true, noise)
    together, widths = 2.0, (2.0, 2.0, 2.0)
    for _ in range(20):
        prior = np.repeat(np.square(widths)[owner][:, None], 3, axis=1)
        share = prior / (prior + noise**2)
        together, widths = estimated_widths(share * measured, share * noise**2, owner, widths, (3.0, 9.0))
    np.testing.assert_allclose(widths[:2], [1.0, 4.0], rtol=0.05)
    assert abs(together - np.sqrt(8.5)) < 0.2 and abs(widths[2] - together) < 0.25 * together
    alone = estimated_widths(measured[:400], np.full((400, 3), 0.1), owner[:400], (2.0,), (3.0, 9.0))
    assert alone == (estimated_width(measured[:400].ravel(), np.full(1200, 0.1), 2.0, (3.0, 9.0)), ())


def test_the_mean_of_a_prior_and_its_members_are_most_probable_together() -> None:
    rng, members = np.random.default_rng(8), 7
    roots = rng.normal(size=(members, 2, 2))
    curvature = roots @ np.swapaxes(roots, 1, 2)
    curvature[2] = 0  # an image that says nothing
    gradient = np.einsum("nij,nj->ni", curvature, rng.normal(size=(members, 2)))
    precision, of_mean, mean = np.array([3.0, 40.0]), np.array([0.5, 0.02]), np.array([0.7, -2.0])
    prior = np.diag(precision)

    # All members and the mean as the unknowns of one system, and members alone at the present mean.
    size = 2 * members
    system, right = np.zeros((size + 2, size + 2)), np.zeros(size + 2)
    alone = np.zeros((members, 2))
    for i in range(members):
        own = slice(2 * i, 2 * i + 2)
        system[own, own] = curvature[i] + prior
        system[own, size:] = system[size:, own] = -prior
        system[size:, size:] += prior
        right[own] = gradient[i]
        alone[i] = np.linalg.solve(curvature[i] + prior, gradient[i] + prior @ mean)
    system[size:, size:] += np.diag(of_mean)
    expected = np.linalg.solve(system, right)

    change, follow = estimated_mean(curvature, precision, alone - mean, (of_mean, mean))
    np.testing.assert_allclose(mean + change, expected[size:])
    np.testing.assert_allclose(alone + follow, expected[:size].reshape(members, 2))
