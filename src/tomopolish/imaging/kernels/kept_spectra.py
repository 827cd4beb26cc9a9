"""Compiled loops between spectra of boxes and the 8-bit integers that are kept (`imaging.kept_spectra`)."""

from __future__ import annotations

import numpy as np

from tomopolish.jit import kernel

LARGEST = np.float32(127)


@kernel(fastmath=True, error_model="numpy")
def keep(spectra, place, weight, numbers, units):  # type: ignore[no-untyped-def]
    """Round each pair's weighted frequencies to multiples of the largest magnitude of their parts / 127.

    Parameters
    ----------
    spectra : (B, 2, 2, R, C) float32, see `kernels.boxes.box_spectra`
    place : (K,) int64, index of each frequency in a flat plane (2, R, C)
    weight : (K,) float32
    numbers : (B, 2, K) int8, written
    units : (B,) float32, written
    """
    values = np.empty((2, len(place)), np.float32)
    for b in range(len(spectra)):
        largest = np.float32(1e-30)
        for part in range(2):
            plane, listed = spectra[b, part].reshape(-1), values[part]
            for i in range(len(place)):
                listed[i] = plane[place[i]] * weight[i]
            for i in range(len(place)):
                largest = max(largest, abs(listed[i]))
        units[b] = largest / LARGEST
        per_unit = LARGEST / largest
        for part in range(2):
            listed, target = values[part], numbers[b, part]
            for i in range(len(place)):
                target[i] = np.int8(np.rint(listed[i] * per_unit))


@kernel(fastmath=True, error_model="numpy")
def read(numbers, units, pairs, weighted):  # type: ignore[no-untyped-def]
    """Write the weighted frequencies of some pairs.

    Parameters
    ----------
    numbers, units : as `keep` writes them
    pairs : (b,) int64, indices of the pairs
    weighted : (b, 2, K) float32, written
    """
    for b in range(len(pairs)):
        unit = units[pairs[b]]
        for part in range(2):
            source, target = numbers[pairs[b], part], weighted[b, part]
            for i in range(len(target)):
                target[i] = unit * np.float32(source[i])
