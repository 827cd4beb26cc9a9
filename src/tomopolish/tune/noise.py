"""How large the measurements' errors really are: by tilt image, and by how crowded a particle is.

Correlation windows assume that images are a prediction plus noise of the measured spectrum. References carry
noise of their own, most in the first images, which show the finest detail, and other particles lie behind
and before one. Left as it is, what this adds to the errors would be taken for motion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls
from scipy.spatial.distance import cdist

from tomopolish.shapes import Float
from tomopolish.tune.kalman import smoothed_errors
from tomopolish.tune.linear import LinearTomogram
from tomopolish.tune.prior import MotionPrior

Array = np.ndarray

ROUNDS = 4
PRIOR_COORDINATES = 10.0
"""A tilt image's noise is drawn towards the average as if that had been seen in so many coordinates."""

REACH = 0.25
"""Distance over which particles disturb each other, in boxes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NoiseModel:
    """Variance of errors over what the weights take it to be: frame · (1 + slope · crowding).

    Attributes
    ----------
    frames
        Of uncrowded particles in each tilt image, order of exposure.
    slope
        Growth with crowding.
    """

    frames: Float[Array, "F"]
    slope: float

    def variances(self, crowding: Sequence[Float[Array, "V"]]) -> list[Float[Array, "V"]]:
        """Variance of each pair's errors, by tilt image."""
        return [phi * (1 + self.slope * c) for phi, c in zip(self.frames, crowding, strict=True)]


def crowding(
    positions_2d_px: Float[Array, "F P 2"], all_positions_2d_px: Float[Array, "F Q 2"], box_px: int
) -> Float[Array, "F P"]:
    """Count the other particles that overlap with each one in each tilt image, by their distance.

    Parameters
    ----------
    positions_2d_px
        Of the particles in question, which are among `all_positions_2d_px`.
    """
    reach = REACH * box_px
    found = np.empty(positions_2d_px.shape[:2])
    for f, (some, every) in enumerate(zip(positions_2d_px, all_positions_2d_px, strict=True)):
        found[f] = np.exp(-cdist(some, every, "sqeuclidean") / reach**2).sum(axis=1) - 1.0
    return np.maximum(found, 0.0)


def no_crowding(tomogram: LinearTomogram) -> NoiseModel:
    """Return the noise that the weights assume."""
    return NoiseModel(frames=np.ones(len(tomogram.frames)), slope=0.0)


def fit_noise(
    tomogram: LinearTomogram,
    crowded: Sequence[Float[Array, "V"]],
    prior: MotionPrior,
    start: NoiseModel,
    rounds: int = ROUNDS,
) -> NoiseModel:
    """Fit the noise under a motion prior, by MacKay's fixed point: errors found over errors expected.

    Parameters
    ----------
    tomogram
        Measurements as the weights take them to be.
    crowded
        Crowding of each measured pair, by tilt image.
    """
    model = start
    for _ in range(rounds):
        found = smoothed_errors(tomogram.with_noise(model.variances(crowded)), prior)
        squares = np.array([e.squares.sum() for e in found])
        expected = np.array([e.expected.sum() for e in found])
        overall = squares.sum() / max(expected.sum(), 1e-12)
        growth = (squares + PRIOR_COORDINATES * overall) / (expected + PRIOR_COORDINATES)
        slope = _slope(model, [e.squares for e in found], [e.expected for e in found], growth, crowded)
        frames = model.frames * growth
        # one change at a time: the slope takes its share of the variance away from the frames
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
    """Weighted regression of the errors found, over a tilt image's, on crowding."""
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
