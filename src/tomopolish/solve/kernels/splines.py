"""Compiled loop from samples to the coefficients of B-splines through them."""

from __future__ import annotations

import numpy as np

from tomopolish.jit import inlined, kernel


@inlined(fastmath=True, error_model="numpy")
def _solve(rows, ratio, pivot):  # type: ignore[no-untyped-def]
    """Replace rows r by the solution c of (c[i − 1] + 4 c[i] + c[i + 1]) / 6 = r[i]; c is zero outside."""
    sixth = np.float32(1 / 6)
    first, scale = rows[0], pivot[0]
    for k in range(len(first)):
        first[k] *= scale
    for i in range(1, len(rows)):
        row, before, scale = rows[i], rows[i - 1], pivot[i]
        for k in range(len(row)):
            row[k] = (row[k] - sixth * before[k]) * scale
    for i in range(len(rows) - 2, -1, -1):
        row, after, part = rows[i], rows[i + 1], ratio[i]
        for k in range(len(row)):
            row[k] -= part * after[k]


@kernel(fastmath=True, error_model="numpy")
def spline_coefficients(samples, fade, ratio, pivot, coefficients):  # type: ignore[no-untyped-def]
    """Compute the coefficients of the B-splines through faded samples.

    A spline's value at a sample is 1/6, 4/6 and 1/6 of three coefficients along either axis. Both tridiagonal
    systems are solved by Gaussian elimination, for all columns of a window at once.

    Parameters
    ----------
    samples : (P, n, n) float32
    fade : (n,) float32, factor of the samples along either axis
    ratio, pivot : (n,) float32, of the elimination (`surface.elimination`)
    coefficients : (P, n, n) float32, written
    """
    size = len(fade)
    turned = np.empty((size, size), np.float32)
    for p in range(len(samples)):
        window, result = samples[p], coefficients[p]
        for y in range(size):
            source, row, scale = window[y], result[y], fade[y]
            for x in range(size):
                row[x] = source[x] * scale * fade[x]
        _solve(result, ratio, pivot)
        for y in range(size):
            for x in range(size):
                turned[x, y] = result[y, x]
        _solve(turned, ratio, pivot)
        for y in range(size):
            for x in range(size):
                result[y, x] = turned[x, y]
