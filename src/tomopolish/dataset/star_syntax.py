"""Parser and printer of STAR files as RELION writes them.

The grammar is line based: ``data_NAME`` opens a block; ``_label value`` is a pair; ``loop_`` is followed by
labels and then one row per line. White space within a line is C's. A token that starts with a
quote ends at the next such quote before white space; without such a quote, the quote is part of the token. A
token that starts with ``#`` begins a comment. In contrast to CIF, a cell may begin with ``data_`` or ``$``
and contain any character but a line end and NUL, because such paths occur (``data_2024/stack.mrcs``).
``data_`` and ``loop_`` may be in capitals, and any line may begin with a byte order mark, as in joined files.

Every table that can be read can be printed, and the printed table is read as the same cells.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import BinaryIO

from tomopolish.dataset.cells import ENCODING, ON_ERROR, Cells
from tomopolish.dataset.star_table import StarTable
from tomopolish.errors import InputError
from tomopolish.quoting import BLANK, IMPOSSIBLE, quote_for

_ENDS = rf"[{BLANK}]+#|[{BLANK}]*(?=\n|\Z)"
# End of a run of loop rows: a block, a loop, a label, a comment line or a text field.
_BREAK = re.compile(
    rf"\n(?:;|[{BLANK}]*(?:(?i:data_)[^{BLANK}\n]*(?:{_ENDS})|(?i:loop_)(?:{_ENDS})|[_#]))".encode()
)
_BLOCK = re.compile(rf"(?i:data_)([^{BLANK}\n]*)(?:{_ENDS})")
_LOOP = re.compile(rf"(?i:loop_)(?:{_ENDS})")
_VERSION = re.compile(rf"#[{BLANK}]*version[{BLANK}]+([^{BLANK}]+)")
_WORD = re.compile(rf"[^{BLANK}]+")
_CLOSING = {mark: re.compile(rf"{mark}(?=[{BLANK}]|\Z)") for mark in "\"'"}

_ROW_MARK = b"\0"
_QUOTED_BEGINNINGS = (" ", '"', "'", "#")  # the first: an empty cell
_LINE_BEGINNINGS = ("_", ";", "data_", "loop_")
BOM = b"\xef\xbb\xbf"
_BLOCK_BYTES = 1 << 18  # bytes read at a time: limits memory, and is large enough for speed
_ROWS_AT_ONCE = 1024
MOST_LINE_BYTES = 1 << 24
MOST_COLUMNS = 10_000
MOST_TABLES = 1_000_000
"""Limits above any real STAR file: larger files are refused before they fill the memory."""


def parse_tables(text: str | bytes, source: str) -> tuple[StarTable, ...]:
    """Return all tables of a STAR text; raises InputError with file, table and row."""
    content = text.encode(ENCODING, ON_ERROR) if isinstance(text, str) else text
    return _parse(_blocks_of_lines([content], source), source)


def read_tables(handle: BinaryIO, source: str) -> tuple[StarTable, ...]:
    """Return all tables of an open STAR file, which is read in parts.

    The tables take about as many bytes as the file. Raises InputError with file, table and row.
    """
    return _parse(_blocks_of_lines(iter(lambda: handle.read(_BLOCK_BYTES), b""), source), source)


def _blocks_of_lines(pieces: Iterable[bytes], source: str) -> Iterator[bytes]:
    """Yield parts of a file that end at line ends, which become line feeds; byte order marks are left out."""
    rest: list[bytes] = []  # parts of a line whose end has not been read
    rest_bytes = 0
    for original in pieces:
        piece = original
        if _ROW_MARK in piece:
            raise InputError(f"{source}: this is not a STAR file (it contains binary data); give a text file")
        if rest and rest[-1].endswith(b"\r"):
            rest[-1], piece = rest[-1][:-1], b"\r" + piece
        held_back = piece.endswith(b"\r")
        if b"\r" in piece:
            text = piece[:-1] if held_back else piece
            piece = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n") + (b"\r" if held_back else b"")
        stop = piece.rfind(b"\n")
        if stop >= 0:
            yield _without_marks(b"".join([*rest, piece[:stop]]))
            rest, rest_bytes = [], 0
        rest.append(piece[stop + 1 :])
        rest_bytes += len(rest[-1])
        if rest_bytes > MOST_LINE_BYTES:
            raise InputError(
                f"{source}: this is not a STAR file (a line is longer than {MOST_LINE_BYTES >> 20} MiB); "
                "give another file"
            )
    yield _without_marks(b"".join(rest).removesuffix(b"\r"))


def _without_marks(lines: bytes) -> bytes:
    return (b"\n" + lines).replace(b"\n" + BOM, b"\n")[1:] if BOM in lines else lines


def _parse(blocks: Iterable[bytes], source: str) -> tuple[StarTable, ...]:
    parser = _Parser(source)
    for block in blocks:
        parser.feed(block)
    return parser.finish()


class _Parser:
    """Parses text; rows of loops are processed in bulk."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._tables: list[StarTable] = []
        self._name: str | None = None
        self._version: str | None = None
        self._pending_version: str | None = None
        self._columns: dict[str, list[bytes]] = {}  # cells that have not been joined yet
        self._joined: list[tuple[list[bytes], int]] = []  # stretches of each column, and their rows
        self._kind = ""  # "", "pairs", "labels" (of a loop, no row yet) or "rows"
        self._parts = 0

    def feed(self, text: bytes) -> None:
        """Parse lines, of which the last has no line end."""
        position, end = 0, len(text)
        while position < end:
            stop = text.find(b"\n", position)
            stop = end if stop < 0 else stop
            line = text[position:stop].decode(ENCODING, ON_ERROR).strip(BLANK)
            if line and not self._structural_line(line, text[position] == ord(";")):
                stop = self._rows(text, position, line)
            position = stop + 1

    def finish(self) -> tuple[StarTable, ...]:
        """Return all tables."""
        self._close_block()
        return tuple(self._tables)

    def _structural_line(self, line: str, is_text_field: bool) -> bool:
        """Parse a line that is not a row; returns False when it is a row."""
        first = line[0]
        if first == "#":
            version = _VERSION.match(line)
            self._pending_version = version.group(1) if version else self._pending_version
        elif first in "dD" and (block := _BLOCK.match(line)):
            self._close_block()
            self._name, self._version, self._pending_version = block.group(1), self._pending_version, None
        elif is_text_field:
            raise self._error(
                "contains a text field over several lines (';'), which RELION cannot read; put it on one line"
            )
        elif self._name is None:
            raise InputError(
                f"{self._source}: line {line[:40]!r} is before any 'data_' line; give a STAR file"
            )
        elif first in "lL" and _LOOP.match(line):
            self._close_part()
            self._kind = "labels"
        elif first == "_":
            self._label(line)
        else:
            return False
        return True

    def _label(self, line: str) -> None:
        word, *values = _tokens(line)
        label = word[1:].partition("#")[0]
        if not label:
            raise self._error("has a label without a name; remove the line")
        if self._kind != "labels" or values:
            if self._kind != "pairs":
                self._close_part()
                self._kind = "pairs"
            if len(values) > 1:
                raise self._error(
                    f"{label} has {len(values)} values; put a value with spaces in double quotes"
                )
            values = values or [""]
        if len(self._columns) >= MOST_COLUMNS:
            raise self._error(f"has more than {MOST_COLUMNS} labels; give a STAR file of RELION")
        if label in self._columns:
            raise self._error(f"the column {label} occurs twice; remove one")
        self._columns[label] = [value.encode(ENCODING, ON_ERROR) for value in values]

    def _rows(self, text: bytes, position: int, line: str) -> int:
        """Append all rows from `position` on, and return the end of their last line."""
        if self._kind not in ("labels", "rows") or not self._columns:
            raise self._error(f"the line {line[:40]!r} is not in a loop; put 'loop_' and labels above it")
        self._kind = "rows"
        found = _BREAK.search(text, position)
        last = found.start() if found else len(text)
        columns = list(self._columns.values())
        rows = text[position:last]
        if not _append_plain_rows(rows, columns):
            self._append_rows(rows, columns)
        if len(columns[0]) >= _ROWS_AT_ONCE:
            self._join(columns)
        return last

    def _join(self, columns: list[list[bytes]]) -> None:
        """Join the cells of the last rows into compact text."""
        self._joined.append(([b"\n".join(column) for column in columns], len(columns[0])))
        for column in columns:
            column.clear()

    def _append_rows(self, rows: bytes, columns: list[list[bytes]]) -> None:
        """Append rows line by line, with quotes, comments and blank lines; errors name the row."""
        for line in rows.split(b"\n"):
            if b'"' in line or b"'" in line or b"#" in line:
                cells = [
                    token.encode(ENCODING, ON_ERROR) for token in _tokens(line.decode(ENCODING, ON_ERROR))
                ]
            else:
                cells = line.split()
            if not cells:
                continue
            if len(cells) != len(columns):
                raise self._error(
                    f"has {len(cells)} values for {len(columns)} labels; complete the row, "
                    "or put values with spaces in double quotes",
                    sum(rows for _, rows in self._joined) + len(columns[0]) + 1,
                )
            for column, cell in zip(columns, cells, strict=True):
                column.append(cell)

    def _close_part(self) -> None:
        if self._kind == "labels" and not self._columns:
            raise self._error("has a 'loop_' without labels; add the labels, or remove it")
        if self._columns:
            self._add_table()
            self._parts += 1
        self._columns, self._joined, self._kind = {}, [], ""

    def _close_block(self) -> None:
        self._close_part()
        if self._name is not None and self._parts == 0:
            self._add_table()
        self._parts = 0

    def _add_table(self) -> None:
        if len(self._tables) >= MOST_TABLES:
            raise InputError(f"{self._source}: there are more than {MOST_TABLES} tables; give another file")
        columns = list(self._columns.values())
        if columns and columns[0]:
            self._join(columns)
        table = StarTable(
            name=self._name or "",
            columns={
                label: Cells([(joined[i], rows) for joined, rows in self._joined])
                for i, label in enumerate(self._columns)
            },
            is_loop=self._kind != "pairs",
            version=self._version if self._parts == 0 else None,
            continues=self._parts > 0,
            source=self._source,
        )
        self._tables.append(table)

    def _error(self, problem: str, row: int | None = None) -> InputError:
        place = StarTable(name=self._name or "", source=self._source).place
        return InputError(f"{place}, row {row}: {problem}" if row else f"{place}: {problem}")


def _append_plain_rows(rows: bytes, columns: list[list[bytes]]) -> bool:
    """Append rows without quotes and comments; returns False, without a change, if there are any."""
    if b'"' in rows or b"'" in rows or b"#" in rows:
        return False
    width = len(columns)
    tokens = rows.strip().replace(b"\n", b" %b " % _ROW_MARK).split()
    tokens.append(_ROW_MARK)
    marks = tokens[width :: width + 1]
    if len(tokens) != (width + 1) * len(marks):
        return False
    # Each row ends with a mark, and has no other: two short lines could have one where a cell is missing.
    if not len(marks) == marks.count(_ROW_MARK) == tokens.count(_ROW_MARK):
        return False
    for i, column in enumerate(columns):
        column.extend(tokens[i :: width + 1])
    return True


def _tokens(line: str) -> list[str]:
    """Return the unquoted tokens of a line, without its comment, in a time proportional to its length."""
    tokens: list[str] = []
    never_closed: set[str] = set()  # quotes that are not closed in the rest of the line
    position = 0
    while word := _WORD.search(line, position):
        first = line[word.start()]
        if first == "#":
            break
        if first in _CLOSING and first not in never_closed:
            closing = _CLOSING[first].search(line, word.start() + 1)
            if closing:
                tokens.append(line[word.start() + 1 : closing.start()])
                position = closing.end()
                continue
            never_closed.add(first)
        tokens.append(word.group())
        position = word.end()
    return tokens


def print_table(table: StarTable) -> Iterator[str]:
    """Yield a table's text in RELION's layout; raises InputError for cells that no STAR file can contain."""
    if not table.continues:
        if table.version is not None:
            yield f"\n# version {table.version}\n"
        yield f"\ndata_{table.name}\n\n"
    if table.is_loop and table.columns:
        yield "loop_\n"
        yield "".join(f"_{label} #{i}\n" for i, label in enumerate(table.columns, start=1))
        columns = [(label, iter(cells)) for label, cells in table.columns.items()]
        while True:
            parts = [
                _printed(table, label, list(islice(cells, _ROWS_AT_ONCE)), first=i == 0)
                for i, (label, cells) in enumerate(columns)
            ]
            if not parts[0]:
                break
            yield "\n".join(map(" ".join, zip(*parts, strict=True))) + "\n"
    else:
        for label, cells in table.columns.items():
            yield f"_{label} {_printed(table, label, list(cells), first=False)[0]}\n"
    yield "\n"


def _printed(table: StarTable, label: str, cells: list[str], *, first: bool) -> Sequence[str]:
    try:
        return quoted(cells, first=first)
    except InputError as problem:
        raise InputError(f"table {table.name or 'without a name'}, {label}: {problem}") from None


def quoted(cells: list[str], *, first: bool) -> list[str]:
    """Return cells as text of the file, in quotes only where they would not be read back without.

    `first` says whether the column is the first of the line, where more beginnings have a meaning.
    """
    joined = " " + " ".join(cells) + " "
    if joined.isprintable() and joined.count(" ") == len(cells) + 1:
        beginnings = (*_QUOTED_BEGINNINGS, *(_LINE_BEGINNINGS if first else ()))
        looked_through = joined.lower() if first else joined
        if not any(" " + beginning in looked_through for beginning in beginnings):
            return cells
    return [_quote(cell, first) for cell in cells]


def _quote(cell: str, first: bool) -> str:
    if IMPOSSIBLE.search(cell):
        raise InputError(
            f"the value {cell[:40]!r} has a line end or another character that STAR files cannot; change it"
        )
    opens_line = first and (cell[:1] in ("_", ";", "\ufeff") or _BLOCK.match(cell) or _LOOP.match(cell))
    if cell and cell[0] not in "\"'#" and not opens_line and not any(blank in cell for blank in BLANK):
        return cell
    mark = quote_for(cell)
    if mark is None:
        raise InputError(f"the value {cell[:40]!r} mixes quotes and spaces as STAR files cannot; change it")
    return mark + cell + mark
