"""Writer of a refined tomogram set, in the dialect and with all columns of the input set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tomopolish.dataset.files import rebased, shown_path, unique_file_names
from tomopolish.dataset.model import Alignment, Deformation, LeftOutTilt, TiltSeries
from tomopolish.dataset.mrc import split_section
from tomopolish.dataset.relion.projections import projection_columns
from tomopolish.dataset.relion.tilt_series import (
    COEFFICIENTS,
    CTF_BFACTOR,
    CTF_SCALE,
    DEFOCUS,
    DEFORMATION_GRID,
    DEFORMATION_TYPE,
    MICROGRAPH,
    PHASE_SHIFT,
    SERIES_FILE,
    STACK,
)
from tomopolish.dataset.relion.tomogram_size import TomogramSize
from tomopolish.dataset.relion.tomograms import Dialect, TomogramSet
from tomopolish.dataset.star import StarTable, float_columns, format_floats, format_vectors, write_star
from tomopolish.errors import InputError
from tomopolish.shapes import Array, Bool

FRAME_COUNT = "rlnTomoFrameCount"


def projections_file(stem: str) -> str:
    """Return the name of the file that RELION 5's job writes with the refined tilt table of one tomogram.

    Programs that convert projections for other packages read it. `stem` is the tomogram's file name.
    """
    return f"{stem}_projections.star"


class TomogramSetWriter:
    """Takes tomograms one at a time, so that thousands need no memory, and writes the set at the end.

    Tomograms that are not added keep their input rows, apart from names of files that would no longer be
    found from the output folder.
    """

    def __init__(
        self,
        tomograms: TomogramSet,
        out_folder: Path,
        place: Path | None = None,
        *,
        projections_in: str | None = None,
    ) -> None:
        """Write into `out_folder`, or temporarily into `place`, under the names of the former.

        If `projections_in` names a folder within it, that also receives a file for each refined tomogram (see
        `projections_file`).
        """
        self._set = tomograms
        self._out = out_folder
        self._place = place or out_folder
        self._projections_in = projections_in
        self._series: dict[str, StarTable] = {}  # RELION 4 only: they are written into the set's own file
        self._files: dict[str, str] = {}  # RELION 5 only
        self._deformations: dict[str, Deformation] = {}
        self._file_names = unique_file_names(tomograms.names)
        self._counts: dict[str, int] = {}  # of tomograms that lose tilt images

    def add(self, tilt_series: TiltSeries, alignment: Alignment) -> None:
        """Add the result of one tomogram.

        Raises InputError when its input table can no longer be read, RunError when its new file cannot be
        written.
        """
        name = tilt_series.name
        table = self._set.series(name)
        if len(alignment.projections_px) != len(table):
            raise ValueError(
                f"{table.place} has {len(table)} rows, the alignment {len(alignment.projections_px)}"
            )
        if alignment.deformation is not None:
            self._deformations[name] = alignment.deformation
        columns = _refined_columns(tilt_series, table, alignment)
        refined = table.with_columns(_with_input_rows(columns, table, alignment.left_out))
        refined = self._with_images_found(name, refined)
        self._keep(name, refined)
        if self._projections_in is not None:
            path = self._place / self._projections_in / projections_file(self._file_names[name])
            write_star(path, [refined])

    def add_part(self, name: str, remains: Bool[Array, "F"]) -> None:
        """Add the input rows of those tilt images of a tomogram that remain; raises errors as `add`."""
        table = self._set.series(name).with_rows(remains)
        self._counts[name] = len(table)
        self._keep(name, self._with_images_found(name, table))

    def finish(self) -> Path:
        """Write the set's own file and return its path; raises RunError when it cannot be written."""
        aligned = set(self._files) | set(self._series)
        for name in self._set.names:
            if name not in aligned:
                self._keep_input(name)
        general = self._set.general.with_columns(self._general_columns())
        star = self._set.star.with_table(general)
        for table in self._series.values():
            star = star.with_table(table)
        path = self._place / "tomograms.star"
        write_star(path, star)
        return path

    def _keep_input(self, name: str) -> None:
        """Write a tomogram's input table; the set names the input file of a table that cannot be read.

        If a run adds warps to the set, such a tomogram gets a warp of zero: the columns of ``global`` apply
        to all rows, so that a row without a warp could not be distinguished.
        """
        try:
            table = self._set.series(name)
        except InputError:
            if self._set.dialect is Dialect.RELION_5:
                named = self._set.general.value(SERIES_FILE, self._set.row(name))
                self._files[name] = rebased(named, self._set.path, self._set.working_directory)
            return
        if self._deformations and DEFORMATION_TYPE not in self._set.general:
            like = next(iter(self._deformations.values()))
            coefficients = np.zeros((len(table), like.coefficients.shape[1]))
            self._deformations[name] = replace(like, coefficients=coefficients)
            table = table.with_columns({COEFFICIENTS: format_vectors(coefficients)})
        self._keep(name, self._with_images_found(name, table))

    def _with_images_found(self, name: str, table: StarTable) -> StarTable:
        """Return a table whose images are also found from the output folders."""
        if MICROGRAPH not in table:
            return table
        beside, folder = self._set.series_file(name), self._set.working_directory
        names = [_rebased_section(cell, beside, folder) for cell in table.strings(MICROGRAPH)]
        return table.with_columns({MICROGRAPH: names})

    def _keep(self, name: str, table: StarTable) -> None:
        folder = self._set.working_directory
        if self._set.dialect is Dialect.RELION_4:
            self._series[name] = table
            return
        relative = f"tilt_series/{self._file_names[name]}.star"
        path, source = self._place / relative, self._set.series_file(name)
        if path.exists() and path.samefile(source):
            raise InputError(
                f"{shown_path(path, folder)}: the refined tilt series would replace its input; "
                "give another output folder (--o)"
            )
        star = self._set.series_star(name)
        tables = tuple(table if old.name == table.name else old for old in star.tables)
        write_star(path, replace(star, tables=tables))
        self._files[name] = shown_path(self._out / relative, folder)

    def _general_columns(self) -> Mapping[str, list[str]]:
        general, names = self._set.general, self._set.names
        columns: dict[str, list[str]] = {}
        if self._files:
            columns[SERIES_FILE] = [self._files[name] for name in names]
        if STACK in general:
            columns[STACK] = [
                _rebased_section(cell, self._set.path, self._set.working_directory)
                for cell in general.strings(STACK)
            ]
        if self._counts and FRAME_COUNT in general:
            stated = zip(names, general.strings(FRAME_COUNT), strict=True)
            columns[FRAME_COUNT] = [str(self._counts.get(name, cell)) for name, cell in stated]
        if self._deformations:
            for label in (*DEFORMATION_GRID, DEFORMATION_TYPE):
                old = general.strings(label) if label in general else [""] * len(names)
                columns[label] = [
                    self._deformation_cell(label, name) or old[row] or "0" for row, name in enumerate(names)
                ]
        return columns

    def _deformation_cell(self, label: str, name: str) -> str:
        deformation = self._deformations.get(name)
        if deformation is None:
            return ""
        if label == DEFORMATION_TYPE:
            return deformation.model
        return str(deformation.grid[DEFORMATION_GRID.index(label)])


def _refined_columns(tilt_series: TiltSeries, table: StarTable, alignment: Alignment) -> dict[str, list[str]]:
    size = TomogramSize(px=tilt_series.tomogram_size_px, is_assumed=tilt_series.size_is_assumed)
    columns = projection_columns(
        table, alignment.projections_px, tilt_series.pixel_size_angstrom, tilt_series.image_size_px, size
    )
    if alignment.deformation is not None:
        columns[COEFFICIENTS] = format_vectors(alignment.deformation.coefficients)
    optics = alignment.optics
    if optics.defocus_angstrom is not None:
        columns |= float_columns(DEFOCUS[:2], optics.defocus_angstrom)
    if optics.astigmatism_degrees is not None:
        columns[DEFOCUS[2]] = format_floats(optics.astigmatism_degrees)
    if optics.phase_shift_degrees is not None:
        columns[PHASE_SHIFT] = format_floats(optics.phase_shift_degrees)
    if optics.scale is not None:
        columns[CTF_SCALE] = format_floats(optics.scale)
    if optics.bfactor_angstrom2 is not None:
        columns[CTF_BFACTOR] = format_floats(optics.bfactor_angstrom2)
    return columns


def _with_input_rows(
    columns: Mapping[str, list[str]], table: StarTable, left_out: Sequence[LeftOutTilt]
) -> dict[str, list[str]]:
    """Return columns with the input's cells in rows that were left out, where the input has them."""
    restored = {}
    for label, cells in columns.items():
        given = table.strings(label) if label in table else None
        rows = {one.tilt for one in left_out} if given else set()
        restored[label] = [given[i] if given and i in rows else cell for i, cell in enumerate(cells)]
    return restored


def _rebased_section(named: str, star_file: Path, working_directory: Path) -> str:
    """Return `rebased` for names that may contain a section (``000001@file``) or format (``file:mrcs``)."""
    _, name = split_section(named)
    moved = rebased(name, star_file, working_directory) if name else name
    return named if moved == name else named.replace(name, moved)
