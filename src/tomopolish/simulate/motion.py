"""Particle trajectories drawn from the Gaussian-process prior of docs/dev/conventions.md."""

from __future__ import annotations

import numpy as np
import scipy.linalg
from scipy.spatial.distance import cdist

from tomopolish.physics.exposure import step_weights
from tomopolish.settings.simulation import SimulationSettings
from tomopolish.shapes import Array, Float


def random_trajectories(
    settings: SimulationSettings,
    positions_px: Float[Array, "P 3"],
    pre_exposure: Float[Array, "F"],
    rng: np.random.Generator,
    *,
    earlier: tuple[Float[Array, "Q 3"], Float[Array, "Q F 3"]] | None = None,
) -> Float[Array, "P F 3"]:
    """Draw each particle's offset in each tilt image (file order), px; zero in the chronologically first.

    Velocities are independent in time; each component is a Gaussian process over the particles' positions
    with standard deviation frame dose · velocity scale / pixel size in a typical step. Without motion in the
    settings, all offsets are zero.

    Parameters
    ----------
    earlier
        Positions and trajectories of other particles in the same specimen. Together with them, the result is
        a draw from one Gaussian process.
    """
    trajectories = np.zeros((len(positions_px), len(pre_exposure), 3))
    motion, acquisition = settings.motion, settings.acquisition
    if motion is None:
        return trajectories
    sigma_velocity = acquisition.frame_dose * motion.velocity_scale / acquisition.pixel_size_angstrom
    sigma_distance = acquisition.frame_dose * motion.distance_scale / acquisition.pixel_size_angstrom

    def correlation(a: Array, b: Array) -> Array:
        distance = cdist(a, b) / sigma_distance
        return np.exp(-(distance**2) if motion.squared_exponential else -distance)

    chronological = np.argsort(pre_exposure, kind="stable")
    covariance = correlation(positions_px, positions_px)
    known: Array | float = 0.0
    if earlier is not None:
        earlier_px, earlier_trajectories_px = earlier
        across = correlation(positions_px, earlier_px)
        weights = across @ scipy.linalg.pinvh(correlation(earlier_px, earlier_px))
        covariance = covariance - weights @ across.T
        known = weights @ np.swapaxes(np.diff(earlier_trajectories_px[:, chronological], axis=1), 0, 1)
    values, vectors = scipy.linalg.eigh(covariance)
    factor = vectors * np.sqrt(np.maximum(values, 0.0))
    drawn = rng.normal(size=(len(chronological) - 1, *positions_px.shape))
    scales = np.sqrt(step_weights(pre_exposure))[:, None, None]
    velocity = known + sigma_velocity * (factor @ drawn) * scales
    trajectories[:, chronological[1:]] = np.swapaxes(np.cumsum(velocity, axis=0), 0, 1)
    return trajectories
