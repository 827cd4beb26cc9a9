"""Exposure of single tilt images, from the accumulated exposure that files state."""

from __future__ import annotations

import numpy as np

from tomopolish.shapes import Array, Bool, Float

EVEN_TOLERANCE = 1e-2
"""Relative difference below which exposures of images count as equal, because files round them."""


def image_exposures(accumulated: Float[Array, "F"]) -> Float[Array, "F"]:
    """Return the exposure of each image, in the unit of `accumulated`: up to that of the next image.

    Images with the same accumulated exposure share the step after it evenly. No step is stated after the last
    image: this image, and images that share its accumulated exposure, get the median of the exposures of the
    preceding images. All are zero where all accumulated exposures are equal, so that none can be determined.
    `accumulated` is the exposure before each image, ascending.
    """
    exposures = np.zeros(len(accumulated))
    if not len(accumulated) or accumulated[-1] == accumulated[0]:
        return exposures
    values, first, count = np.unique(accumulated, return_index=True, return_counts=True)
    shares = np.diff(values) / count[:-1]
    known = int(first[-1])
    exposures[:known] = np.repeat(shares, count[:-1])
    exposures[known:] = np.median(exposures[:known])
    return exposures


def typical_exposure(exposures: Float[Array, "F"]) -> float:
    """Return the median exposure; where all images have the same exposure, that of the first, unrounded."""
    if is_even(exposures):
        return float(exposures[0]) if len(exposures) else 0.0
    return float(np.median(exposures))


def is_even(exposures: Float[Array, "F"]) -> bool:
    """Return whether all images have the same exposure, up to rounding in files."""
    if not len(exposures):
        return True
    return bool(np.ptp(exposures) <= EVEN_TOLERANCE * np.abs(exposures).max())


def repeated(accumulated: Float[Array, "F"]) -> Bool[Array, "F"]:
    """Return which images share their accumulated exposure with another image; any order."""
    _, inverse, count = np.unique(accumulated, return_inverse=True, return_counts=True)
    shared: Array = count[inverse] > 1
    return shared


def step_weights(accumulated: Float[Array, "F"]) -> Float[Array, "T"]:
    """Return the exposure between each image and the next, divided by that of a typical image.

    The steps are in order of exposure, `accumulated` in any order. All are exactly 1 where all images have
    the same exposure, or where exposures cannot be determined.
    """
    exposures = image_exposures(np.sort(accumulated))
    if is_even(exposures):
        return np.ones(max(len(exposures) - 1, 0))
    weights: Array = exposures[:-1] / typical_exposure(exposures)
    return weights
