"""Complete data sets: opening, loading tomogram by tomogram, and writing the refined sets."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tomopolish.dataset.images import MrcImages
from tomopolish.dataset.model import Alignment, Particles, References, TiltSeries
from tomopolish.dataset.references import read_references
from tomopolish.dataset.relion.optimisation_set import (
    OptimisationSet,
    read_optimisation_set,
    write_optimisation_set,
)
from tomopolish.dataset.relion.particle_optics import optics_remarks
from tomopolish.dataset.relion.particles import CORNERED, ParticleTable, ParticleUpdate, read_particle_table
from tomopolish.dataset.relion.projections import projection_remarks
from tomopolish.dataset.relion.scores import FILE_NAME as SCORES
from tomopolish.dataset.relion.scores import ScoresFile
from tomopolish.dataset.relion.tomogram_writer import TomogramSetWriter
from tomopolish.dataset.relion.tomograms import Dialect, TomogramSet, read_tomogram_set
from tomopolish.dataset.relion.trajectories import (
    TrajectorySet,
    TrajectoryWriter,
    read_trajectory_set,
    trajectory_writer,
)
from tomopolish.dataset.relion.uncertainty import FILE_NAME as UNCERTAINTY
from tomopolish.dataset.relion.uncertainty import UncertaintyFile
from tomopolish.errors import InputError
from tomopolish.settings.tilts import TiltSelection
from tomopolish.shapes import Array, Float

COMPONENTS = {
    "tomograms": "tomograms",
    "particles": "particles",
    "trajectories": "trajectories",
    "ref1": "half map 1",
    "ref2": "half map 2",
    "mask": "mask",
    "fsc": "fsc",
}
"""Keywords of `open_dataset`, and the names of the components in `OptimisationSet`."""

_KEPT = "_kept_references"
_TABLES = ("_tomogram_file", "particles", "trajectories")
"""Properties that are read from files."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Tomograms, particles, trajectories and references that belong together.

    Tables are read on first use and cached. Pickling passes on only the names of the files, and the copy
    reads them again: it is cheap to send, and a worker reads only what it uses.

    Attributes
    ----------
    files
        Paths of all files.
    relion_version
        Version of RELION, 4 or 5, that will read the particle set; None: that of the tomogram set.
    selection
        Tilt images that the user has chosen to leave out.
    only
        Tomograms that count, of those that have particles; None: all.
    """

    files: OptimisationSet
    relion_version: int | None = None
    selection: TiltSelection = field(default_factory=TiltSelection)
    only: frozenset[str] | None = None

    @cached_property
    def _tomogram_file(self) -> TomogramSet:
        return read_tomogram_set(
            self.files.require("tomograms"), working_directory=self.files.working_directory
        )

    @cached_property
    def tomograms(self) -> TomogramSet:
        """The tomogram set."""
        return replace(self._tomogram_file, optics=self.particles.optics, selection=self.selection)

    @cached_property
    def particles(self) -> ParticleTable:
        """The particle set."""
        particles = read_particle_table(
            self.files.require("particles"), working_directory=self.files.working_directory
        )
        return replace(particles, corner_px=1.0 if self.reader == 4 else 0.0)

    def check_columns(self) -> None:
        """Raise InputError, which names all columns that a refinement needs and a set lacks."""
        self.particles.check_columns()
        self.tomograms.check_columns()

    @property
    def reader(self) -> int:
        """Version of RELION, 4 or 5, whose convention for positions is used."""
        return self.relion_version or (4 if self._tomogram_file.dialect is Dialect.RELION_4 else 5)

    @property
    def conventions(self) -> list[str]:
        """Return sentences on the convention for positions, where versions of RELION differ."""
        if self.particles.is_centred:
            return []
        way = "as RELION 4.0 does, + 1 px" if self.reader == 4 else "as RELION 5 does, without + 1 px"
        if self.relion_version is not None:
            reason = f"because of --relion_version {self.relion_version}"
        else:
            reason = f"because the tomogram set is one of RELION {self.reader}"
            if self.reader == 4:
                reason += "; give --relion_version 5 if RELION 5 will read the results"
        return [f"{', '.join(CORNERED)} in {self.files.shown('particles')} are read {way}, {reason}"]

    @cached_property
    def trajectories(self) -> TrajectorySet | None:
        """The trajectory set; None where there is none."""
        if "trajectories" not in self.files.paths:
            return None
        return read_trajectory_set(
            self.files.require("trajectories"), working_directory=self.files.working_directory
        )

    @property
    def version(self) -> str:
        """Version tag of new files of this data set."""
        return self.tomograms.star.version or self.tomograms.dialect.value

    @cached_property
    def tomogram_names(self) -> tuple[str, ...]:
        """Tomograms that have particles, in the order of the tomogram set."""
        names = (name for name in self.tomograms.names if name in self.particles.rows_by_tomogram)
        return tuple(name for name in names if self.only is None or name in self.only)

    @property
    def pixel_size_angstrom(self) -> float:
        """Pixel size of the first tomogram that has particles (all must have the same)."""
        names = self.tomogram_names or self.tomograms.names
        return self.tomograms.pixel_size_angstrom(names[0])

    def load(self, name: str, *, geometry_only: bool = False) -> tuple[TiltSeries, Particles]:
        """Return one tomogram: its tilt series (images stay on disk) and its particles.

        With `geometry_only`, optics, exposures and half sets that cannot be read have meaningless values.
        Raises InputError, which names file, table and row, when a value is missing, of the wrong type, or
        impossible.
        """
        if not geometry_only:
            self.check_columns()
        tilt_series = self.tomograms.load(name, geometry_only=geometry_only)
        particles = self.particles.particles(tilt_series, geometry_only=geometry_only)
        remarks = projection_remarks(tilt_series, particles.positions_px)
        if not geometry_only:
            groups = sorted(set(self.particles.optics_indices[particles.rows].tolist()))
            remarks += optics_remarks(self.particles.optics, groups, tilt_series)
        tilt_series = replace(tilt_series, remarks=(*tilt_series.remarks, *remarks))
        if self.trajectories is None:
            return tilt_series, particles
        self.particles.naming.require_stated()
        offsets = self.trajectories.load(particles.names, len(tilt_series))
        return tilt_series, replace(particles, trajectories_px=offsets / tilt_series.pixel_size_angstrom)

    def input_files(self) -> list[Path]:
        """Return the files that the sets are read from: sets, tilt series, maps, FSC; without the images."""
        source = [] if self.files.source is None else [self.files.working_directory / self.files.source]
        files = [*source, *self.files.paths.values()]
        for name in self.tomograms.names:
            with contextlib.suppress(InputError):  # the name of the file is missing
                files.append(self.tomograms.series_file(name))
        return files

    def image_files(self) -> list[Path]:
        """Return the files of the tilt images, of those tomograms that can be read."""
        paths: dict[Path, None] = {}
        for name in self.tomograms.names:
            with contextlib.suppress(InputError):
                images = self.tomograms.load(name).images
                if isinstance(images, MrcImages):
                    paths.update(dict.fromkeys(images.files))
        return list(paths)

    def references(self, *, keep: bool = False) -> References:
        """Return half maps, mask and FSC; raises InputError like `read_references`.

        With `keep`, the next call returns the same ones without reading. They are large, and are not cached
        longer.
        """
        kept: References | None = self.__dict__.pop(_KEPT, None)
        found = read_references(self.files, self.pixel_size_angstrom) if kept is None else kept
        if keep:
            self.__dict__[_KEPT] = found
        return found

    def write(
        self,
        out_folder: Path,
        alignments: Mapping[str, Alignment],
        *,
        motion: bool,
        species: str | None = None,
        with_tomograms: bool = True,
        place: Path | None = None,
        projections_in: str | None = None,
    ) -> OptimisationSet:
        """Write the refined sets, and return the new optimisation set; raises RunError when that fails.

        Tomograms without an alignment keep their input values.

        Parameters
        ----------
        out_folder
            Receives ``tomograms.star``, ``particles.star``, ``optimisation_set.star``, for RELION 5
            ``tilt_series/*.star``, with `motion` ``motion.star``, and where alignments have errors
            ``uncertainty.star``.
        alignments
            Tomogram → result. Each is looked up once, so that the mapping may read it from disk.
        motion
            Whether the trajectories were refined. Otherwise those of the input, if any, are in the new set.
        species
            Folder within `out_folder` for all but the tomograms, where several species share these.
        with_tomograms
            Whether to write the tomograms; False where another species' call does.
        place
            Folder that receives the files temporarily; the sets name them as in `out_folder`.
        projections_in
            Folder within `out_folder` that also receives a file with the tilt table of each refined tomogram
            (``TOMOGRAM_projections.star``), as RELION 5's job writes them into ``temp``.
        """
        shared = self.files.working_directory / out_folder
        place = place or shared
        out, here = (shared, place) if species is None else (shared / species, place / species)
        paths = {"tomograms": shared / "tomograms.star", "particles": out / "particles.star"}
        tomograms = None
        if with_tomograms:
            tomograms = TomogramSetWriter(self.tomograms, shared, place, projections_in=projections_in)
        particles = ParticleUpdate(self.particles)
        with contextlib.ExitStack() as stack:
            trajectories: TrajectoryWriter | None = None
            if motion:
                paths["trajectories"] = out / "motion.star"
                count = sum(len(self.particles.rows_by_tomogram[name]) for name in self.tomogram_names)
                trajectories = stack.enter_context(
                    trajectory_writer(here / "motion.star", count=count, version=self.version)
                )
            uncertainty = UncertaintyFile(here / UNCERTAINTY, self.version)
            scores = ScoresFile(here / SCORES, self.version)
            for name in self.tomograms.names:
                alignment = alignments.get(name)
                if alignment is not None:
                    tilt_series = self.tomograms.load(name)
                    names = [self.particles.names[r] for r in alignment.rows]
                    uncertainty.add(tilt_series, names, alignment)
                    scores.add(tilt_series, names, alignment)
                    if tomograms is not None:
                        tomograms.add(tilt_series, alignment)
                    particles.add(tilt_series, alignment.rows, alignment.positions_px, alignment.rotations)
                    if alignment.scores is not None:
                        particles.add_probability(alignment.rows, alignment.scores.particles.probability)
                if trajectories is not None and name in self.particles.rows_by_tomogram:
                    self._write_trajectories(trajectories, name, alignment)
        if tomograms is not None:
            tomograms.finish()
        uncertainty.write()
        scores.write()
        particles.write(here / "particles.star", with_names=motion)
        files = self.files.updated(paths, version=self.version)
        write_optimisation_set(here / "optimisation_set.star", files)
        return files

    def _write_trajectories(self, writer: TrajectoryWriter, name: str, alignment: Alignment | None) -> None:
        rows = self.particles.rows_by_tomogram[name]
        names = [self.particles.names[row] for row in rows]
        if alignment is None:
            writer.add(names, self._input_trajectories(name, names))
            return
        tilts = len(alignment.projections_px)
        complete = len(alignment.rows) == len(rows)
        offsets = np.zeros((len(rows), tilts, 3)) if complete else self._input_trajectories(name, names)
        pixel_size = self.tomograms.pixel_size_angstrom(name)
        refined = alignment.trajectories_px
        offsets[np.searchsorted(rows, alignment.rows)] = 0.0 if refined is None else refined * pixel_size
        writer.add(names, offsets)

    def _input_trajectories(self, name: str, names: list[str]) -> Float[Array, "P F 3"]:
        """Return the trajectories of the input, Å; all zero where there are none."""
        try:
            tilts = len(self.tomograms.series(name))
        except InputError:
            return np.zeros((len(names), 1, 3))
        if self.trajectories is not None:
            with contextlib.suppress(InputError):
                return self.trajectories.load(names, tilts)
        return np.zeros((len(names), tilts, 3))

    def selecting(self, selection: TiltSelection) -> Dataset:
        """Return the data set with another selection of tilt images."""
        return self._with(selection=selection)

    def restricted_to(self, names: Collection[str]) -> Dataset:
        """Return the data set of some of its tomograms."""
        return self._with(only=frozenset(names))

    def _with(self, **changes: Any) -> Dataset:
        """Return a copy with other fields, for which tables are not read again."""
        other = replace(self, **changes)
        other.__dict__.update({name: self.__dict__[name] for name in _TABLES if name in self.__dict__})
        return other

    def __getstate__(self) -> dict[str, Any]:
        names = ("files", "relion_version", "selection", "only")
        return {name: getattr(self, name) for name in names}


def open_dataset(
    optimisation_set: Path | None = None,
    *,
    working_directory: Path | None = None,
    relion_version: int | None = None,
    selection: TiltSelection | None = None,
    **components: Path | None,
) -> Dataset:
    """Return a data set from an optimisation set, its components, or both (components override it).

    Raises InputError when the tomogram, particle or trajectory set is missing or malformed.

    Parameters
    ----------
    working_directory
        RELION's project folder, where paths, here and in the files, begin; by default the current one.
    components
        Paths by name: the keys of `COMPONENTS`.
    """
    for name in components:
        if name not in COMPONENTS:
            raise TypeError(f"open_dataset() got an unexpected keyword argument '{name}'")
    folder = (working_directory or Path.cwd()).absolute()
    parts = {COMPONENTS[name]: path for name, path in components.items()}
    files = read_optimisation_set(optimisation_set, parts, working_directory=folder)
    dataset = Dataset(files=files, relion_version=relion_version, selection=selection or TiltSelection())
    _ = dataset.tomograms, dataset.particles, dataset.trajectories  # read now, so that errors are raised now
    return dataset
