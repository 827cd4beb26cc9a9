"""Compiled loops between float32 samples and 16-bit integers (`imaging.packed`)."""

from __future__ import annotations

import numpy as np

from tomopolish.jit import kernel

LARGEST = np.float32(32767)


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
