"""Compiled loops between float32 numbers and integers (`imaging.packed`, `imaging.kept_spectra`)."""

from __future__ import annotations

import numpy as np

from tomopolish.jit import kernel

LARGEST, LARGEST_KEPT = np.float32(32767), np.float32(127)


@kernel(fastmath=True, error_model="numpy")
def pack(samples, numbers, units):  # type: ignore[no-untyped-def]
    """Round each item's samples to multiples of its largest magnitude / 32767.

    Parameters
    ----------
    samples : (P, n, n) float32
    numbers : (P, n, n) int16, written; not changed where all samples are 0
    units : (P,) float32, written; 0 where all samples are 0
    """
    for p in range(len(samples)):
        source, target, largest = samples[p].reshape(-1), numbers[p].reshape(-1), np.float32(0)
        for i in range(len(source)):
            largest = max(largest, abs(source[i]))
        # Tiny numbers, whose unit has no inverse, count as zero. Memory of pairs that are not visible stays
        # untouched, and so takes no space.
        units[p] = largest / LARGEST if largest > np.float32(1e-30) else np.float32(0)
        if units[p] == 0:
            continue
        per_unit = LARGEST / largest
        for i in range(len(source)):
            target[i] = np.int16(np.rint(source[i] * per_unit))


@kernel(fastmath=True, error_model="numpy")
def unpack(numbers, units, samples):  # type: ignore[no-untyped-def]
    """Multiply each item's numbers by its unit.

    Parameters
    ----------
    numbers : (P, n, n) int16
    units : (P,) float32
    samples : (P, n, n) float32, written
    """
    for p in range(len(samples)):
        source, target, unit = numbers[p].reshape(-1), samples[p].reshape(-1), units[p]
        for i in range(len(source)):
            target[i] = unit * np.float32(source[i])


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
        units[b] = largest / LARGEST_KEPT
        per_unit = LARGEST_KEPT / largest
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
