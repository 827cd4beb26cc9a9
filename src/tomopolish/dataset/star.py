"""Complete STAR files: reading them, and writing them back with unknown tables and columns unchanged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from tomopolish.dataset.contents import SAMPLE_BYTES, recognised
from tomopolish.dataset.files import atomic_write
from tomopolish.dataset.opening import open_regular, unreadable
from tomopolish.dataset.star_syntax import print_table, read_tables
from tomopolish.dataset.star_table import StarTable, float_columns, format_floats, format_vectors
from tomopolish.errors import InputError

__all__ = [
    "GrowingFile", "StarFile", "StarTable", "float_columns", "format_floats", "format_vectors", "read_star",
    "write_star",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class StarFile:
    """The tables of a STAR file in their order."""

    tables: tuple[StarTable, ...]
    source: str = "(new file)"

    @cached_property
    def _first_by_name(self) -> dict[str, StarTable]:
        return {table.name: table for table in reversed(self.tables)}

    @cached_property
    def _first_by_lower_case(self) -> dict[str, StarTable]:
        return {table.name.lower(): table for table in reversed(self.tables)}

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._first_by_lower_case

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all tables, in order."""
        return tuple(table.name for table in self.tables)

    @property
    def version(self) -> str | None:
        """The first version tag, or None."""
        return next((table.version for table in self.tables if table.version is not None), None)

    def table(self, name: str) -> StarTable:
        """Return the first table of that name, also in other capitals; raises InputError without any."""
        table = self._first_by_name.get(name, self._first_by_lower_case.get(name.lower()))
        if table is None:
            have = ", ".join(f"'data_{n}'" if n else "one without a name" for n in self.names[:5])
            raise InputError(
                f"{self.source}: there is no table 'data_{name}' "
                f"({f'the file contains {have}' if have else 'this is an empty file'}); "
                "check that this is the right file"
            )
        return table

    def with_table(self, table: StarTable) -> StarFile:
        """Return a copy in which `table` replaces the first table of its name, or is appended."""
        tables = list(self.tables)
        for i, old in enumerate(tables):
            if old.name == table.name:
                tables[i] = replace(table, continues=old.continues)
                return replace(self, tables=tuple(tables))
        return replace(self, tables=(*tables, table))


def read_star(path: Path | str, *, shown_as: str | None = None) -> StarFile:
    """Return a STAR file; raises InputError, which names the file, when it is missing or malformed.

    `shown_as` is the name of the file in messages, if not its path.
    """
    source = shown_as or str(path)
    try:
        with open_regular(Path(path)) as handle:
            _check_content(handle.read(SAMPLE_BYTES), source)
            handle.seek(0)
            return StarFile(tables=read_tables(handle, source), source=source)
    except IsADirectoryError:
        raise InputError(f"{source}: this is a folder; give a STAR file") from None
    except FileNotFoundError as problem:
        raise InputError(f"{unreadable(source, problem)}, or start in the project's folder") from None
    except (OSError, ValueError) as problem:
        raise unreadable(source, problem) from None


def _check_content(sample: bytes, source: str) -> None:
    """Raise InputError, with what the file is, where its first bytes show that it is not a STAR file."""
    content = recognised(sample) if sample else None
    if content is not None and not content.is_star:
        remedy = content.remedy or "give a STAR file"
        raise InputError(f"{source}: this is {content.description}, not a STAR file; {remedy}")


def write_star(path: Path | str, tables: StarFile | Iterable[StarTable]) -> None:
    """Write a STAR file atomically; raises RunError when it cannot be written."""
    with atomic_write(Path(path)) as handle:
        for table in tables.tables if isinstance(tables, StarFile) else tables:
            handle.writelines(print_table(table))


class GrowingFile:
    """A STAR file whose tables grow tomogram by tomogram; it is written at the end, unless it has no rows."""

    def __init__(self, path: Path, version: str) -> None:
        self._path = path
        self._version = version
        self._parts: dict[str, list[Mapping[str, Sequence[str]]]] = {}

    def append(self, table: str, columns: Mapping[str, Sequence[str]]) -> None:
        """Append rows to a table; rows without a column that others have get 0 there."""
        self._parts.setdefault(table, []).append(columns)

    def write(self) -> None:
        """Write the file; raises RunError when it cannot be written."""
        if self._parts:
            tables = [
                StarTable(name=name, columns=_joined(parts), version=self._version)
                for name, parts in self._parts.items()
            ]
            write_star(self._path, tables)


def _joined(parts: Sequence[Mapping[str, Sequence[str]]]) -> dict[str, list[str]]:
    labels = dict.fromkeys(label for part in parts for label in part)
    zeros = [["0.000000"] * len(next(iter(part.values()))) for part in parts]
    return {
        label: [cell for part, none in zip(parts, zeros, strict=True) for cell in part.get(label, none)]
        for label in labels
    }
