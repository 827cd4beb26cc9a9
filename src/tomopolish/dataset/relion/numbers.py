"""Single cells as numbers; one that cannot be used is refused by file, table, row and label."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from tomopolish.dataset.star import StarTable
from tomopolish.dataset.star_table import LARGEST_NUMBER, USABLE
from tomopolish.errors import InputError

T = TypeVar("T")

LARGEST = 1_000_000
"""No count, and no edge of a tomogram in px, is larger."""

SMALLEST = 1e-6
"""No pixel size in Å is smaller; what is divided by such a number still is a number."""


def number(table: StarTable, label: str, row: int, default: float | None = None) -> float:
    """One cell as a finite number.

    Parameters
    ----------
    default
        What a missing column, or a cell without a value, stands for; None: both raise an InputError.
    """
    if default is not None and table.stated(label, row) is None:
        return default
    cell = table.value(label, row)
    try:
        value = float(cell)
    except ValueError:
        value = np.nan
    if not abs(value) <= LARGEST_NUMBER:
        wanted = USABLE if np.isfinite(value) else "a finite number"
        raise table.error(f"{label} is {cell[:60]!r}, which is not {wanted}; correct the cell", row=row)
    return value


def positive(table: StarTable, label: str, row: int) -> float:
    """One cell as a positive number of at least `SMALLEST`; raises InputError naming it."""
    value = number(table, label, row)
    if value <= 0:
        raise table.error(f"{label} is {value:g}, but must be positive; correct the cell", row=row)
    if value < SMALLEST:
        raise table.error(
            f"{label} is {value:g}, but must be at least {SMALLEST:g}; correct the cell", row=row
        )
    return value


def positive_integer(table: StarTable, label: str, row: int) -> int:
    """Return a cell as a positive integer; raises InputError, which names it."""
    value = positive(table, label, row)
    if not value <= LARGEST or value != int(value):
        raise table.error(
            f"{label} is {value:g}, but must be a whole number up to {LARGEST}; correct the cell", row=row
        )
    return int(value)


def source_of(label: str, general: StarTable, row: int, second: StarTable | None) -> tuple[StarTable, int]:
    """Return table and row where a value is to be read.

    Parameters
    ----------
    general, row
        Where it belongs.
    second
        A table whose rows are taken to speak for the first where that has no value, and where all of them
        agree; the particles' optics groups repeat the tomograms' pixel size and microscope.
    """
    if second is None or general.stated(label, row) is not None:
        return general, row
    cells = {second.stated(label, r) for r in range(len(second))}
    return (general, row) if len(cells) != 1 or None in cells else (second, 0)


def value_or(neutral: T, read: Callable[[], T], *, only_if: bool) -> T:
    """Return what `read` reads, or `neutral` where that raises an InputError and `only_if` allows it."""
    try:
        return read()
    except InputError:
        if not only_if:
            raise
        return neutral
