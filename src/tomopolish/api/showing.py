"""How results show themselves in Python: in one line, as HTML, as data frames; and what a run reports."""

from __future__ import annotations

import html
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tomopolish.errors import InputError, RunError
from tomopolish.settings.wording import in_python

if TYPE_CHECKING:
    import pandas

    from tomopolish.output.table import Table
    from tomopolish.run.reporter import PassingReporter

Rows = Sequence[Mapping[str, Any]]


class Result(ABC):
    """A result whose `repr` is one line and which notebooks show as tables."""

    @abstractmethod
    def facts(self) -> list[str]:
        """Return what the `repr` holds: the shortest words for what a user wants to know."""

    @abstractmethod
    def sentence(self) -> str:
        """Return what the command says in the end."""

    @property
    def tables(self) -> tuple[Table, ...]:
        """The tables that the command shows; none for most."""
        return ()

    def remarks(self) -> tuple[str, ...]:
        """Return sentences that a user should read beside the result."""
        return ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.facts())})"

    def _repr_html_(self) -> str:
        parts = [f"<p><b>{_escaped(repr(self))}</b></p>", f"<p>{_escaped(self.sentence())}</p>"]
        listed = "".join(f"<li>{_escaped(sentence)}</li>" for sentence in self.remarks())
        parts += [f"<p>Warnings</p><ul>{listed}</ul>"] if listed else []
        return "\n".join([*parts, *map(table_html, self.tables)])


def table_html(table: Table) -> str:
    """Return a table as HTML; names in it are escaped."""

    def row(cells: Sequence[str], tag: str) -> str:
        return "".join(f"<{tag}>{_escaped(in_python(cell))}</{tag}>" for cell in cells)

    head = row([column.replace("\n", " ") for column in table.columns], "th")
    body = "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in table.rows)
    return (
        f"<table><caption>{_escaped(in_python(table.title))}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


def _escaped(text: str) -> str:
    return html.escape(text, quote=False)


def named_table(table: str, tables: Mapping[str, Callable[[], Rows]]) -> pandas.DataFrame:
    """Return one of several tables as a data frame; raises InputError when there is none of that name.

    `tables` has for each name a function that returns the rows.
    """
    if table not in tables:
        raise InputError(f"table={table!r} is unknown: give one of {', '.join(map(repr, tables))}")
    return data_frame(tables[table]())


def data_frame(rows: Rows) -> pandas.DataFrame:
    """Return rows, which all have the same columns, as a data frame; raises RunError without pandas."""
    try:
        import pandas
    except ImportError:
        raise RunError("a data frame needs pandas, which is not installed: pip install pandas") from None
    return pandas.DataFrame.from_records(list(rows))


def reporter_of(show_progress: bool) -> PassingReporter:
    """Return a reporter that collects warnings, in Python's words, and with `show_progress` shows all."""
    from tomopolish.run.reporter import PassingReporter, SilentReporter, reporter_for

    return PassingReporter(reporter_for(sys.stdout) if show_progress else SilentReporter(), in_python)
