"""Numbers as text with six decimals, many at a time: what a thousand tomograms' trajectories are made of."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from tomopolish.jit import kernel
from tomopolish.shapes import Float

Array = np.ndarray

DECIMALS = 6
_EXACT_BELOW = 1e9
"""Below it a millionth is far above the spacing of double precision numbers."""
_LONGEST = 19  # bytes: sign, ten digits, the point, six digits, what separates


def print_rows(values: Float[Array, "P F n"]) -> list[str]:
    """Return for each of P items the text of F lines of n numbers, separated by spaces.

    The text is that of ``%.6f`` for the values rounded to six decimals; a negative zero loses its sign.
    """
    if not (np.abs(values) < _EXACT_BELOW).all():
        return _print_any(values)
    counted = np.rint(np.asarray(values, dtype=np.float64) * 10.0**DECIMALS).astype(np.int64)
    buffer: Array = np.empty(values.size * _LONGEST, dtype=np.uint8)
    ends: Array = np.zeros(len(values), dtype=np.int64)
    length = _fill(counted, buffer, ends)
    text = buffer[:length].tobytes().decode("ascii")
    bounds = [0, *ends.tolist()]
    return [text[start:stop] for start, stop in pairwise(bounds)]


def _print_any(values: Float[Array, "P F n"]) -> list[str]:
    """Print numbers of any size, and those that are none."""
    line = " ".join(["%.6f"] * values.shape[2]) + "\n"
    rounded = np.round(values, DECIMALS) + 0.0  # adding zero takes the sign of -0
    return [line * values.shape[1] % tuple(item.ravel().tolist()) for item in rounded]


@kernel()
def _fill(counted, buffer, ends):  # type: ignore[no-untyped-def]
    """Write whole millionths as decimal numbers; returns the length of the text.

    Parameters
    ----------
    counted : (P, F, n) int64
    buffer : (bytes,) uint8, filled
    ends : (P,) int64, receives where the text of each item stops
    """
    items, lines, numbers = counted.shape
    digits = np.empty(20, dtype=np.uint8)
    place = 0
    for p in range(items):
        for f in range(lines):
            for n in range(numbers):
                rest = counted[p, f, n]
                if rest < 0:
                    buffer[place] = 45  # -
                    place += 1
                    rest = -rest
                count = 0
                while rest > 0 or count <= DECIMALS:
                    digits[count] = 48 + rest % 10  # 0
                    rest //= 10
                    count += 1
                while count > 0:
                    count -= 1
                    buffer[place] = digits[count]
                    place += 1
                    if count == DECIMALS:
                        buffer[place] = 46  # .
                        place += 1
                buffer[place] = 32 if n + 1 < numbers else 10  # space, line end
                place += 1
        ends[p] = place
    return place
