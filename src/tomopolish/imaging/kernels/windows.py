"""Compiled loops over correlation windows."""

from __future__ import annotations

import numpy as np

from tomopolish.jit import kernel


@kernel(fastmath=True, error_model="numpy")
def mean_magnitudes(values, chosen, magnitude):  # type: ignore[no-untyped-def]
    """Write the mean magnitude of each chosen window's samples.

    Parameters
    ----------
    values : (P, n, n) float32
    chosen : (C,) int64, rows of `values`
    magnitude : (C,) float64, written
    """
    for i in range(len(chosen)):
        window, total = values[chosen[i]].reshape(-1), np.float32(0)
        for sample in range(len(window)):
            total += abs(window[sample])
        magnitude[i] = total / len(window)
