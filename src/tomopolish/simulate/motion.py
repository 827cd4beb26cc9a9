"""Particle trajectories drawn from the Gaussian-process prior of docs/dev/conventions.md."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from scipy.spatial.distance import cdist

from tomopolish.settings.simulation import PlantedMotion
from tomopolish.shapes import Array, Float, Int


@dataclass(frozen=True, kw_only=True, eq=False)
class ExposureSteps:
    """Order and dose of the tilt images, on which the velocities of particles depend.

    Attributes
    ----------
    chronological
        File index of the m-th exposed image.
    frame_dose
        Dose of a typical image, e⁻/Å².
    weights
        Variance of the motion in each step over that in a typical step (`TiltSeries.step_weights`); None: all
        steps are equal.
    """

    chronological: Int[Array, "F"]
    frame_dose: float
    weights: Float[Array, "T"] | None = None

    @property
    def scales(self) -> Float[Array, "T 1 1"]:
        """Standard deviation of each step's velocities over that of a typical step."""
        weights = np.ones(len(self.chronological) - 1) if self.weights is None else self.weights
        return np.sqrt(weights)[:, None, None]


def random_trajectories(
    motion: PlantedMotion,
    positions_px: Float[Array, "P 3"],
    steps: ExposureSteps,
    *,
    pixel_size_angstrom: float,
    rng: np.random.Generator,
) -> Float[Array, "P F 3"]:
    """Draw each particle's offset in each tilt image (file order), px; zero in the chronologically first.

    Velocities are independent in time; each component is a Gaussian process over the particles' positions
    with standard deviation frame dose · velocity scale / pixel size in a typical step.
    """
    sigma_velocity = steps.frame_dose * motion.velocity_scale / pixel_size_angstrom
    sigma_distance = steps.frame_dose * motion.distance_scale / pixel_size_angstrom
    distance = cdist(positions_px, positions_px) / sigma_distance
    correlation = np.exp(-(distance**2) if motion.squared_exponential else -distance)
    values, vectors = scipy.linalg.eigh(correlation)
    factor = vectors * np.sqrt(np.maximum(values, 0.0))
    drawn = rng.normal(size=(len(steps.chronological) - 1, *positions_px.shape))
    return _accumulated(sigma_velocity * (factor @ drawn) * steps.scales, steps.chronological)


def continued_trajectories(
    motion: PlantedMotion,
    positions_px: Float[Array, "P 3"],
    steps: ExposureSteps,
    *,
    earlier_px: Float[Array, "Q 3"],
    earlier_trajectories_px: Float[Array, "Q F 3"],
    pixel_size_angstrom: float,
    rng: np.random.Generator,
) -> Float[Array, "P F 3"]:
    """Draw the motion of further particles, conditional on that of earlier particles in the same specimen.

    Together they are a draw from the single Gaussian process that `random_trajectories` draws from.
    """
    sigma_velocity = steps.frame_dose * motion.velocity_scale / pixel_size_angstrom
    sigma_distance = steps.frame_dose * motion.distance_scale / pixel_size_angstrom

    def correlation(a: Array, b: Array) -> Array:
        distance = cdist(a, b) / sigma_distance
        return np.exp(-(distance**2) if motion.squared_exponential else -distance)

    across = correlation(positions_px, earlier_px)
    weights = across @ scipy.linalg.pinvh(correlation(earlier_px, earlier_px))
    values, vectors = scipy.linalg.eigh(correlation(positions_px, positions_px) - weights @ across.T)
    factor = vectors * np.sqrt(np.maximum(values, 0.0))
    known = np.swapaxes(np.diff(earlier_trajectories_px[:, steps.chronological], axis=1), 0, 1)
    drawn = rng.normal(size=(len(steps.chronological) - 1, *positions_px.shape))
    own = sigma_velocity * (factor @ drawn) * steps.scales
    return _accumulated(weights @ known + own, steps.chronological)


def _accumulated(velocity: Float[Array, "V P 3"], chronological: Int[Array, "F"]) -> Float[Array, "P F 3"]:
    trajectories = np.zeros((velocity.shape[1], len(chronological), 3))
    trajectories[:, chronological[1:]] = np.swapaxes(np.cumsum(velocity, axis=0), 0, 1)
    return trajectories
