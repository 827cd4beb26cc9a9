"""Particle trajectories drawn from the Gaussian-process prior of spec §6."""

from __future__ import annotations

import numpy as np
import scipy.linalg
from jaxtyping import Float, Int
from scipy.spatial.distance import cdist

from tomopolish.simulate.settings import PlantedMotion

Array = np.ndarray


def random_trajectories(
    motion: PlantedMotion,
    positions_px: Float[Array, "P 3"],
    chronological: Int[Array, "F"],
    *,
    frame_dose: float,
    pixel_size_angstrom: float,
    rng: np.random.Generator,
) -> Float[Array, "P F 3"]:
    """Draw each particle's offset in each tilt image (file order), px; zero in the chronologically first.

    Velocities are independent in time; each component is a Gaussian process over the particles' positions
    with standard deviation frame dose · velocity scale / pixel size.
    """
    sigma_velocity = frame_dose * motion.velocity_scale / pixel_size_angstrom
    sigma_distance = frame_dose * motion.distance_scale / pixel_size_angstrom
    distance = cdist(positions_px, positions_px) / sigma_distance
    correlation = np.exp(-(distance**2) if motion.squared_exponential else -distance)
    values, vectors = scipy.linalg.eigh(correlation)
    factor = vectors * np.sqrt(np.maximum(values, 0.0))
    frames = len(chronological)
    velocity = sigma_velocity * (factor @ rng.normal(size=(frames - 1, *positions_px.shape)))
    trajectories = np.zeros((len(positions_px), frames, 3))
    trajectories[:, chronological[1:]] = np.swapaxes(np.cumsum(velocity, axis=0), 0, 1)
    return trajectories
