"""Changing a copy of a project's files, as a user or a faulty exporter would."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from tomopolish.dataset.mrc import write_stack, write_volume
from tomopolish.dataset.star import StarTable, read_star, write_star


def without_columns(table: StarTable, labels: Iterable[str]) -> StarTable:
    return replace(table, columns={k: v for k, v in table.columns.items() if k not in set(labels)})


def edit(path: str | Path, table: str, change: Callable[[StarTable], StarTable]) -> None:
    """Replace a table of a STAR file by `change(table)`."""
    star = read_star(path)
    write_star(path, star.with_table(change(star.table(table))))


def drop_table(path: str | Path, table: str) -> None:
    star = read_star(path)
    write_star(path, [t for t in star.tables if t.name != table])


def rename_table(path: str | Path, table: str, name: str) -> None:
    star = read_star(path)
    write_star(path, [replace(t, name=name) if t.name == table else t for t in star.tables])


def set_cell(path: str | Path, table: str, label: str, row: int, value: str) -> None:
    """Change one cell; a new column gets the value in every row."""

    def change(old: StarTable) -> StarTable:
        cells = list(old.columns.get(label, [value] * len(old)))
        cells[row] = value
        return old.with_columns({label: cells})

    edit(path, table, change)


def set_column(path: str | Path, table: str, label: str, value: str) -> None:
    edit(path, table, lambda t: t.with_columns({label: [value] * len(t)}))


def drop_column(path: str | Path, table: str, *labels: str) -> None:
    edit(path, table, lambda t: without_columns(t, labels))


def keep_rows(path: str | Path, table: str, rows: slice) -> None:
    edit(path, table, lambda t: replace(t, columns={k: v[rows] for k, v in t.columns.items()}))


def copy_row(path: str | Path, table: str, row: int, **cells: str) -> None:
    """Append a copy of a row with some cells changed."""
    edit(
        path,
        table,
        lambda t: replace(t, columns={k: [*v, cells.get(k, v[row])] for k, v in t.columns.items()}),
    )


def check_same_sets(project: Path, folder: str, names: Iterable[str]) -> None:
    """Assert that a run made the same files as one in the folder ``alone``."""
    for name in names:
        made, alone = ((project / f / name).read_text() for f in (folder, "alone"))
        assert made.replace(f"{folder}/", "alone/") == alone, name


def constant_stack(path: str | Path, shape: tuple[int, int, int], value: float = 0.0) -> None:
    """Write a placeholder stack."""
    images = np.full(shape, value, dtype=np.float32)
    size = (shape[2], shape[1])
    write_stack(Path(path), images, count=shape[0], size_px=size, pixel_size_angstrom=4.0)


def noise_map(path: str | Path, shape: tuple[int, int, int], pixel_size: float = 4.0) -> None:
    values = np.random.default_rng(0).normal(size=shape)
    write_volume(Path(path), values.astype(np.float32), pixel_size)


def constant_map(path: str | Path, size: int, value: float) -> None:
    write_volume(Path(path), np.full((size, size, size), value, dtype=np.float32), 4.0)
