"""Particle trajectories drawn from the Gaussian-process prior of docs/conventions.md."""

from __future__ import annotations

import numpy as np
import scipy.linalg
from scipy.spatial.distance import cdist

from tomopolish.settings.simulation import PlantedMotion
from tomopolish.shapes import Float, Int

Array = np.ndarray


def random_trajectories(
    motion: PlantedMotion,
    positions_px: Float[Array, "P 3"],
    chronological: Int[Array, "F"],
    *,
    frame_dose: float,
    pixel_size_angstrom: float,
    rng: np.random.Generator,
    step_weights: Float[Array, "T"] | None = None,
) -> Float[Array, "P F 3"]:
    """Draw each particle's offset in each tilt image (file order), px; zero in the chronologically first.

    Velocities are independent in time; each component is a Gaussian process over the particles' positions
    with standard deviation frame dose · velocity scale / pixel size in a typical step.

    Parameters
    ----------
    step_weights
        Variance in each step over that in a typical one (`TiltSeries.step_weights`); None: all are alike.
    """
    sigma_velocity = frame_dose * motion.velocity_scale / pixel_size_angstrom
    sigma_distance = frame_dose * motion.distance_scale / pixel_size_angstrom
    distance = cdist(positions_px, positions_px) / sigma_distance
    correlation = np.exp(-(distance**2) if motion.squared_exponential else -distance)
    values, vectors = scipy.linalg.eigh(correlation)
    factor = vectors * np.sqrt(np.maximum(values, 0.0))
    frames = len(chronological)
    velocity = sigma_velocity * (factor @ rng.normal(size=(frames - 1, *positions_px.shape)))
    return _accumulated(velocity * _scales(step_weights, frames), chronological)


def continued_trajectories(
    motion: PlantedMotion,
    positions_px: Float[Array, "P 3"],
    chronological: Int[Array, "F"],
    *,
    others_px: Float[Array, "Q 3"],
    others_trajectories_px: Float[Array, "Q F 3"],
    frame_dose: float,
    pixel_size_angstrom: float,
    rng: np.random.Generator,
    step_weights: Float[Array, "T"] | None = None,
) -> Float[Array, "P F 3"]:
    """Draw the motion of further particles, given that of others in the same specimen.

    All together they are a draw of the one Gaussian process that `random_trajectories` draws from.
    """
    sigma_velocity = frame_dose * motion.velocity_scale / pixel_size_angstrom
    sigma_distance = frame_dose * motion.distance_scale / pixel_size_angstrom

    def correlation(a: Array, b: Array) -> Array:
        distance = cdist(a, b) / sigma_distance
        return np.exp(-(distance**2) if motion.squared_exponential else -distance)

    across = correlation(positions_px, others_px)
    weights = across @ scipy.linalg.pinvh(correlation(others_px, others_px))
    values, vectors = scipy.linalg.eigh(correlation(positions_px, positions_px) - weights @ across.T)
    factor = vectors * np.sqrt(np.maximum(values, 0.0))
    known = np.swapaxes(np.diff(others_trajectories_px[:, chronological], axis=1), 0, 1)
    drawn = rng.normal(size=(len(chronological) - 1, *positions_px.shape))
    own = sigma_velocity * (factor @ drawn) * _scales(step_weights, len(chronological))
    return _accumulated(weights @ known + own, chronological)


def _scales(step_weights: Float[Array, "V"] | None, frames: int) -> Float[Array, "V 1 1"]:
    """Return the standard deviation of each step's velocities over that of a typical step."""
    weights = np.ones(frames - 1) if step_weights is None else step_weights
    return np.sqrt(weights)[:, None, None]


def _accumulated(velocity: Float[Array, "V P 3"], chronological: Int[Array, "F"]) -> Float[Array, "P F 3"]:
    trajectories = np.zeros((velocity.shape[1], len(chronological), 3))
    trajectories[:, chronological[1:]] = np.swapaxes(np.cumsum(velocity, axis=0), 0, 1)
    return trajectories
