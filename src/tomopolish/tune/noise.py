"""Estimation of the measurements' errors, by tilt image and by the crowding of a particle.

Correlation windows assume that images are a prediction plus noise of the measured spectrum. The noise of the
references, which has most effect in the first images with their finest detail, and overlapping particles add
to the errors. Without a correction, these additional errors would be taken for motion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls
from scipy.spatial.distance import cdist

from tomopolish.shapes import Array, Float
from tomopolish.tune.kalman import smoothed_errors
from tomopolish.tune.linear import LinearTomogram
from tomopolish.tune.prior import MotionPrior

ROUNDS = 4
PRIOR_COORDINATES = 10.0
"""Weight of the average noise in the estimate for a tilt image, in coordinates."""

REACH = 0.25
"""Distance over which particles disturb each other, in boxes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NoiseModel:
    """Variance of errors divided by that assumed in the weights: frame · (1 + slope · crowding).

    Attributes
    ----------
    frames
        Variance for uncrowded particles in each tilt image, in order of exposure.
    slope
        Relative growth of the variance with crowding.
    """

    frames: Float[Array, "F"]
    slope: float

    def variances(self, crowding: Sequence[Float[Array, "V"]]) -> list[Float[Array, "V"]]:
        """Return the variance of each pair's errors, by tilt image."""
        return [phi * (1 + self.slope * c) for phi, c in zip(self.frames, crowding, strict=True)]


def crowding(
    positions_2d_px: Float[Array, "F P 2"], all_positions_2d_px: Float[Array, "F Q 2"], box_px: int
) -> Float[Array, "F P"]:
    """Count the particles that overlap with each particle in each tilt image, weighted by distance.

    Parameters
    ----------
    positions_2d_px
        Positions of the particles to count for, which are among `all_positions_2d_px`.
    """
    reach = REACH * box_px
    count = np.empty(positions_2d_px.shape[:2])
    for f, (some, every) in enumerate(zip(positions_2d_px, all_positions_2d_px, strict=True)):
        count[f] = np.exp(-cdist(some, every, "sqeuclidean") / reach**2).sum(axis=1) - 1.0
    return np.maximum(count, 0.0)


def no_crowding(tomogram: LinearTomogram) -> NoiseModel:
    """Return the noise model that the weights assume."""
    return NoiseModel(frames=np.ones(len(tomogram.frames)), slope=0.0)


def fit_noise(
    tomogram: LinearTomogram,
    crowded: Sequence[Float[Array, "V"]],
    prior: MotionPrior,
    start: NoiseModel,
    rounds: int = ROUNDS,
) -> NoiseModel:
    """Fit the noise under a motion prior, by MacKay's fixed point: observed over expected squared errors.

    Parameters
    ----------
    tomogram
        Measurements with the noise that the weights assume.
    crowded
        Crowding of each measured pair, by tilt image.
    """
    model = start
    for _ in range(rounds):
        errors = smoothed_errors(tomogram.with_noise(model.variances(crowded)), prior)
        squares, expected = (np.array([pairs.sum() for pairs in by_tilt]) for by_tilt in errors)
        overall = squares.sum() / max(expected.sum(), 1e-12)
        growth = (squares + PRIOR_COORDINATES * overall) / (expected + PRIOR_COORDINATES)
        slope = _slope(model, *errors, growth, crowded)
        frames = model.frames * growth
        # The frames' factors keep their mean variance when the slope changes.
        before = _mean_factor(model.slope, crowded)
        model = NoiseModel(frames=frames * before / _mean_factor(slope, crowded), slope=slope)
    return model


def _mean_factor(slope: float, crowded: Sequence[Array]) -> Array:
    return np.array([1 + slope * float(c.mean()) if len(c) else 1.0 for c in crowded])


def _slope(
    model: NoiseModel,
    squares: Sequence[Array],
    expected: Sequence[Array],
    growth: Float[Array, "F"],
    crowded: Sequence[Array],
) -> float:
    """Return the slope of a weighted regression of errors, divided by their tilt image's, on crowding."""
    c = np.concatenate([*crowded, np.zeros(0)])
    factor = 1 + model.slope * c
    over = np.concatenate([*(s / g for s, g in zip(squares, growth, strict=True)), np.zeros(0)])
    weight = np.concatenate([*expected, np.zeros(0)])
    informed = weight > 1e-9
    if not informed.any() or not c.any():
        return 0.0
    c, factor, over, weight = c[informed], factor[informed], over[informed], weight[informed]
    root = np.sqrt(weight) / factor
    design = np.stack([root, root * c], axis=1)
    (alone, each), _ = nnls(design, root * factor * over / weight)
    return float(each / alone) if alone > 0 else model.slope
