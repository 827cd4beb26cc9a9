"""Compiled loop that adds up correlation windows, each shifted by its own displacement."""

from __future__ import annotations

import numpy as np

from tomopolish.jit import kernel


@kernel(fastmath=True, error_model="numpy")
def add_shifted(coefficients, units, visible, first_x, first_y, weights_x, weights_y, out):  # type: ignore[no-untyped-def]
    """Add every visible window of one tilt image, interpolated, to `out`; windows are zero outside.

    Parameters
    ----------
    coefficients : (P, n, n) int16, multiples of units : (P,) float32
    visible : (P,) bool
    first_x, first_y : (P,) int64, first of the four coefficients for sample (0, 0) of `out`
    weights_x, weights_y : (P, 4) float32
    out : (m, m) float32, added to
    """
    size, samples = coefficients.shape[1], out.shape[0]
    # Zeros on both sides and a width of complete vectors: rows need no special cases.
    length = (samples + 15) // 16 * 16
    blended = np.zeros(2 * (length + 4) + size, np.float32)
    begin = np.int64(length + 4)
    for p in range(len(visible)):
        first = begin + first_x[p]
        if not visible[p] or first < 0 or first_x[p] > size:
            continue
        w0, w1, w2, w3 = weights_x[p, 0], weights_x[p, 1], weights_x[p, 2], weights_x[p, 3]
        for y in range(samples):
            top = first_y[p] + y
            if top <= -4 or top >= size:
                continue
            blended[begin : begin + size] = 0
            for j in range(max(0, -top), min(4, size - top)):
                row, w = coefficients[p, top + j], weights_y[p, j] * units[p]
                for x in range(size):
                    blended[begin + x] += w * np.float32(row[x])
            line = out[y]
            for x in range(samples):
                i = np.uint64(first + x)
                line[x] += (
                    w0 * blended[i]
                    + w1 * blended[i + np.uint64(1)]
                    + w2 * blended[i + np.uint64(2)]
                    + w3 * blended[i + np.uint64(3)]
                )
