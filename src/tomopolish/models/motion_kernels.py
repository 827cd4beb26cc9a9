"""Compiled loops of motion over particles and tilt images: sums over time, and the order of the exposures.

The loops run on one thread, without Python's lock.
"""

from __future__ import annotations

from tomopolish.jit import kernel


@kernel()
def accumulate(coefficients, scales, sums):  # type: ignore[no-untyped-def]
    """Sum over time, up to each step, each times its scale: (K, T, 3) and (T,) to (K, 3T)."""
    modes, steps, _ = coefficients.shape
    for k in range(modes):
        for axis in range(3):
            total = 0.0
            for t in range(steps):
                total += scales[t] * coefficients[k, t, axis]
                sums[k, 3 * t + axis] = total


@kernel()
def place(moved, begin, chronological, offsets):  # type: ignore[no-untyped-def]
    """Place the offsets of some particles (n, 3T) by tilt image and particle, (F, P, 3).

    Parameters
    ----------
    begin : int, first of the particles
    chronological : (F,) int64, index of the m-th exposed tilt image; in the first, offsets are zero
    """
    for p in range(len(moved)):
        for m in range(len(chronological)):
            for axis in range(3):
                value = moved[p, 3 * (m - 1) + axis] if m > 0 else 0.0
                offsets[chronological[m], begin + p, axis] = value


@kernel()
def gather(values, begin, chronological, gathered):  # type: ignore[no-untyped-def]
    """Transpose of `place`: collect the values of some particles, (F, P, 3) to (n, 3T)."""
    for m in range(1, len(chronological)):
        for p in range(len(gathered)):
            for axis in range(3):
                gathered[p, 3 * (m - 1) + axis] = values[chronological[m], begin + p, axis]


@kernel()
def suffix_sums(values, chronological, scales, sums):  # type: ignore[no-untyped-def]
    """Sum over all later tilt images, the transpose of `accumulate` and `place`: (F, P, 3) to (P, 3T)."""
    steps = len(chronological) - 1
    for p in range(len(sums)):
        for axis in range(3):
            total = 0.0
            for m in range(steps, 0, -1):
                total += values[chronological[m], p, axis]
                sums[p, 3 * (m - 1) + axis] = scales[m - 1] * total
