"""Standard errors of views and optics, against simulations whose errors are known."""

from __future__ import annotations

import numpy as np
import pytest

from tomopolish.imaging.derivatives import BFACTOR, DEFOCUS, GEOMETRY, PairDerivatives
from tomopolish.pipeline.joint.errors import ErrorSources, excess_variance, information_by_turns
from tomopolish.pipeline.joint.result import with_blur
from tomopolish.solve.joint import JointStep, NormalEquations

PARTICLES, IMAGES, RINGS = 400, 12, 40


class Turned:
    """Particles that a turn by θ changes ring by ring: the phase of a ring moves by its radius times θ.

    The structure lies within small radii, the noise of the two half maps at all radii alike. Each particle
    has half maps of its own, so that their errors are independent.
    """

    def __init__(self, map_noise: float) -> None:
        rng = np.random.default_rng(5)
        self.radius = np.linspace(1, 10, RINGS)
        size = (PARTICLES, RINGS)

        def draws(width: np.ndarray | float) -> np.ndarray:
            return width * (rng.normal(size=size) + 1j * rng.normal(size=size)) / np.sqrt(2)

        true = draws(np.exp(-(self.radius**2) / 18))
        self.maps = [true + draws(map_noise) for _ in range(2)]
        share = np.sum(np.abs(true) ** 2) / np.sum(np.abs(self.maps[0]) ** 2)
        self.maps = [share * half for half in self.maps]
        self.images = true + draws(1 / np.sqrt(IMAGES))  # mean over the images, at the true θ = 0

    def at(self, half: int, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return gradient and expected curvature of each particle's log-likelihood."""
        prediction = self.maps[half] * np.exp(1j * self.radius * theta[:, None])
        change = 1j * self.radius * prediction
        gradient = 2 * IMAGES * np.sum((np.conj(change) * (self.images - prediction)).real, axis=1)
        return gradient, 2 * IMAGES * np.sum(np.abs(change) ** 2, axis=1)

    def solved(self, half: int) -> np.ndarray:
        theta = np.zeros(PARTICLES)
        for _ in range(60):
            gradient, curvature = self.at(half, theta)
            theta = theta + gradient / curvature
        return theta

    def equations(self, half: int, theta: np.ndarray) -> NormalEquations:
        gradient, curvature = self.at(half, theta)
        result = NormalEquations.zero(1, PARTICLES, 3)
        result.particle_gradient[:, 0], result.particles[:, 0, 0] = gradient, curvature
        return result


@pytest.mark.parametrize(("map_noise", "least"), [(0.0, 0.9), (0.1, 1.15), (0.2, 1.3)])
def test_noise_of_half_maps_is_part_of_the_errors(map_noise: float, least: float) -> None:
    model = Turned(map_noise)
    theta = model.solved(0)
    own, other = (model.equations(half, theta) for half in (0, 1))
    curvature = own.particles[:, 0, 0]
    turns = np.zeros((PARTICLES, 6))
    turns[:, 0] = np.random.default_rng(6).choice([-1, 1], PARTICLES) / np.sqrt(curvature)
    everyone = np.arange(PARTICLES)
    information = information_by_turns(own, model.equations(0, theta + turns[:, 0]), turns, everyone)
    second = other.particle_gradient[:, 0] / other.particles[:, 0, 0]
    sources = ErrorSources(
        information=np.array([information]),
        by_maps=np.array([excess_variance(second, 1 / curvature)]),
        optics_by_maps=np.zeros(3),
        dispersion=1.0,
    )
    variance = np.zeros((PARTICLES, 6))
    variance[:, 0] = 1 / curvature
    step = JointStep(
        particles=np.zeros((PARTICLES, 6)),
        tilts=np.zeros((1, 8)),
        predicted=0.0,
        particle_variance=variance,
        tilt_variance=np.ones((1, 8)),
    )
    stated = np.sqrt(
        sources.applied_to(step, np.zeros(PARTICLES), np.zeros(PARTICLES, dtype=int)).particle_variance[:, 0]
    )
    by_curvature = np.sqrt(np.mean(theta**2 * curvature))
    assert by_curvature > least
    assert 0.85 < np.sqrt(np.mean((theta / stated) ** 2)) < 1.15


def test_what_a_prior_determines_has_its_width() -> None:
    sources = ErrorSources(
        information=np.array([0.5]), by_maps=np.zeros(1), optics_by_maps=np.full(3, 3.0), dispersion=1.0
    )
    step = JointStep(
        particles=np.zeros((1, 6)),
        tilts=np.zeros((1, 8)),
        predicted=0.0,
        particle_variance=np.full((1, 6), 0.25),
        tilt_variance=np.full((1, 8), 0.25),
    )
    for precision, expected in ((4.0, 0.25), (0.0, 1.0)):  # all by the prior, all by the images
        result = sources.applied_to(step, np.full(1, precision), np.zeros(1, dtype=int))
        np.testing.assert_allclose(result.particle_variance[0, :3], expected)
    np.testing.assert_allclose(result.particle_variance[0, 3:], 0.25)
    np.testing.assert_allclose(result.tilt_variance[0], [0.25] * GEOMETRY + [1.0] * 3)


def test_squared_gradients_of_pairs_are_one_for_each_unknown() -> None:
    rng = np.random.default_rng(2)
    roots = rng.normal(size=(3000, 8, 8))
    normal = roots @ np.swapaxes(roots, 1, 2)
    gradient = (roots @ rng.normal(size=(3000, 8, 1)))[..., 0]
    pairs = PairDerivatives(matched=gradient + normal[:, GEOMETRY], normal=normal)
    assert pairs.squares_without_shifts().mean() == pytest.approx(6, rel=0.03)


def test_b_factors_allow_for_the_blur_of_positions() -> None:
    rng = np.random.default_rng(3)
    variance, frequency = 0.6, 0.1  # Å² of both axes together, 1/Å
    off = rng.normal(size=(200_000, 2)) * np.sqrt(variance / 2)
    damping = np.mean(np.cos(2 * np.pi * frequency * off[:, 0]))
    bfactor = -4 * np.log(damping) / frequency**2
    sigmas = with_blur({BFACTOR: np.array([7.0, 0.0]), DEFOCUS: np.array([100.0])}, variance)
    np.testing.assert_allclose(sigmas[BFACTOR], [np.sqrt(49 + bfactor**2 / 3), 0.0], rtol=0.02)
    np.testing.assert_array_equal(sigmas[DEFOCUS], [100.0])
