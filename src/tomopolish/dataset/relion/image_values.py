"""Values of single tilt images from their table; an image whose row lacks such a value is left out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from tomopolish.dataset.cells import number_in
from tomopolish.dataset.model import LeftOutTilt
from tomopolish.dataset.star import StarTable
from tomopolish.dataset.star_table import is_unset
from tomopolish.errors import InputError
from tomopolish.shapes import Array, Float, Int

LARGEST_NUMBER = 1e7
"""Largest angle, shift or element of a matrix, within the range of single precision."""


@dataclass(kw_only=True)
class ImageValues:
    """Reads columns of a tilt series' table and records the rows that cannot be used.

    Attributes
    ----------
    reasons
        Row → reason why its image is left out; the first reason for each.
    """

    table: StarTable
    reasons: dict[int, str] = field(default_factory=dict)

    def leave_out(self, row: int, reason: str) -> None:
        """Record that a row (from 0) cannot be used."""
        self.reasons.setdefault(row, reason)

    def leave_out_numbers(self, numbers: Iterable[int] | Int[Array, "n"], reason: str) -> None:
        """Record that rows, by number from 1, cannot be used; numbers beyond the last row are ignored."""
        for number in numbers:
            if number <= len(self.table):
                self.leave_out(int(number) - 1, reason)

    def floats(
        self,
        label: str,
        *,
        most: float = LARGEST_NUMBER,
        least: float | None = None,
        default: float | None = None,
        lacking: float = 0.0,
    ) -> Float[Array, "F"]:
        """Return a column as finite numbers from `least` (None: −`most`) to `most`.

        Rows without such a number are left out, and have the value `lacking`. A default is used for a missing
        column, and for cells that say that there is no value; without it, a missing column raises InputError.
        """
        lowest = -most if least is None else least
        if label not in self.table and default is not None:
            return np.full(len(self.table), default)
        values = np.full(len(self.table), lacking)
        for row, cell in enumerate(self.table.strings(label)):
            value = default if default is not None and is_unset(cell) else number_in(cell)
            if not np.isfinite(value):
                self.leave_out(row, f"{label} is {cell[:60]!r}, which is not a finite number")
            elif not lowest <= value <= most:
                self.leave_out(row, f"{label} is {value:g}, but must lie between {lowest:g} and {most:g}")
            else:
                values[row] = value
        return values

    def vectors(self, label: str, length: int | None) -> Float[Array, "F n"]:
        """Return a column of vectors of one length (None: that of most rows).

        Rows without such a vector are left out, and have zeros. Raises InputError when the column is missing.
        """
        rows: list[Array | None] = []
        for row in range(len(self.table.strings(label))):
            try:
                rows.append(self.table.vector(label, row))
            except InputError:
                rows.append(None)
        lengths = [len(vector) for vector in rows if vector is not None]
        n = length if length is not None else max(set(lengths), key=lengths.count, default=0)
        values = np.zeros((len(rows), n))
        for row, vector in enumerate(rows):
            if vector is None or len(vector) != n:
                cell = self.table.value(label, row)[:60]
                self.leave_out(row, f"{label} is {cell!r}, which is not a vector of {n} numbers")
            elif np.abs(vector).max(initial=0.0) > LARGEST_NUMBER:
                self.leave_out(row, f"{label} has numbers beyond {LARGEST_NUMBER:g}")
            else:
                values[row] = vector
        return values

    def left_out(self) -> tuple[LeftOutTilt, ...]:
        """Return the images of the rows that cannot be used.

        Raises InputError, which names the first of them, when none can be used.
        """
        rows = sorted(self.reasons)
        if len(rows) == len(self.table):
            reason = self.reasons[rows[0]]
            on_request = reason.startswith("--")
            remedy = "leave fewer out" if on_request else "correct the table"
            remedy = "" if "; " in reason else f"; {remedy}, or remove this tomogram from the sets"
            raise self.table.error(f"none of its tilt images can be used: {reason}{remedy}", row=rows[0])
        return tuple(LeftOutTilt(tilt=row, reason=self.reasons[row]) for row in rows)
