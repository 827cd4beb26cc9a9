"""Pairs whose box holds more noise than their tilt image: gold beads, hot pixels, edges of the support.

The weights of frequencies assume one noise spectrum for a tilt image. A box that holds something else than
the specimen has a correlation window that is too large throughout, not at its peak only. Such a pair's noise
variance is estimated from its window, and its log-likelihood divided by it.
"""

from __future__ import annotations

import numpy as np

from tomopolish.imaging.held_out import HeldOutWindows
from tomopolish.imaging.kernels.compare import mean_magnitudes
from tomopolish.shapes import Array, Bool, Float, Float32

CLEAR = 3.0
PEAK_POWER = 200.0
"""A pair is weighted down where its noise variance exceeds the median of its tilt image's pairs by a factor
above `CLEAR` + power/`PEAK_POWER`: strong peaks and neighbours raise the mean magnitude of windows, too."""
FEWEST_PAIRS = 4
"""Minimum number of pairs of a tilt image that are compared with each other."""


def temper(
    values: Float32[Array, "P n n"],
    power: Float[Array, "P"],
    visible: Bool[Array, "P"],
    held_out: HeldOutWindows | None = None,
) -> Float[Array, "P"]:
    """Divide windows and power of one tilt image's pairs by their noise variance where that is clearly large.

    The variance is that of noise over the power of the prediction, from the mean magnitude of the window,
    which a peak hardly changes. It counts in units of the largest variance that is not clearly large, so that
    no pair's weight depends on the side of that limit on which it happens to lie.

    Parameters
    ----------
    values, power, held_out
        Changed in place.

    Returns
    -------
    The factor by which each particle's window was multiplied.
    """
    factors = np.ones(len(values))
    counted = np.flatnonzero(visible & (power > 0))
    if len(counted) < FEWEST_PAIRS:
        return factors
    magnitude = np.empty(len(counted))
    mean_magnitudes(values, counted, magnitude)
    variance = magnitude**2 / power[counted]
    median = float(np.median(variance))
    if median <= 0:  # most boxes are blank
        return factors
    largest = (CLEAR + power[counted] / PEAK_POWER) * median
    noisy = variance > largest
    if not noisy.any():
        return factors
    factors[counted[noisy]] = largest[noisy] / variance[noisy]
    for particle in counted[noisy]:
        values[particle] *= np.float32(factors[particle])
    power *= factors
    if held_out is not None and len(held_out):
        own = factors[held_out.particles]
        np.multiply(held_out.values, own.astype(np.float32)[:, None, None], out=held_out.values)
        np.multiply(held_out.power, own, out=held_out.power)
    return factors
