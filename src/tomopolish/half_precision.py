"""Half-precision images (MRC mode 12) as float32, several times faster than numpy converts them."""

from __future__ import annotations

from functools import cache

import numpy as np

from tomopolish.compiled import kernel

Array = np.ndarray


def widen(halves: Array, out: Array) -> bool:
    """Convert float16 in the machine's byte order to float32, exactly; both contiguous, of equal size.

    Returns
    -------
    Whether all are finite numbers.
    """
    return bool(_look_up(halves.view(np.uint16).reshape(-1), _table(), out.reshape(-1)))


@cache
def _table() -> Array:
    """All halves there are: they fit into the second cache."""
    return np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)


@kernel()
def _look_up(bits, table, out):  # type: ignore[no-untyped-def]
    largest = np.uint16(0)
    for i in range(np.uint64(len(bits))):
        out[i] = table[np.uint64(bits[i])]
        largest = max(largest, np.uint16(bits[i] & np.uint16(0x7FFF)))
    return largest < np.uint16(0x7C00)  # from there on infinity, and what is no number
