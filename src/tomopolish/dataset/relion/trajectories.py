"""Trajectory sets (spec §7): one table per particle, read by name when asked for, written as a stream."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np

from tomopolish.dataset.files import atomic_write, shown_path
from tomopolish.dataset.star import StarTable
from tomopolish.dataset.star_syntax import parse_tables, print_table
from tomopolish.errors import InputError
from tomopolish.fixed_point import print_rows
from tomopolish.shapes import Float

Array = np.ndarray

GENERAL = "general"
COLUMNS = ("rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginZAngst")
_HEADER = b"\ndata_"


@dataclass(frozen=True, eq=False)
class TrajectorySet:
    """A trajectory set on disk, of which only the places of its tables are held."""

    path: Path
    source: str

    @cached_property
    def _extents(self) -> dict[str, tuple[int, int]]:
        """Particle name → first and last byte of its block."""
        try:
            with self.path.open("rb") as handle:
                if not handle.read(1):
                    return {}
                with mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as text:
                    return _index_blocks(text)
        except FileNotFoundError:
            raise InputError(f"{self.source}: there is no such file; correct the path") from None
        except (OSError, ValueError) as problem:
            raise InputError(f"{self.source}: cannot be read ({problem}); check the path") from None

    def __contains__(self, name: str) -> bool:
        return name in self._extents

    def __len__(self) -> int:
        """Return the number of trajectories."""
        return len(self._extents) - (GENERAL in self._extents)

    def load(self, names: Sequence[str], tilts: int) -> Float[Array, "P F 3"]:
        """Offsets of particles in each tilt image (file order), Å.

        Raises
        ------
        InputError
            When a particle has no trajectory, or one of another length than `tilts`.
        """
        offsets = np.zeros((len(names), tilts, 3))
        with self.path.open("rb") as handle:
            for i, name in enumerate(names):
                table = self._table(handle, name)
                if len(table) != tilts:
                    raise table.error(
                        f"the trajectory has {len(table)} rows, but the tilt series {tilts} tilt images; "
                        "give the trajectories that belong to this tomogram set"
                    )
                for axis, label in enumerate(COLUMNS):
                    offsets[i, :, axis] = table.floats(label)
        return offsets

    def _table(self, handle: BinaryIO, name: str) -> StarTable:
        if name not in self._extents:
            raise InputError(
                f"{self.source}: there is no trajectory for the particle {name!r}; "
                "give the trajectory set that belongs to these particles, or none"
            )
        start, stop = self._extents[name]
        handle.seek(start)
        text = handle.read(stop - start).decode("utf-8", "surrogateescape").replace("\r", "")
        tables = parse_tables(text, self.source)
        return tables[0]


def _index_blocks(text: mmap.mmap) -> dict[str, tuple[int, int]]:
    starts = [0] if text[:5] == _HEADER[1:] else []
    position = text.find(_HEADER)
    while position >= 0:
        starts.append(position + 1)
        position = text.find(_HEADER, position + 1)
    extents: dict[str, tuple[int, int]] = {}
    for start, stop in zip(starts, [*starts[1:], len(text)], strict=True):
        line_end = text.find(b"\n", start, stop)
        line = text[start + 5 : stop if line_end < 0 else line_end]
        name = line.split(b" #", 1)[0].strip().decode("utf-8", "surrogateescape")
        extents.setdefault(name, (start, stop))
    return extents


def read_trajectory_set(path: Path, *, working_directory: Path) -> TrajectorySet:
    """Open a trajectory set; raises InputError when it is missing or holds no trajectory."""
    trajectories = TrajectorySet(path, shown_path(path, working_directory))
    if not len(trajectories):
        raise InputError(
            f"{trajectories.source}: there is no trajectory in this file; give a motion.star, or none"
        )
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
        blocks = zip(names, print_rows(offsets_angstrom), strict=True)
        self._handle.write("".join(f"{before}{name}{after}{rows}\n" for name, rows in blocks))


@contextlib.contextmanager
def trajectory_writer(path: Path, *, count: int, version: str | None) -> Iterator[TrajectoryWriter]:
    """Write a trajectory set of `count` particles atomically; raises RunError when that is impossible."""
    with atomic_write(path) as handle:
        general = StarTable(
            name=GENERAL, columns={"rlnParticleNumber": [str(count)]}, is_loop=False, version=version
        )
        handle.writelines(print_table(general))
        yield TrajectoryWriter(handle, version)
