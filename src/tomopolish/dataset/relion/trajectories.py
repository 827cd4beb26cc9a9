"""Trajectory sets: one table per particle, read by name on access, written as a stream."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np

from tomopolish.dataset.cells import ENCODING, ON_ERROR
from tomopolish.dataset.files import atomic_write, shown_path
from tomopolish.dataset.opening import open_regular, unreadable
from tomopolish.dataset.relion.required import Needed, check_columns
from tomopolish.dataset.relion.roles import ROLES, check_kind
from tomopolish.dataset.star import StarTable, read_star
from tomopolish.dataset.star_syntax import BOM, MOST_LINE_BYTES, parse_tables, print_table
from tomopolish.errors import InputError
from tomopolish.shapes import Array, Float

GENERAL = "general"
COLUMNS = ("rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginZAngst")
_HEADER = b"\ndata_"
_BYTES_AT_ONCE = 1 << 20
_LEAST_BYTES = 48
"""Minimum size of a block: the three labels alone need as much."""


@dataclass(frozen=True, eq=False)
class TrajectorySet:
    """A trajectory set on disk; only the positions of its tables are in memory."""

    path: Path
    source: str

    @cached_property
    def _extents(self) -> dict[str, tuple[int, int]]:
        """Particle name → first and last byte of its block."""
        try:
            with open_regular(self.path) as handle:
                return _index_blocks(handle)
        except (OSError, ValueError) as problem:
            raise unreadable(self.source, problem) from None

    def __contains__(self, name: str) -> bool:
        return name in self._extents

    def __len__(self) -> int:
        """Return the number of trajectories."""
        return len(self._extents) - (GENERAL in self._extents)

    def check_columns(self) -> None:
        """Raise InputError where the first table is not a trajectory, so that the file is of another kind."""
        name = next((name for name in self._extents if name != GENERAL), None)
        if name is None:
            return
        with open_regular(self.path) as handle:
            first = self._table(handle, name)
        if not all(label in first for label in COLUMNS):
            check_kind(read_star(self.path, shown_as=self.source), ROLES["trajectories"], self.path)
            check_columns(first, [Needed(labels=COLUMNS, source="from Bayesian polishing")])

    def load(self, names: Sequence[str], tilts: int) -> Float[Array, "P F 3"]:
        """Return the offsets of particles in each tilt image (file order), Å.

        Raises InputError when a particle has no trajectory, or one of another length than `tilts`.
        """
        offsets = np.zeros((len(names), tilts, 3))
        for i, table in enumerate(self.tables(names, tilts)):
            for axis, label in enumerate(COLUMNS):
                offsets[i, :, axis] = table.floats(label)
        return offsets

    def tables(self, names: Sequence[str], tilts: int | None) -> Iterator[StarTable]:
        """Yield the tables of particles, of `tilts` rows each, or of any number; errors as `load`."""
        with open_regular(self.path) as handle:
            for name in names:
                table = self._table(handle, name)
                if tilts is not None and len(table) != tilts:
                    raise table.error(
                        f"the trajectory has {len(table)} rows, but the tilt series {tilts} tilt images; "
                        "give the trajectories that belong to this tomogram set"
                    )
                yield table

    def _table(self, handle: BinaryIO, name: str) -> StarTable:
        if name not in self._extents:
            raise InputError(
                f"{self.source}: there is no trajectory for the particle {name!r}; "
                "give the trajectory set that belongs to these particles, or none"
            )
        start, stop = self._extents[name]
        handle.seek(start)
        tables = parse_tables(handle.read(stop - start), self.source)
        if not tables or tables[0].name != name:
            raise InputError(f"{self.source}: the file was changed while it was read; start again")
        return tables[0]


def _index_blocks(handle: BinaryIO) -> dict[str, tuple[int, int]]:
    """Return the extent of each block; blocks that are too short for a trajectory are left out."""
    extents: dict[str, tuple[int, int]] = {}
    line, start = None, 0
    for following, position in _headers(handle):
        if line is not None:
            word = line.split(maxsplit=1)[0] if line[:1].strip() else b""
            name = word.decode(ENCODING, ON_ERROR)
            if position - start >= _LEAST_BYTES or name == GENERAL:
                extents.setdefault(name, (start, position))
        line, start = following, position
    return extents


def _headers(handle: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yield the text after each ``data_`` and the start of its block; last, the end of the file.

    The file is read in parts.
    """
    text, begin = b"\n", -1  # text that has been read but not searched, and its place in the file
    while piece := handle.read(_BYTES_AT_ONCE):
        if begin < 0 and piece.startswith(BOM):
            begin, piece = begin + len(BOM), piece.removeprefix(BOM)
        text += piece.replace(b"\r", b"\n")
        if BOM in text:  # marks of a joined file become line feeds, so that places are unchanged
            text = text.replace(b"\n" + BOM, b"\n" * (1 + len(BOM)))
        line_end = text.rfind(b"\n")
        position = text.find(_HEADER, 0, line_end)
        while position >= 0:
            stop = text.find(b"\n", position + 1)
            yield text[position + len(_HEADER) : stop], begin + position + 1
            position = text.find(_HEADER, stop, line_end)
        begin, text = begin + line_end, text[line_end:]
        if len(text) > MOST_LINE_BYTES:
            raise ValueError(f"a line is longer than {MOST_LINE_BYTES >> 20} MiB")
    if text.startswith(_HEADER):
        yield text[len(_HEADER) :], begin + 1
    yield b"", begin + len(text)


def read_trajectory_set(path: Path, *, working_directory: Path) -> TrajectorySet:
    """Return a trajectory set; raises InputError when it is missing or contains no trajectory."""
    trajectories = TrajectorySet(path, shown_path(path, working_directory))
    if not len(trajectories):
        raise InputError(
            f"{trajectories.source}: there is no trajectory in this file; give a motion.star, or none"
        )
    trajectories.check_columns()
    return trajectories


class TrajectoryWriter:
    """Writes trajectories to an open file, tomogram by tomogram."""

    def __init__(self, handle: TextIO, version: str | None) -> None:
        tag = "" if version is None else f"\n# version {version}\n"
        labels = "".join(f"_{label} #{i}\n" for i, label in enumerate(COLUMNS, start=1))
        self._handle = handle
        self._before_name = f"{tag}\ndata_"
        self._after_name = f"\n\nloop_\n{labels}"

    def add(self, names: Sequence[str], offsets_angstrom: Float[Array, "P F 3"]) -> None:
        """Write the offsets (file order) of some particles."""
        before, after = self._before_name, self._after_name
        rows = "%.6f %.6f %.6f\n" * offsets_angstrom.shape[1]
        rounded = np.round(offsets_angstrom, 6) + 0.0  # adding zero removes the sign of -0
        for name, offsets in zip(names, rounded, strict=True):
            self._handle.write(f"{before}{name}{after}{rows % tuple(offsets.ravel().tolist())}\n")


@contextlib.contextmanager
def trajectory_writer(path: Path, *, count: int, version: str | None) -> Iterator[TrajectoryWriter]:
    """Write a trajectory set of `count` particles atomically; raises RunError when it cannot be written."""
    with atomic_write(path) as handle:
        handle.writelines(print_table(_general(count, version)))
        yield TrajectoryWriter(handle, version)


def write_trajectory_tables(
    path: Path, tables: Iterable[StarTable], *, count: int, version: str | None
) -> None:
    """Write a trajectory set of `count` tables atomically; raises RunError when it cannot be written."""
    with atomic_write(path) as handle:
        for table in chain([_general(count, version)], tables):
            handle.writelines(print_table(replace(table, version=version)))


def _general(count: int, version: str | None) -> StarTable:
    return StarTable(
        name=GENERAL, columns={"rlnParticleNumber": [str(count)]}, is_loop=False, version=version
    )
