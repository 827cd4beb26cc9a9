"""The text of STAR files as RELION writes it: reading into tables, and printing them.

The grammar is line based: ``data_NAME`` opens a block; ``_label value`` is a pair; ``loop_`` is followed by
labels and then one row per line. A token that starts with a quote ends at the next such quote before white
space; a token that starts with ``#`` begins a comment. In contrast to CIF, a cell may begin with ``data_``
or ``$`` and hold any character, because such paths occur (``data_2024/stack.mrcs``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tomopolish.dataset.star_table import StarTable
from tomopolish.errors import InputError

# What ends a run of loop rows: a block, a loop, a label, a comment line or a text field.
_BREAK = re.compile(
    r"\n(?:;|[ \t]*(?:data_\S*(?:[ \t]+#|[ \t]*(?=\n|\Z))|loop_(?:[ \t]+#|[ \t]*(?=\n|\Z))|[_#]))"
)
_BLOCK = re.compile(r"data_(\S*)[ \t]*(?:[ \t]#.*)?\Z")
_LOOP = re.compile(r"loop_[ \t]*(?:[ \t]#.*)?\Z")
_VERSION = re.compile(r"#[ \t]*version[ \t]+(\S+)")
_TOKEN = re.compile(
    r'"((?:[^"]|"(?=[^ \t]))*)"(?=[ \t]|\Z)'
    r"|'((?:[^']|'(?=[^ \t]))*)'(?=[ \t]|\Z)"
    r"|(#.*)"
    r"|([^ \t]+)"
)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # all but the tab
_CHUNK = 1 << 18  # characters tokenised at a time: bounds memory, large enough for speed
_ROW_MARK = "\0"
_QUOTED_BEGINNINGS = (" ", '"', "'", "#")  # the first: an empty cell
_LINE_BEGINNINGS = ("_", ";", "data_", "loop_")


def parse_tables(text: str, source: str) -> tuple[StarTable, ...]:
    """Read all tables of a STAR text; raises InputError with file, table and row."""
    if _ROW_MARK in text:
        raise InputError(f"{source}: this is not a STAR file (it holds binary data); give a text file")
    return _Parser(text, source).parse()


class _Parser:
    """Walks through the text; rows of loops are taken in bulk."""

    def __init__(self, text: str, source: str) -> None:
        self._text = text
        self._source = source
        self._tables: list[StarTable] = []
        self._name: str | None = None
        self._version: str | None = None
        self._pending_version: str | None = None
        self._columns: dict[str, list[str]] = {}
        self._kind = ""  # "", "pairs", "labels" (of a loop, no row yet) or "rows"
        self._parts = 0

    def parse(self) -> tuple[StarTable, ...]:
        text, position, end = self._text, 0, len(self._text)
        while position < end:
            stop = text.find("\n", position)
            stop = end if stop < 0 else stop
            line = text[position:stop].strip(" \t\f\v")
            if line and not self._structural_line(line, text[position] == ";"):
                stop = self._rows(position, line)
            position = stop + 1
        self._close_block()
        return tuple(self._tables)

    def _structural_line(self, line: str, is_text_field: bool) -> bool:
        """Handle a line that is not a row; False when it is one."""
        first = line[0]
        if first == "#":
            version = _VERSION.match(line)
            self._pending_version = version.group(1) if version else self._pending_version
        elif first == "d" and (block := _BLOCK.match(line)):
            self._close_block()
            self._name, self._version, self._pending_version = block.group(1), self._pending_version, None
        elif is_text_field:
            raise self._error(
                "holds a text field over several lines (';'), which RELION cannot read; put it on one line"
            )
        elif self._name is None:
            raise InputError(
                f"{self._source}: line {line[:40]!r} stands before any 'data_' line; give a STAR file"
            )
        elif first == "l" and _LOOP.match(line):
            self._close_part()
            self._kind = "labels"
        elif first == "_":
            self._label(line)
        else:
            return False
        return True

    def _label(self, line: str) -> None:
        label, *values = _tokens(line)
        label = label[1:]
        if not label:
            raise self._error("has a label without a name; remove the line")
        if self._kind == "labels" and not values:
            self._add_column(label, [])
            return
        if self._kind != "pairs":
            self._close_part()
            self._kind = "pairs"
        if len(values) > 1:
            raise self._error(f"{label} has {len(values)} values; put a value with spaces in double quotes")
        self._add_column(label, values or [""])

    def _add_column(self, label: str, cells: list[str]) -> None:
        if label in self._columns:
            raise self._error(f"the column {label} occurs twice; remove one")
        self._columns[label] = cells

    def _rows(self, position: int, line: str) -> int:
        """Append all rows from `position` on; return where their last line ends."""
        if self._kind not in ("labels", "rows") or not self._columns:
            raise self._error(f"the line {line[:40]!r} belongs to no loop; put 'loop_' and labels above it")
        self._kind = "rows"
        columns = list(self._columns.values())
        found = _BREAK.search(self._text, position)
        last = found.start() if found else len(self._text)
        while position < last:
            stop = self._text.find("\n", position + _CHUNK, last)
            stop = last if stop < 0 else stop
            chunk = self._text[position:stop]
            if not _append_plain_rows(chunk, columns):
                self._append_rows(chunk, columns)
            position = stop + 1
        return last

    def _append_rows(self, chunk: str, columns: list[list[str]]) -> None:
        """Tokenise line by line: quotes, comments, blank lines, and the place of a faulty row."""
        for line in chunk.split("\n"):
            cells = _tokens(line)
            if not cells:
                continue
            row = len(columns[0]) + 1
            if len(cells) != len(columns):
                raise self._error(
                    f"has {len(cells)} values for {len(columns)} labels; complete the row, "
                    "or put values with spaces in double quotes",
                    row,
                )
            if _CONTROL.search(line):
                raise self._error("holds control characters; remove them", row)
            for column, cell in zip(columns, cells, strict=True):
                column.append(cell)

    def _close_part(self) -> None:
        if self._kind == "labels" and not self._columns:
            raise self._error("has a 'loop_' without labels; add the labels, or remove it")
        if self._columns:
            self._tables.append(self._table())
            self._parts += 1
        self._columns, self._kind = {}, ""

    def _close_block(self) -> None:
        self._close_part()
        if self._name is not None and self._parts == 0:
            self._tables.append(self._table())
        self._parts = 0

    def _table(self) -> StarTable:
        return StarTable(
            name=self._name or "",
            columns=self._columns,
            is_loop=self._kind != "pairs",
            version=self._version if self._parts == 0 else None,
            continues=self._parts > 0,
            source=self._source,
        )

    def _error(self, problem: str, row: int | None = None) -> InputError:
        place = StarTable(name=self._name or "", source=self._source).place
        return InputError(f"{place}, row {row}: {problem}" if row else f"{place}: {problem}")


def _append_plain_rows(chunk: str, columns: list[list[str]]) -> bool:
    """Append rows without quotes and comments; False, with nothing done, when they are not that plain."""
    if '"' in chunk or "'" in chunk or "#" in chunk:
        return False
    width = len(columns)
    tokens = chunk.strip().replace("\n", f" {_ROW_MARK} ").split()
    tokens.append(_ROW_MARK)
    marks = tokens[width :: width + 1]
    if len(tokens) != (width + 1) * len(marks) or marks.count(_ROW_MARK) != len(marks):
        return False
    for i, column in enumerate(columns):
        column.extend(tokens[i :: width + 1])
    return True


def _tokens(line: str) -> list[str]:
    """Tokens of a line, unquoted, without its comment."""
    found = []
    for match in _TOKEN.finditer(line):
        if match.lastindex == 3:
            break
        found.append(match.group(match.lastindex or 0))
    return found


def print_table(table: StarTable) -> Iterator[str]:
    """Yield a table's text, laid out as RELION does; raises InputError for cells no STAR file can hold."""
    if not table.continues:
        if table.version is not None:
            yield f"\n# version {table.version}\n"
        yield f"\ndata_{table.name}\n\n"
    if table.is_loop and table.columns:
        yield "loop_\n"
        yield "".join(f"_{label} #{i}\n" for i, label in enumerate(table.columns, start=1))
        columns = [quoted(cells, first=i == 0) for i, cells in enumerate(table.columns.values())]
        step = 10_000
        for start in range(0, len(table), step):
            rows = zip(*(cells[start : start + step] for cells in columns), strict=True)
            yield "\n".join(map(" ".join, rows)) + "\n"
    else:
        for label, cells in table.columns.items():
            yield f"_{label} {quoted(cells, first=False)[0]}\n"
    yield "\n"


def quoted(cells: list[str], *, first: bool) -> list[str]:
    """Cells as they stand in the file: in quotes only where they would not survive without.

    `first` tells whether the column opens the line, where a few more beginnings have a meaning.
    """
    joined = " " + " ".join(cells) + " "
    if joined.isprintable() and joined.count(" ") == len(cells) + 1:
        beginnings = (*_QUOTED_BEGINNINGS, *(_LINE_BEGINNINGS if first else ()))
        if not any(" " + beginning in joined for beginning in beginnings):
            return cells
    return [_quote(cell, first) for cell in cells]


def _quote(cell: str, first: bool) -> str:
    if _CONTROL.search(cell):
        raise InputError(
            f"the value {cell[:40]!r} holds control characters, which no STAR file can; change it"
        )
    opens_line = first and (cell[:1] in ("_", ";") or _BLOCK.match(cell) or _LOOP.match(cell))
    if cell and cell[0] not in "\"'#" and not opens_line and not any(map(str.isspace, cell)):
        return cell
    for mark in ('"', "'"):
        if f"{mark} " not in cell and f"{mark}\t" not in cell:
            return mark + cell + mark
    raise InputError(f"the value {cell[:40]!r} mixes quotes and spaces as no STAR file can; change it")
