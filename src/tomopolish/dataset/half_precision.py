"""Conversion of half-precision images (MRC mode 12) to float32, several times faster than NumPy's."""

from __future__ import annotations

import numpy as np

from tomopolish.jit import kernel
from tomopolish.shapes import Array

BLOCK = 4096
"""Numbers in a block, which stay in the first cache between two steps."""

_WITHOUT_SIGN, _SIGN = np.uint32(0x7FFF), np.uint32(0x8000)
_UP, _TO_TOP = np.uint32(13), np.uint32(16)
_INFINITE = np.uint32(0x7C00)
# A half's exponent and digits, in float32's places, give a number too small by 2^(15 − 127).
_SCALE = np.float32(2.0**112)


def widen(halves: Array, out: Array) -> None:
    """Convert float16 in the machine's byte order to float32, exactly; both contiguous, of equal size."""
    flat = out.reshape(-1)
    if not _widen(halves.view(np.uint16).reshape(-1), flat.view(np.uint32), flat):
        out[...] = halves


@kernel()
def _widen(halves, bits, out):  # type: ignore[no-untyped-def]
    """Write halves, given by their bits, as float32; returns whether all are finite, since others are wrong.

    `bits` are those of `out`. Numbers below the smallest normal half are exact, too: their intermediate value
    is a float32.
    """
    largest = np.uint32(0)
    for first in range(0, len(halves), BLOCK):
        last = min(first + BLOCK, len(halves))
        part, placed, scaled = halves[first:last], bits[first:last], out[first:last]
        for i in range(len(part)):
            half = np.uint32(part[i])
            size = np.uint32(half & _WITHOUT_SIGN)
            placed[i] = np.uint32(size << _UP) | np.uint32(np.uint32(half & _SIGN) << _TO_TOP)
            largest = max(largest, size)
        for i in range(len(scaled)):
            scaled[i] *= _SCALE
    return largest < _INFINITE  # larger patterns are infinity and NaN
