"""Writer of sets with fewer particles and tilt images; the rows that remain are those of the input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from tomopolish.dataset.files import unique_file_names
from tomopolish.dataset.images import MrcImages
from tomopolish.dataset.mrc import split_section
from tomopolish.dataset.project import Dataset
from tomopolish.dataset.relion.optimisation_set import write_optimisation_set
from tomopolish.dataset.relion.tilt_series import MICROGRAPH, STACK
from tomopolish.dataset.relion.tomogram_writer import TomogramSetWriter
from tomopolish.dataset.relion.tomograms import Dialect, TomogramSet
from tomopolish.dataset.relion.trajectories import write_trajectory_tables
from tomopolish.dataset.species import Project
from tomopolish.dataset.star import StarTable, write_star
from tomopolish.errors import InputError
from tomopolish.shapes import Array, Bool

VISIBLE = "rlnTomoVisibleFrames"
"""Vector with a value for each tilt image, by which RELION 5 reads a particle's image stack."""

MOST_OPTIONS = 5
"""Maximum number of tomograms for which an error states the option that leaves out tilt images."""

Remaining = Mapping[str, Bool[Array, "F"]]
"""Tomogram → whether each tilt image remains, of tomograms that lose some."""


def check_tilts(tomograms: TomogramSet, remaining: Remaining) -> None:
    """Raise InputError where rows cannot be removed, since an image's place in its stack is that of its row.

    It states the options of `align` that leave out the same tilt images.
    """
    bound = [name for name in remaining if not _has_sections(tomograms, name)]
    if not bound:
        return
    options = [
        f"--exclude_tilts {name}:{','.join(map(str, np.flatnonzero(~remaining[name]) + 1))}"
        for name in bound[:MOST_OPTIONS]
    ]
    rest = len(bound) - len(options)
    more = f" and the same for {rest} more tomograms" if rest else ""
    raise InputError(
        f"{tomograms.series(bound[0]).place}: tilt images cannot be left out of this table, since its rows "
        f"do not name their sections of the stack ({MICROGRAPH} as 000003@stack.mrcs); select without "
        f"--drop_tilts, and give align {' '.join(options)}{more} (in Python exclude_tilts={{'{bound[0]}': "
        f"{(np.flatnonzero(~remaining[bound[0]]) + 1).tolist()}}})"
    )


def _has_sections(tomograms: TomogramSet, name: str) -> bool:
    """Return whether each row names its image, and the same one as it would without the other rows."""
    if tomograms.general.stated(STACK, tomograms.row(name)) is None:
        return True
    table, images = tomograms.series(name), tomograms.load(name, geometry_only=True).images
    if MICROGRAPH not in table or not isinstance(images, MrcImages):
        return False
    named = [split_section(cell)[0] for cell in table.strings(MICROGRAPH)]
    return all(
        section is not None and place is not None and place[1] == section
        for section, place in zip(named, images.sections, strict=True)
    )


def selected_files(project: Project, *, with_tomograms: bool) -> list[str]:
    """Return the names of the files that `write_selected` writes, within the output folder."""
    names = []
    for folder, species in project.folders.items():
        files = ["particles.star", "optimisation_set.star"]
        if species.dataset.trajectories is not None:
            files.append("motion.star")
        names += [f"{folder}{name}" for name in files]
    tomograms = project.first.tomograms
    if with_tomograms:
        names.append("tomograms.star")
        if tomograms.dialect is Dialect.RELION_5:
            names += [f"tilt_series/{stem}.star" for stem in unique_file_names(tomograms.names).values()]
    return names


def write_selected(
    project: Project,
    particles: list[Bool[Array, "_"]],
    remaining: Remaining | None,
    out_folder: Path,
    place: Path,
) -> None:
    """Write the sets of a project with some of their particles and tilt images.

    Raises InputError when a trajectory is missing, or has another length than its tilt series, and RunError
    when a file cannot be written.

    Parameters
    ----------
    particles
        Of each species, whether each particle remains.
    remaining
        Tilt images that remain; None: no tomogram set is written, and that of the input is named.
    out_folder, place
        Final folder of the sets, by which they name each other, and folder that they are written into.
    """
    first = project.first
    shared = first.files.working_directory / out_folder
    if remaining is not None:
        writer = TomogramSetWriter(first.tomograms, shared, place)
        for name, remains in remaining.items():
            writer.add_part(name, remains)
        writer.finish()
    for (folder, species), remains in zip(project.folders.items(), particles, strict=True):
        dataset, out, here = species.dataset, shared / folder, place / folder
        paths = {"particles": out / "particles.star"}
        if remaining is not None:
            paths["tomograms"] = shared / "tomograms.star"
        table = _particles(dataset, remains, remaining or {})
        write_star(here / "particles.star", dataset.particles.star.with_table(table))
        if dataset.trajectories is not None:
            paths["trajectories"] = out / "motion.star"
            write_trajectory_tables(
                here / "motion.star",
                _trajectories(dataset, remains, remaining or {}),
                count=int(remains.sum()),
                version=dataset.version,
            )
        files = dataset.files.updated(paths, version=dataset.version)
        write_optimisation_set(here / "optimisation_set.star", files)


def has_image_stacks(dataset: Dataset) -> bool:
    """Return whether particles have image stacks that depend on the tilt images of their tomogram."""
    return VISIBLE in dataset.particles.table


def _particles(dataset: Dataset, remains: Bool[Array, "_"], remaining: Remaining) -> StarTable:
    """Return the rows that remain; vectors with a value for each tilt image lose those of removed ones."""
    table = dataset.particles.table
    if VISIBLE in table and remaining:
        cells = list(table.strings(VISIBLE))
        for name, images in remaining.items():
            for row in dataset.particles.rows_by_tomogram.get(name, ()):
                cells[row] = _part_of_vector(cells[row], images)
        table = table.with_columns({VISIBLE: cells})
    return table.with_rows(remains)


def _part_of_vector(cell: str, remains: Bool[Array, "F"]) -> str:
    """Return a cell of the form ``[a,b,c]`` with some of its values; one of another length is unchanged."""
    values = cell.strip().removeprefix("[").removesuffix("]").split(",")
    if len(values) != len(remains):
        return cell
    return f"[{','.join(v.strip() for v, stays in zip(values, remains.tolist(), strict=True) if stays)}]"


def _trajectories(dataset: Dataset, remains: Bool[Array, "_"], remaining: Remaining) -> Iterator[StarTable]:
    """Yield the trajectories of the particles that remain, tomogram by tomogram."""
    trajectories, particles = dataset.trajectories, dataset.particles
    if trajectories is None:
        return
    particles.naming.require_stated()
    for tomogram, rows in particles.rows_by_tomogram.items():
        names = [particles.names[row] for row in rows if remains[row]]
        images = remaining.get(tomogram)
        for table in trajectories.tables(names, None if images is None else len(images)):
            yield table if images is None else table.with_rows(images)
