"""Compiled loops of motion over particles and tilt images, which put values in the order of the exposures.

The loops run on one thread, without Python's lock.
"""

from __future__ import annotations

from tomopolish.jit import kernel


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
