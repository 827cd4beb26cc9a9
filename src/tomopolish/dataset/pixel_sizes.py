"""Comparison of pixel sizes in headers of MRC files with the tilt series', which is the one used.

Nothing is computed with a header's pixel size. It shows whether a file belongs to the set, but many
programs leave it at 0 or 1.
"""

from __future__ import annotations

import math
from enum import Enum

SAME = 0.01  # headers state it in single precision, and people round it
ALIKE = 0.05  # calibrations differ by less, binning factors by more


class Agreement(Enum):
    """Relation between a stated pixel size and the one that is used."""

    SAME = "same"
    NOT_SET = "not set"
    ALIKE = "alike"
    DIFFERENT = "different"


def compare_pixel_sizes(stated_angstrom: float, counting_angstrom: float) -> Agreement:
    """Compare a header's pixel size (0: none) with the one that is used, Å."""
    if math.isclose(stated_angstrom, counting_angstrom, rel_tol=SAME):
        return Agreement.SAME
    if stated_angstrom <= 0 or math.isclose(stated_angstrom, 1.0, rel_tol=1e-4):
        return Agreement.NOT_SET
    if math.isclose(stated_angstrom, counting_angstrom, rel_tol=ALIKE):
        return Agreement.ALIKE
    return Agreement.DIFFERENT


def times_binned(stated_angstrom: float, counting_angstrom: float) -> str:
    """Return the binning factor as " (binned 4 times)"; "" where it is not an integer."""
    factor = stated_angstrom / counting_angstrom
    nearest = round(factor)
    is_binned = nearest > 1 and math.isclose(factor, nearest, rel_tol=ALIKE)
    return f" (binned {nearest} times)" if is_binned else ""
