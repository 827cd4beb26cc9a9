"""Compiled loop that lays correlation windows over one another, each shifted by its own displacement."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(nogil=True, cache=True, error_model="numpy")
def add_shifted(coefficients, visible, first_x, first_y, weights_x, weights_y, out):  # type: ignore[no-untyped-def]
    """Add every visible window of one tilt image, interpolated, to `out`; outside a window there is nothing.

    Parameters
    ----------
    coefficients : (P, n, n) float32
    visible : (P,) bool
    first_x, first_y : (P,) int64, first of the four coefficients that sample (0, 0) of `out` takes
    weights_x, weights_y : (P, 4) float64
    out : (m, m) float64, added to
    """
    size, samples = coefficients.shape[1], out.shape[0]
    blended = np.empty(size)
    for p in range(len(visible)):
        if not visible[p]:
            continue
        for y in range(samples):
            blended[:] = 0.0
            for j in range(4):
                row = first_y[p] + y + j
                if 0 <= row < size:
                    for x in range(size):
                        blended[x] += weights_y[p, j] * coefficients[p, row, x]
            for i in range(4):
                start = first_x[p] + i
                for x in range(max(0, -start), min(samples, size - start)):
                    out[y, x] += weights_x[p, i] * blended[start + x]
