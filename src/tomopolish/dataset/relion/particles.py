"""Particle sets of both dialects: positions, orientations, half sets, optics groups.

See docs/dev/conventions.md, Geometry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import repeat
from pathlib import Path

import numpy as np

from tomopolish.dataset.cells import Cells
from tomopolish.dataset.files import shown_path
from tomopolish.dataset.model import OpticsGroup, Particles, TiltSeries
from tomopolish.dataset.relion.kinds import PICKS, kind_of
from tomopolish.dataset.relion.numbers import value_or
from tomopolish.dataset.relion.particle_names import NAME, ParticleNames, particle_names
from tomopolish.dataset.relion.particle_optics import (
    OPTICS,
    have_aberrations,
    optics_in_use,
    optics_indices,
    optics_table,
    read_optics_groups,
)
from tomopolish.dataset.relion.required import Needed, check_columns, table_with
from tomopolish.dataset.relion.roles import ROLES, check_kind, wrong_star
from tomopolish.dataset.relion.tomogram_size import SIZES
from tomopolish.dataset.star import StarFile, StarTable, format_floats, read_star, write_star
from tomopolish.physics.geometry import euler_zyz, euler_zyz_angles, tomogram_centre_px
from tomopolish.shapes import Array, Bool, Float, Int

TABLE = "particles"
TOMOGRAM = "rlnTomoName"
HALF_SET = "rlnRandomSubset"
CENTRED = tuple(f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ")
CORNERED = tuple(f"rlnCoordinate{axis}" for axis in "XYZ")
FIGURE_OF_MERIT = "rlnParticleFigureOfMerit"
ORIGIN = tuple(f"rlnOrigin{axis}Angst" for axis in "XYZ")
PARTICLE_ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
SUBTOMOGRAM_ANGLES = tuple(f"rlnTomoSubtomogram{angle}" for angle in ("Rot", "Tilt", "Psi"))

_ROWS_AT_ONCE = 4096


@dataclass(frozen=True, kw_only=True, eq=False)
class ParticleTable:
    """A particle set as read; cells remain text until a tomogram's particles are loaded.

    Attributes
    ----------
    star
        The set's file.
    corner_px
        Offset that is added to ``rlnCoordinateX``, ``Y`` and ``Z``: 1 px as in RELION 4.0, 0 as in RELION 5
        (docs/dev/conventions.md, Geometry).
    path
        Path of that file; None where there is none.
    """

    star: StarFile
    corner_px: float = 1.0
    path: Path | None = None

    @cached_property
    def table(self) -> StarTable:
        """Table ``particles``."""
        return self.star.table(TABLE)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def is_centred(self) -> bool:
        """Whether positions are in Å from the tomogram's centre (RELION 5) rather than in px (RELION 4)."""
        found = [label in self.table for label in CENTRED]
        # Without one of them it is an incomplete table of RELION 5, unless it is one of RELION 4.
        return found[0] or (any(found) and CORNERED[0] not in self.table)

    @property
    def has_positions(self) -> bool:
        """Return whether the set has the columns without which it cannot be used at all."""
        labels = CENTRED if self.is_centred else CORNERED
        return all(label in self.table for label in (TOMOGRAM, *labels))

    def check_columns(self) -> None:
        """Raise InputError, which names all missing columns, where the set cannot be refined."""
        stated = any(label in self.table for label in (*CENTRED, *CORNERED))
        needed = [
            Needed(labels=(TOMOGRAM,), source="from Extract subtomos"),
            Needed(labels=CENTRED if self.is_centred or not stated else CORNERED),
            Needed(labels=(HALF_SET,), source="from 3D auto-refine"),
        ]
        if self.optics is not None and len(self.optics) > 1 and have_aberrations(self.optics_groups):
            needed.append(Needed(labels=(OPTICS,), source="from Extract subtomos"))
        role = ROLES["particles"]
        if HALF_SET not in self.table and kind_of(self.star) is PICKS and self.path is not None:
            raise wrong_star(self.star, role, self.path, self.star.source)
        remedy = (
            "half sets determine the half map that a particle is compared with; give the particles of a "
            f"refinement with two halves, {role.usual}"
        )
        check_columns(self.table, needed, "" if HALF_SET in self.table else remedy)

    @cached_property
    def optics(self) -> StarTable | None:
        """Table ``optics``; None where there is none."""
        return optics_table(self.star)

    @cached_property
    def optics_groups(self) -> tuple[OpticsGroup, ...]:
        """All optics groups, in the file's order."""
        return read_optics_groups(self.optics)

    @cached_property
    def naming(self) -> ParticleNames:
        """A name for every particle: as stated, or made where stated names are not unique."""
        return particle_names(self.table, self.table.strings(TOMOGRAM))

    @property
    def names(self) -> list[str]:
        """Name of every particle; see `naming`."""
        return self.naming.names

    @cached_property
    def rows_by_tomogram(self) -> Mapping[str, Int[Array, "P"]]:
        """Tomogram → rows of its particles, ascending; tomograms in the order of their first particle."""
        cells = self.table.strings(TOMOGRAM)
        index: dict[str, int] = {}
        codes = np.fromiter((index.setdefault(cell, len(index)) for cell in cells), np.int64, len(cells))
        order = np.argsort(codes, kind="stable")
        bounds = np.searchsorted(codes[order], np.arange(len(index) + 1))
        return {name: order[bounds[i] : bounds[i + 1]] for name, i in index.items()}

    @cached_property
    def half_sets(self) -> Int[Array, "rows"]:
        """Half set of every particle, 0 or 1; raises InputError, which names a row in neither half."""
        values = self.table.ints(HALF_SET)
        wrong = (values != 1) & (values != 2)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise self.table.error(
                f"{HALF_SET} is {values[row]}, but must be 1 or 2; assign every particle to a half set",
                row=row,
            )
        return values - 1

    @cached_property
    def _optics_indices(self) -> tuple[Int[Array, "rows"], str | None]:
        return optics_indices(self.table, self.optics, self.optics_groups)

    @property
    def optics_indices(self) -> Int[Array, "rows"]:
        """Index into `optics_groups` of every particle; raises InputError, which names a row without one."""
        return self._optics_indices[0]

    @property
    def optics_fault(self) -> str | None:
        """Fault of the particles' optics groups that does not matter; None where there is none."""
        return self._optics_indices[1]

    def particles(self, tilt_series: TiltSeries, *, geometry_only: bool = False) -> Particles:
        """Return the particles of one tomogram, without trajectories.

        With `geometry_only`, half sets and optics groups that cannot be read have meaningless values. Raises
        InputError, which names file, table and row, when a column is missing or a cell of the wrong type.
        """
        if not geometry_only:
            self.check_columns()
        rows = self.rows_by_tomogram.get(tilt_series.name, np.zeros(0, dtype=np.int64))
        subtomogram = self.subtomogram_rotations(rows)
        origins_px = (
            np.stack([self._column(label, 0.0)[rows] for label in ORIGIN], axis=-1)
            / tilt_series.pixel_size_angstrom
        )
        shift_px = np.einsum("pij,pj->pi", subtomogram, origins_px)
        read = partial(value_or, only_if=geometry_only)
        none: Int[Array, "P"] = np.zeros(len(rows), dtype=np.int64)
        single: tuple[OpticsGroup, ...] = (OpticsGroup(name="all"),)
        groups, index = read(
            (single, none), lambda: optics_in_use(self.optics_groups, self.optics_indices[rows])
        )
        return Particles(
            rows=rows,
            names=tuple(self.names[row] for row in rows),
            positions_px=self._coordinates_px(rows, tilt_series) - shift_px,
            rotations=subtomogram @ euler_zyz(*(self._column(label, 0.0)[rows] for label in PARTICLE_ANGLES)),
            half_set=read(none, lambda: self.half_sets[rows]),
            optics_group=index,
            optics_groups=groups,
        )

    def subtomogram_rotations(self, rows: Int[Array, "P"]) -> Float[Array, "P 3 3"]:
        """Return the rotations A_sub of some rows' subtomograms (docs/dev/conventions.md, Geometry)."""
        return euler_zyz(*(self._column(label, 0.0)[rows] for label in SUBTOMOGRAM_ANGLES))

    def _coordinates_px(self, rows: Int[Array, "P"], tilt_series: TiltSeries) -> Float[Array, "P 3"]:
        if self.is_centred:
            centred = np.stack([self._column(label)[rows] for label in CENTRED], axis=-1)
            return centred / tilt_series.pixel_size_angstrom + tomogram_centre_px(
                tilt_series.tomogram_size_px
            )
        if any(tilt_series.size_is_assumed):
            raise self.table.error(
                f"{', '.join(CORNERED)} count from the corner of tomogram {tilt_series.name}, whose size "
                f"({', '.join(SIZES)}) is not set; give it in the tomogram set, in px of the tilt images"
            )
        return np.stack([self._column(label)[rows] for label in CORNERED], axis=-1) + self.corner_px

    @property
    def filled_columns(self) -> list[str]:
        """Return the labels of angles and origins that have values in some rows only; others are 0."""
        labels = (*PARTICLE_ANGLES, *SUBTOMOGRAM_ANGLES, *ORIGIN)
        return [
            label
            for label in labels
            if label in self.table
            and not self._column(label, 0.0).all()  # unset cells are 0
            and 0 < len(self.table.unset_rows(label)) < len(self)
        ]

    @cached_property
    def _numbers(self) -> dict[str, Array]:
        return {}

    def _column(self, label: str, default: float | None = None) -> Float[Array, "rows"]:
        """Return a column as numbers, which are converted once."""
        if label not in self._numbers:
            self._numbers[label] = self.table.floats(label, default=default)
        return self._numbers[label]


class ParticleUpdate:
    """Collects refined positions and orientations; the rest of the table is written back unchanged."""

    def __init__(self, particles: ParticleTable) -> None:
        self._particles = particles
        self._labels = CENTRED if particles.is_centred else CORNERED
        self._new: dict[str, tuple[Float[Array, "rows"], Bool[Array, "rows"]]] = {}  # values, and where

    def add(
        self,
        tilt_series: TiltSeries,
        rows: Int[Array, "P"],
        positions_px: Float[Array, "P 3"],
        rotations: Float[Array, "P 3 3"] | None = None,
    ) -> None:
        """Set the positions (tomogram frame, px) of some rows, and their origins to zero.

        `rotations` are from particle to tomogram; None: the orientations stay as they were.
        """
        if self._particles.is_centred:
            centre = tomogram_centre_px(tilt_series.tomogram_size_px)
            positions = (positions_px - centre) * tilt_series.pixel_size_angstrom
        else:
            positions = positions_px - self._particles.corner_px
        self._set(self._labels, rows, positions)
        stated = [label for label in ORIGIN if label in self._particles.table]
        self._set(stated, rows, np.zeros((len(rows), len(stated))))
        if rotations is not None:
            subtomogram = self._particles.subtomogram_rotations(rows)
            angles = euler_zyz_angles(np.swapaxes(subtomogram, 1, 2) @ rotations)
            self._set(PARTICLE_ANGLES, rows, angles)

    def add_probability(self, rows: Int[Array, "P"], probability: Float[Array, "P"]) -> None:
        """Set the figure of merit of some rows, by which RELION's subset selection can choose particles."""
        self._set((FIGURE_OF_MERIT,), rows, probability[:, None])

    def _set(self, labels: Sequence[str], rows: Int[Array, "P"], values: Float[Array, "P n"]) -> None:
        count = len(self._particles)
        for label, column in zip(labels, values.T, strict=True):
            cells, is_new = self._new.setdefault(label, (np.zeros(count), np.zeros(count, dtype=bool)))
            cells[rows], is_new[rows] = column, True

    def table(self, *, with_names: bool = False) -> StarTable:
        """Return the table ``particles`` with the refined positions.

        `with_names` says whether other files name particles, so that made names must be in the table.
        """
        table, naming = self._particles.table, self._particles.naming
        in_order = (*self._labels, *ORIGIN, *PARTICLE_ANGLES, FIGURE_OF_MERIT)
        columns: dict[str, Sequence[str]] = {
            label: Cells.of(self._merged(label, *self._new[label]))
            for label in in_order
            if label in self._new
        }
        if with_names and naming.fault is not None:
            columns[NAME] = naming.names
        return table.with_columns(columns)

    def _merged(self, label: str, values: Float[Array, "rows"], is_new: Bool[Array, "rows"]) -> Iterator[str]:
        """Yield a column with new cells; the others are unchanged, or neutral where there is no column."""
        table, neutral = self._particles.table, "1.000000" if label == FIGURE_OF_MERIT else "0"
        before = iter(table.strings(label)) if label in table else repeat(neutral)
        for start in range(0, len(values), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            refined = is_new[part].tolist()
            # `before` comes last: at the end of this part's rows, none of its cells may be consumed.
            rows = zip(format_floats(values[part]), refined, before, strict=False)
            yield from (new if is_refined else old for new, is_refined, old in rows)

    def write(self, path: Path, *, with_names: bool = False) -> None:
        """Write the particle set (see `table`) atomically; raises RunError when it cannot be written."""
        write_star(path, self._particles.star.with_table(self.table(with_names=with_names)))


def read_particle_table(path: Path, *, working_directory: Path) -> ParticleTable:
    """Return a particle set.

    Raises InputError when it is missing, malformed, empty, another kind of file, or lacks columns.
    """
    star = read_star(path, shown_as=shown_path(path, working_directory))
    check_kind(star, ROLES["particles"], path)
    table = table_with(star, TABLE, (TOMOGRAM, CENTRED[0], HALF_SET))
    if not len(table):
        raise table.error("there is no particle in this set; give a set with particles")
    particles = ParticleTable(star=star, path=path)
    if not particles.has_positions:
        particles.check_columns()
    return particles
