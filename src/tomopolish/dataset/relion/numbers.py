"""Single cells as numbers; errors name file, table, row and label."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from tomopolish.dataset.cells import number_in
from tomopolish.dataset.star import StarTable
from tomopolish.dataset.star_table import LARGEST_NUMBER, USABLE
from tomopolish.errors import InputError

T = TypeVar("T")

LARGEST = 1_000_000
"""Limit of counts, and of a tomogram's edge in px."""

SMALLEST = 1e-6
"""Smallest pixel size in Å; quotients by such numbers are finite."""


def number(table: StarTable, label: str, row: int, default: float | None = None) -> float:
    """Return a cell as a finite number.

    `default` is the value of a missing column, or a cell without a value; None: both raise InputError.
    """
    if default is not None and table.stated(label, row) is None:
        return default
    cell = table.value(label, row)
    value = number_in(cell)
    if not abs(value) <= LARGEST_NUMBER:
        wanted = USABLE if np.isfinite(value) else "a finite number"
        raise table.error(f"{label} is {cell[:60]!r}, which is not {wanted}; correct the cell", row=row)
    return value


def positive(table: StarTable, label: str, row: int) -> float:
    """Return a cell as a positive number of at least `SMALLEST`; raises InputError, which names it."""
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
    """Return the table and row from which a value is read, which belongs into a row of `general`.

    `second` is used where the first has no value, if all of its rows agree; the particles' optics groups
    repeat the tomograms' pixel size and microscope.
    """
    if second is None or general.stated(label, row) is not None:
        return general, row
    cells = {second.stated(label, r) for r in range(len(second))}
    return (general, row) if len(cells) != 1 or None in cells else (second, 0)


def value_or(neutral: T, read: Callable[[], T], *, only_if: bool) -> T:
    """Return the value of `read()`, or `neutral` where that raises InputError and `only_if` is true."""
    try:
        return read()
    except InputError:
        if not only_if:
            raise
        return neutral
