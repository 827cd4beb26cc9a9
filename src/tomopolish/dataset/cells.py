"""Columns of a STAR table as compact text: about one byte for each byte of the file."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import overload

ENCODING, ON_ERROR = "utf-8", "surrogateescape"
"""Encoding of STAR files; bytes that are not UTF-8 are preserved on reading and writing."""

_CELLS_AT_ONCE = 4096


class Cells(Sequence[str]):
    """The cells of a column, from top to bottom.

    Stretches of cells are joined by line feeds, which no cell can contain. As separate strings, a table of
    numbers would need seven times its file's size.
    """

    __slots__ = ("_begins", "_decoded", "_length", "_stretches")

    def __init__(self, stretches: Iterable[tuple[bytes, int]]) -> None:
        """Create from stretches of cells, joined by line feeds, each with the number of its cells (not 0)."""
        self._stretches: list[bytes] = []
        self._begins: list[int] = []  # the first row of each stretch
        self._length = 0
        self._decoded: tuple[int, list[str]] = (-1, [])  # the stretch of the last single cell that was read
        for joined, count in stretches:
            self._stretches.append(joined)
            self._begins.append(self._length)
            self._length += count

    @classmethod
    def of(cls, cells: Iterable[str]) -> Cells:
        """Return a column of cells; raises ValueError when a cell contains a line feed."""
        return cls(_joined(iter(cells)))

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(map(_split, self._stretches))

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return list(self)[row]
        index = row + self._length if row < 0 else row
        if not 0 <= index < self._length:
            raise IndexError(row)
        number = bisect_right(self._begins, index) - 1
        last, cells = self._decoded
        if last != number:
            cells = _split(self._stretches[number])
            self._decoded = number, cells
        return cells[index - self._begins[number]]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Cells({list(islice(self, 4))!r}{', …' if self._length > 4 else ''})"


def _split(stretch: bytes) -> list[str]:
    return stretch.decode(ENCODING, ON_ERROR).split("\n")


def _joined(cells: Iterator[str]) -> Iterator[tuple[bytes, int]]:
    while stretch := list(islice(cells, _CELLS_AT_ONCE)):
        joined = "\n".join(stretch)
        if joined.count("\n") != len(stretch) - 1:
            raise ValueError("a cell contains a line feed")
        yield joined.encode(ENCODING, ON_ERROR), len(stretch)


def number_in(cell: str) -> float:
    """Return the number in a cell; NaN where there is none."""
    return float(cell) if is_number(cell) else math.nan


def is_number(cell: str) -> bool:
    """Return whether a cell is a number, which need not be finite."""
    try:
        float(cell)
    except ValueError:
        return False
    return True
