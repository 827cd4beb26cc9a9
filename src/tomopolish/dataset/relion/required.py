"""Required columns of tables: an error names all that are missing, and the jobs that write them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tomopolish.dataset.star import StarFile, StarTable
from tomopolish.errors import InputError
from tomopolish.plain_text import listed


@dataclass(frozen=True, kw_only=True)
class Needed:
    """Columns from one source.

    Attributes
    ----------
    labels
        The columns, or a phrase for each choice of columns.
    source
        Source of the columns, such as "from CTF estimation"; "" where there is no particular one.
    """

    labels: tuple[str, ...]
    source: str = ""

    def lacking(self, table: StarTable) -> list[str]:
        """Return the columns that a table lacks."""
        return [label for label in self.labels if label not in table]


def check_columns(table: StarTable, needed: Iterable[Needed], remedy: str = "") -> None:
    """Raise InputError, which names all columns that a table lacks.

    `remedy` is the advice to the user; "" for the usual one.
    """
    missing = [(labels, group.source) for group in needed if (labels := group.lacking(table))]
    if not missing:
        return
    (first, *further), source = missing[0]
    if len(missing) == 1 and not further:
        comes = f" (it comes {source})" if source else ""
        usual = "add it, or export the table again"
        raise table.error(f"the column {first} is missing{comes}; {remedy or usual}")
    named = "; ".join(listed(labels) + (f" ({source})" if source else "") for labels, source in missing)
    raise table.error(f"columns are missing: {named}; {remedy or 'add them, or export the table again'}")


def table_with(star: StarFile, name: str, marks: Sequence[str]) -> StarTable:
    """Return a table by its name; the error says if a table of another name has its columns.

    `marks` are columns by which the table is recognised. Raises InputError when there is none of that name.
    """
    if name not in star:
        for table in star.tables:
            if any(mark in table for mark in marks):
                which = f"'data_{table.name}'" if table.name else "one without a name ('data_')"
                raise InputError(
                    f"{star.source}: there is no table 'data_{name}', but {which} has its columns; rename "
                    f"'data_{table.name}' to 'data_{name}' in the file"
                )
    return star.table(name)
