"""Tomogram sets of both dialects, whose tilt series are loaded one by one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from pathlib import Path

from tomopolish.dataset.files import exists, not_found, resolve_path, searched_folders, shown_path
from tomopolish.dataset.model import TiltSeries
from tomopolish.dataset.relion.numbers import source_of
from tomopolish.dataset.relion.projections import has_projections
from tomopolish.dataset.relion.required import Needed, check_columns, table_with
from tomopolish.dataset.relion.roles import ROLES, check_kind
from tomopolish.dataset.relion.tilt_series import (
    HAND,
    HAND_SOURCE,
    SERIES_FILE,
    STACK,
    STATED_TWICE,
    ImageFolders,
    load_tilt_series,
    read_pixel_size,
)
from tomopolish.dataset.relion.tomogram_size import SIZES, is_set
from tomopolish.dataset.star import StarFile, StarTable, read_star
from tomopolish.dataset.star_table import is_unset
from tomopolish.errors import InputError
from tomopolish.settings.tilts import TiltSelection

GENERAL = "global"
NAME = "rlnTomoName"


class Dialect(Enum):
    """Layout of a data set; the value is the version tag of that RELION's files."""

    RELION_5 = "50001"
    RELION_4 = "30001"


@dataclass(frozen=True, kw_only=True, eq=False)
class TomogramSet:
    """A tomogram set as read; the tables of single tilt series are read on access.

    Attributes
    ----------
    star
        The set's own file.
    path, working_directory
        That file, and the project's folder, in which relative names are resolved.
    optics
        The particles' optics groups, for a pixel size or microscope that this set does not state.
    selection
        Tilt images that the user has chosen to leave out.
    """

    star: StarFile
    path: Path
    working_directory: Path
    optics: StarTable | None = None
    selection: TiltSelection = field(default_factory=TiltSelection)

    @cached_property
    def general(self) -> StarTable:
        """Table ``global``, one row per tomogram."""
        return self.star.table(GENERAL)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of all tomograms, in the file's order."""
        return tuple(self.general.strings(NAME))

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.names)}

    def __contains__(self, name: str) -> bool:
        return name in self._rows

    @property
    def dialect(self) -> Dialect:
        """RELION 5 has a file for each tilt series, RELION 4 a table beside ``global``."""
        return Dialect.RELION_5 if SERIES_FILE in self.general else Dialect.RELION_4

    def row(self, name: str) -> int:
        """Return the row of a tomogram in ``global``; raises InputError when there is none of that name."""
        try:
            return self._rows[name]
        except KeyError:
            raise self.general.error(f"there is no tomogram named {name!r}; check {NAME}") from None

    def check_columns(self) -> None:
        """Raise InputError, which names all missing columns of ``global``."""
        general = self.general
        missing = tuple(
            label
            for label in STATED_TWICE
            if label not in general and source_of(label, general, 0, self.optics)[0] is general
        )
        needed = [Needed(labels=missing, source="from Import"), Needed(labels=(HAND,), source=HAND_SOURCE)]
        if SERIES_FILE not in general and len(self.star.tables) == 1:
            needed.insert(0, Needed(labels=(SERIES_FILE,), source="from Align tilt-series"))
        check_columns(general, needed)

    def with_sizes_of(self, other: TomogramSet, *, everywhere: bool) -> TomogramSet:
        """Return the set with the tomograms' sizes as another set states them, or leaves them out.

        Those that both state are replaced only with `everywhere`: where positions count from the centre,
        sizes cancel.
        """
        general, theirs = self.general, other.general
        columns = {}
        for label in SIZES:
            cells = list(general.strings(label) if label in general else [""] * len(general))
            for row, name in enumerate(self.names):
                if name in other and (
                    everywhere or not (is_set(general, label, row) and is_set(theirs, label, other.row(name)))
                ):
                    cells[row] = theirs.stated(label, other.row(name)) or ""
            columns[label] = cells
        return replace(self, star=self.star.with_table(general.with_columns(columns)))

    def series_file(self, name: str) -> Path:
        """Return the file that contains a tilt series' table."""
        if self.dialect is Dialect.RELION_4:
            return self.path
        row = self.row(name)
        named = self.general.stated(SERIES_FILE, row)
        if named is None:
            raise self.general.error(f"{SERIES_FILE} is empty; name the tilt series' STAR file", row=row)
        return resolve_path(named, self.path, self.working_directory)

    def series_star(self, name: str) -> StarFile:
        """Return the file with a tilt series' table; raises InputError when it cannot be read."""
        if self.dialect is Dialect.RELION_4:
            return self.star
        path, row = self.series_file(name), self.row(name)
        place = f"{self.general.place}, row {row + 1}, {SERIES_FILE}"
        named = self.general.value(SERIES_FILE, row)
        if not exists(path):
            folders = searched_folders(named, self.path, self.working_directory)
            raise InputError(f"{place}: {not_found(named, folders)}")
        shown = shown_path(path, self.working_directory)
        try:
            star = read_star(path, shown_as=shown)
        except InputError as problem:
            raise InputError(f"{place}: {problem}") from None
        if not star.tables:
            raise InputError(f"{place}: {shown}: this is an empty file; name the tilt series' STAR file")
        return star

    def series(self, name: str) -> StarTable:
        """Return the table of a tilt series, one row per tilt image; raises InputError when there is none."""
        return series_table(self.series_star(name), name, alone=self.dialect is Dialect.RELION_5)

    def load(self, name: str, *, geometry_only: bool = False) -> TiltSeries:
        """Return one tilt series, whose images stay on disk; see `load_tilt_series`."""
        return load_tilt_series(
            self.general,
            self.row(name),
            self.series(name),
            folders=ImageFolders(
                general_file=self.path,
                series_file=self.series_file(name),
                working_directory=self.working_directory,
            ),
            optics=self.optics,
            geometry_only=geometry_only,
            selection=self.selection,
        )

    def pixel_size_angstrom(self, name: str) -> float:
        """Return the pixel size of a tomogram's tilt images; raises InputError when it is not stated."""
        return read_pixel_size(self.general, self.row(name), self.optics)


def series_table(star: StarFile, name: str, *, alone: bool) -> StarTable:
    """Return the table of a tomogram's name; in a separate file, also the only table with tilt images."""
    if alone and name not in star:
        candidates = [table for table in star.tables if has_projections(table)]
        candidates = candidates or list(star.tables)
        if len(candidates) == 1:
            return candidates[0]
    return star.table(name)


def read_tomogram_set(path: Path, *, working_directory: Path) -> TomogramSet:
    """Return a tomogram set; raises InputError when it is malformed, empty or names a tomogram twice."""
    star = read_star(path, shown_as=shown_path(path, working_directory))
    check_kind(star, ROLES["tomograms"], path)
    check_columns(table_with(star, GENERAL, (SERIES_FILE, STACK)), [Needed(labels=(NAME,))])
    tomograms = TomogramSet(star=star, path=path, working_directory=working_directory)
    seen: dict[str, int] = {}
    for row, name in enumerate(tomograms.names):
        if is_unset(name):
            raise tomograms.general.error(f"{NAME} is empty; name the tomogram", row=row)
        if name in seen:
            raise tomograms.general.error(
                f"the tomogram {name!r} is listed twice (first in row {seen[name] + 1}); remove one row",
                row=row,
            )
        seen[name] = row
    if not seen:
        raise tomograms.general.error("there is no tomogram in this set; give a set with tomograms")
    return tomograms
