"""Pixel sizes that headers of MRC files state, compared with the one that counts: the tilt series'.

Nothing is computed with a header's pixel size. It tells whether a file belongs to the others, and many
programs leave it at 0 or 1.
"""

from __future__ import annotations

import math
from enum import Enum

SAME = 0.01  # headers state it in single precision, and people round it
ALIKE = 0.05  # calibrations differ by less, binning factors by more


class Agreement(Enum):
    """How a stated pixel size relates to the one that counts."""

    SAME = "same"
    NOT_SET = "not set"
    ALIKE = "alike"
    DIFFERENT = "different"


def compare_pixel_sizes(stated_angstrom: float, counting_angstrom: float) -> Agreement:
    """Compare a header's pixel size (0: none) with the one that counts, Å."""
    if math.isclose(stated_angstrom, counting_angstrom, rel_tol=SAME):
        return Agreement.SAME
    if stated_angstrom <= 0 or math.isclose(stated_angstrom, 1.0, rel_tol=1e-4):
        return Agreement.NOT_SET
    if math.isclose(stated_angstrom, counting_angstrom, rel_tol=ALIKE):
        return Agreement.ALIKE
    return Agreement.DIFFERENT


def times_binned(stated_angstrom: float, counting_angstrom: float) -> str:
    """Say how often pixels are binned, as " (binned 4 times)"; "" where that is no whole number."""
    factor = stated_angstrom / counting_angstrom
    nearest = round(factor)
    is_binned = nearest > 1 and math.isclose(factor, nearest, rel_tol=ALIKE)
    return f" (binned {nearest} times)" if is_binned else ""
