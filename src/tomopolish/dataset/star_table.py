"""One table of a STAR file: named columns of text, and their typed views.

Cells remain the text of the file until numbers are requested, so that values that are not refined are written
back as the same text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import compress

import numpy as np

from tomopolish.dataset.cells import Cells, is_number
from tomopolish.errors import InputError
from tomopolish.shapes import Array, Bool, Float, Int

_UNSET = frozenset(
    ("", "?", ".", "<na>", "na", "n/a", "#n/a", "none", "null", "nan", "-nan", "+nan", "nat", "undefined")
)


def is_unset(cell: str) -> bool:
    """Return whether a cell says, in the words of any common program, that it has no value."""
    return cell.strip().lower() in _UNSET


LARGEST_NUMBER = 1e15
"""Limit of lengths, angles, doses and coefficients; products of a few such numbers are finite."""

USABLE = f"a number up to {LARGEST_NUMBER:g}"


@dataclass(frozen=True, kw_only=True, eq=False)
class StarTable:
    """A loop, or a list of label–value pairs (then it has one row).

    A label that the table spells with other capitals is also found, unless several spellings occur; the
    table keeps its spelling.

    Attributes
    ----------
    name
        Text after ``data_``, which may be empty.
    columns
        Label without its leading underscore → cells, one per row, in the file's order. Read only.
    version
        The number of RELION's ``# version`` comment above the block, or None.
    continues
        Whether this is a further part of the preceding table's block.
    source
        The file, for messages.
    """

    name: str
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    is_loop: bool = True
    version: str | None = None
    continues: bool = False
    source: str = "(new table)"

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(next(iter(self.columns.values()), ()))

    def __contains__(self, label: str) -> bool:
        return self.spelling(label) in self.columns

    @cached_property
    def _spellings(self) -> dict[str, str]:
        return {label.lower(): label for label in reversed(list(self.columns))}

    def spelling(self, label: str) -> str:
        """Return a label as this table spells it; a label that it lacks is returned unchanged."""
        return label if label in self.columns else self._spellings.get(label.lower(), label)

    def __repr__(self) -> str:
        return f"StarTable({self.name!r}, {len(self.columns)} columns, {len(self)} rows, {self.source})"

    @property
    def place(self) -> str:
        """File and table, as named in messages."""
        return f"{self.source}, table {self.name or 'without a name'}"

    def error(self, problem: str, *, row: int | None = None) -> InputError:
        """Return the error for a problem in this table; `row` counts from 0, the message from 1."""
        where = self.place if row is None else f"{self.place}, row {row + 1}"
        return InputError(f"{where}: {problem}")

    def strings(self, label: str) -> Sequence[str]:
        """Return the cells of a column; raises InputError when the column is missing."""
        try:
            return self.columns[self.spelling(label)]
        except KeyError:
            raise self.error(f"the column {label} is missing; add it, or export the table again") from None

    def stated(self, label: str, row: int = 0) -> str | None:
        """Return one cell, or None where the column is missing or the cell has no value (`is_unset`)."""
        if label not in self:
            return None
        cell = self.strings(label)[row]
        return None if is_unset(cell) else cell

    def is_stated(self, label: str) -> bool:
        """Return whether a column has a value in any row."""
        return label in self and not all(map(is_unset, self.strings(label)))

    def unset_rows(self, label: str) -> list[int]:
        """Return the rows whose cell has no value; no row where the column is missing."""
        return (
            [row for row, cell in enumerate(self.strings(label)) if is_unset(cell)] if label in self else []
        )

    def floats(self, label: str, *, default: float | None = None) -> Float[Array, "rows"]:
        """Return a column as finite numbers.

        `default` is the value of a missing column, and of cells without one; None: both raise InputError.
        """
        if label not in self and default is not None:
            return np.full(len(self), default, dtype=np.float64)
        cells = self.strings(label)
        try:
            values = np.fromiter(map(float, cells), np.float64, len(cells))
        except ValueError:
            if default is None or not any(map(is_unset, cells)):
                row = next(i for i, cell in enumerate(cells) if not is_number(cell))
                raise self._bad(label, row, "a number") from None
            values = np.full(len(cells), np.nan)
        usable = is_usable(values)
        if not usable.all():
            if default is not None and any(map(is_unset, cells)):
                filled = [repr(default) if is_unset(cell) else cell for cell in cells]
                return self.with_columns({label: filled}).floats(label)
            row = int(np.argmin(usable))
            raise self._bad(label, row, "a finite number" if not np.isfinite(values[row]) else USABLE)
        return values

    def ints(self, label: str) -> Int[Array, "rows"]:
        """Return a column as integers (``3`` or ``3.000``)."""
        values = self.floats(label)
        rounded = np.rint(values)
        wrong = (rounded != values) | (np.abs(rounded) > 2**53)
        if wrong.any():
            raise self._bad(label, int(np.argmax(wrong)), "a whole number")
        integers: Array = rounded.astype(np.int64)
        return integers

    def vector(self, label: str, row: int) -> Float[Array, "n"]:
        """Return one cell of the form ``[a,b,c]`` as numbers."""
        cell = self.value(label, row).strip()
        if not (cell.startswith("[") and cell.endswith("]")):
            raise self._bad(label, row, "a vector of the form [a,b,c]")
        inside = cell[1:-1].strip()
        try:
            values = np.array([float(part) for part in inside.split(",")] if inside else [], dtype=np.float64)
        except ValueError:
            raise self._bad(label, row, "a vector of numbers of the form [a,b,c]") from None
        if not is_usable(values).all():
            wanted = f"numbers up to {LARGEST_NUMBER:g}" if np.isfinite(values).all() else "finite numbers"
            raise self._bad(label, row, f"a vector of {wanted}")
        return values

    def value(self, label: str, row: int = 0) -> str:
        """Return one cell."""
        return self.strings(label)[row]

    def with_columns(self, updates: Mapping[str, Sequence[str]]) -> StarTable:
        """Return a copy with columns replaced in place or, when new, appended."""
        columns = dict(self.columns)
        for label, cells in updates.items():
            if self.columns and len(cells) != len(self):
                raise ValueError(f"{self.place}: {label} has {len(cells)} cells for {len(self)} rows")
            columns[self.spelling(label)] = cells if isinstance(cells, Cells) else list(cells)
        return replace(self, columns=columns)

    def with_rows(self, remains: Bool[Array, "rows"]) -> StarTable:
        """Return a copy with some of the rows; their cells are unchanged."""
        chosen = remains.tolist()
        return replace(
            self,
            columns={label: Cells.of(compress(cells, chosen)) for label, cells in self.columns.items()},
        )

    def _bad(self, label: str, row: int, wanted: str) -> InputError:
        cell = self.strings(label)[row]
        shown = cell if len(cell) <= 60 else cell[:57] + "..."
        return self.error(f"{label} is {shown!r}, which is not {wanted}; correct the cell", row=row)


def is_usable(values: Float[Array, "*n"]) -> Bool[Array, "*n"]:
    """Return whether numbers are finite, and small enough for products of a few of them."""
    usable: Array = np.abs(values) <= LARGEST_NUMBER
    return usable


def format_floats(values: Float[Array, "n"] | Sequence[float]) -> list[str]:
    """Return numbers as fixed-point cells; a negative zero loses its sign."""
    rounded = np.round(np.asarray(values, dtype=np.float64), 6) + 0.0  # adding zero removes the sign of -0
    return [f"{value:.6f}" for value in rounded.tolist()]


def float_columns(labels: Sequence[str], values: Float[Array, "rows n"]) -> dict[str, list[str]]:
    """Return columns of fixed-point cells, the first of `values` under the first label, and so on."""
    return {label: format_floats(values[:, i]) for i, label in enumerate(labels)}


def format_vectors(rows: Float[Array, "rows n"]) -> list[str]:
    """Return cells of the form ``[a,b,c]``, without white space, with 12 significant digits."""
    return [f"[{','.join(f'{value:.12g}' for value in row)}]" for row in rows.tolist()]
