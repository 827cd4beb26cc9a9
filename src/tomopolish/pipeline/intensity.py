"""The factor by which references must be multiplied to fit the images."""

from __future__ import annotations

import numpy as np

from tomopolish.imaging.windows import CorrelationWindows
from tomopolish.shapes import Float, Int
from tomopolish.solve.problem import pair_values
from tomopolish.solve.refine import Refinement

Array = np.ndarray

SCALE_TOLERANCE = 1.5
SCALE_CORRECTIONS = 3
SEARCHED_AGAIN = 4.0
"""Change of the intensity, as a factor, from which on the next fit begins with another search."""


def ratio(factors: Float[Array, "S"]) -> Float[Array, "S"]:
    """Return factors, or their inverse where they are below 1."""
    return np.maximum(factors, 1 / np.maximum(factors, 1e-12))


def intensity_scales(
    windows: CorrelationWindows, refinement: Refinement, owner: Int[Array, "P"]
) -> Float[Array, "S"]:
    """Return the factor of each species' predictions that fits the images best.

    Weighted least squares of the images on the predictions at the solution: the log-likelihood gained over
    the predictions' own weighted power.
    """
    gained = pair_values(refinement.problem, refinement.vector)
    power = np.where(windows.visible, windows.power, 0.0)
    if refinement.problem.pair_weights is not None:
        gained, power = gained * refinement.problem.pair_weights, power * refinement.problem.pair_weights
    gained, power = gained.sum(axis=0), power.sum(axis=0)
    gained, power = np.bincount(owner, weights=gained), np.bincount(owner, weights=power)
    return np.divide(gained, power, out=np.ones_like(power), where=power > 0)
