"""Checks of a data set before any expensive computation; an unusable set is refused in one sentence.

Single tables are checked where they are read (`tilt_series`, `particles`, `references`); the checks here
compare the parts with each other and with the options.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tomopolish.dataset.images import INSTEAD_OF_PLACEHOLDERS, LEAST_PX, MrcImages
from tomopolish.dataset.left_out import check_selection, left_out_sentences, without_dummies
from tomopolish.dataset.model import Particles, TiltSeries
from tomopolish.dataset.pixel_sizes import ALIKE, SAME, Agreement, compare_pixel_sizes, times_binned
from tomopolish.dataset.project import Dataset
from tomopolish.dataset.references import check_references
from tomopolish.dataset.relion.particle_names import count_repeated
from tomopolish.dataset.relion.particles import (
    CENTRED,
    CORNERED,
    PARTICLE_ANGLES,
    SUBTOMOGRAM_ANGLES,
    TOMOGRAM,
    ParticleTable,
)
from tomopolish.dataset.relion.tilt_series import PIXEL_SIZE
from tomopolish.dataset.remarks import Remark, Remarks
from tomopolish.dataset.series_checks import defocus_warnings, exposure_warnings
from tomopolish.dataset.species import Project, Species
from tomopolish.errors import InputError
from tomopolish.physics.geometry import project

MOST_FAULTS = 3
"""Maximum number of tomograms whose faults an error names."""


def check_project(
    project: Project,
    progress: Callable[[int, int], None] = lambda done, total: None,
    unusable: dict[str, str] | None = None,
    further: Callable[[Species, TiltSeries, Particles], None] = lambda *_: None,
    uses_references: Callable[[Dataset], bool] = lambda dataset: True,
) -> list[str]:
    """Check a complete project.

    Only headers and three rows of each image are read.

    Parameters
    ----------
    progress
        Called with the number of tomograms checked and of all tomograms, for each species from 0.
    unusable
        Receives all tomograms that cannot be refined, with the reason, even if an error is raised for them;
        None: the first one raises an error.
    further
        Called for each tomogram with the particles of each species that it has; raises InputError when it
        cannot be refined for another reason.
    uses_references
        Returns whether the references of a data set are used, and so are checked.

    Returns
    -------
    Warnings, one sentence each; with several species, they name the species.

    Raises
    ------
    InputError
        When the project cannot be refined; the message names file, table, row and remedy.
    """
    warnings: list[str] = []
    visible = dict.fromkeys(project.tomogram_names, 0)
    faults: dict[str, InputError] = {}
    of_series: dict[str, None] = {}  # in order, and each once for all species
    for species in project.species:
        dataset = species.dataset
        check_selection(dataset.tomograms, dataset.selection)
        sentences = check_particles(dataset, is_single=project.is_single)
        if uses_references(dataset):
            sentences += check_references(dataset.references(keep=True), dataset.files, species.box_px)
        remarks, names = Remarks(), dataset.tomogram_names
        for done, name in enumerate(names, start=1):
            try:
                of_tomogram, pairs = _check_tomogram(species, name, remarks, of_series, further)
            except InputError as problem:
                if unusable is None or len(visible) == 1:
                    raise
                faults.setdefault(name, problem)
                continue
            finally:
                progress(done, len(names))
            sentences += of_tomogram
            visible[name] += pairs
        sentences += remarks.sentences()
        warnings += [project.named(species, sentence) for sentence in sentences]
    if unusable is not None:
        unusable.update({name: str(problem) for name, problem in faults.items()})
    if faults and len(faults) == len(visible):
        raise _all_faulty(faults)
    unseen = [name for name, pairs in visible.items() if not pairs and name not in faults]
    return [*of_series, *warnings, *_without_visible_particles(project, unseen, faults, unusable)]


def _all_faulty(faults: Mapping[str, InputError]) -> InputError:
    """Return the error for a project without a tomogram that can be refined; it names the first faults."""
    sentences = list(dict.fromkeys(str(problem) for problem in faults.values()))
    if len(sentences) == 1:
        return InputError(sentences[0])
    shown = "; ".join(f"{name}: {problem}" for name, problem in list(faults.items())[:MOST_FAULTS])
    more = len(faults) - MOST_FAULTS
    rest = f"; and {more} more, which --dry_run lists" if more > 0 else ""
    return InputError(f"none of the {len(faults)} tomograms can be refined: {shown}{rest}")


def _without_visible_particles(
    project: Project, unseen: list[str], faults: dict[str, InputError], unusable: dict[str, str] | None
) -> list[str]:
    """Add tomograms without visible particles to `unusable`, or warn; raises InputError if all are such."""
    boxes = project.boxes_px
    half = f"half a box ({boxes[0] // 2} px)" if project.is_single else "half a box"
    which = "particle" if project.is_single else "particle of any species"
    if len(unseen) + len(faults) == len(project.tomogram_names):
        where = project.first.files.shown("particles" if project.is_single else "tomograms")
        raise InputError(
            f"{where}: no {which} is at least {half} inside any tilt image; check positions and pixel "
            "sizes, or give a smaller --b"
        )
    if unusable is not None:
        unusable.update(dict.fromkeys(unseen, f"no {which} is {half} inside any tilt image"))
        return []
    return [
        f"tomogram {name}: no {which} is half a box inside any tilt image; it keeps its input values"
        for name in unseen
    ]


def check_particles(dataset: Dataset, *, is_single: bool = True) -> list[str]:
    """Check the particle set, also against the tomogram set; returns warnings.

    `is_single` says whether tomograms without these particles are not refined, as with a single species.
    Raises InputError when a column is missing or wrong, no particle has a known tomogram, or trajectories
    cannot be found by name.
    """
    dataset.check_columns()
    particles, tomograms = dataset.particles, dataset.tomograms
    table = particles.table
    warnings = _name_warnings(dataset)
    rows = particles.rows_by_tomogram
    unknown = [name for name in rows if name not in tomograms]
    if len(unknown) == len(rows):
        raise table.error(
            f"none of the particles' tomograms ({_first(unknown)}) is listed in "
            f"{tomograms.general.place} ({_first(tomograms.names)}); make {TOMOGRAM} the same in both sets",
            row=0,
        )
    if unknown:
        count = sum(len(rows[name]) for name in unknown)
        warnings.append(
            f"{table.place}: {count} of {len(table)} particles belong to tomograms that "
            f"{tomograms.general.source} does not list ({_first(unknown)}); they remain unchanged"
        )
    halves = np.bincount(particles.half_sets, minlength=2)
    if halves.min() == 0:
        warnings.append(f"{table.place}: all particles are in half set {1 + int(np.argmax(halves))}")
    if particles.optics_fault is not None:
        warnings.append(particles.optics_fault)
    warnings += [
        f"{table.place}: {label} is not set in every row; 0 is assumed in the others"
        for label in particles.filled_columns
    ]
    warnings += _orientation_warnings(particles)
    without = sum(name not in rows for name in tomograms.names)
    if without and is_single:
        warnings.append(
            f"{tomograms.general.place}: tomograms without particles: {without}; they remain unchanged"
        )
    return warnings


def _first(names: Sequence[str]) -> str:
    """Return a list of the first names, for messages."""
    return ", ".join(map(repr, names[:3])) + (", …" if len(names) > 3 else "")


def _orientation_warnings(particles: ParticleTable) -> list[str]:
    """Return warnings of missing orientations, or of orientations that are all 0."""
    table = particles.table
    missing = [label for label in PARTICLE_ANGLES if not table.is_stated(label)]
    if missing:
        return [f"{table.place}: {', '.join(missing)} missing, assumed to be 0"]
    labels = [label for label in (*PARTICLE_ANGLES, *SUBTOMOGRAM_ANGLES) if label in table]
    if len(table) > 1 and not any(table.floats(label, default=0.0).any() for label in labels):
        return [
            f"{table.place}: all orientations are 0, as before 3D auto-refine; without them the references "
            "do not fit the images"
        ]
    return []


def _name_warnings(dataset: Dataset) -> list[str]:
    """Return remarks on generated names; raises InputError where trajectories need the table's names."""
    particles = dataset.particles
    naming, table = particles.naming, particles.table
    if naming.remark is None:
        return []
    if dataset.trajectories is not None:
        naming.require_stated()
    repeated = count_repeated(table, (TOMOGRAM, *(CENTRED if particles.is_centred else CORNERED)))
    if not repeated:
        return [naming.remark]
    return [
        naming.remark,
        f"{table.place}: {repeated} particles have the tomogram and position of an earlier particle, so that "
        "their images are used twice; remove the duplicates",
    ]


def _check_tomogram(
    species: Species,
    name: str,
    remarks: Remarks,
    of_series: dict[str, None],
    further: Callable[[Species, TiltSeries, Particles], None],
) -> tuple[list[str], int]:
    """Check one tomogram with one species; returns warnings of its particles and the number of visible pairs.

    `remarks` receives those that many tomograms may have in common, `of_series` the warnings of the tilt
    series, which are the same for all species; `further` is as in `check_project`. Raises InputError when the
    tilt series or its particles cannot be read, disagree, or do not fit the box.
    """
    dataset, box_px = species.dataset, species.box_px
    tilt_series, particles = dataset.load(name)
    place = f"{dataset.tomograms.general.place}, row {dataset.tomograms.row(name) + 1}"
    pixel_sizes = _pixel_size_remarks(dataset, place, tilt_series)
    _check_images(place, tilt_series, box_px)
    tilt_series = without_dummies(place, tilt_series)
    further(species, tilt_series, particles)
    remarks.add(name, (*tilt_series.remarks, *pixel_sizes, *_image_remarks(place, tilt_series)))
    of_series.update(dict.fromkeys(_series_warnings(place, tilt_series)))
    warnings = _particle_warnings(place, tilt_series, particles)
    return warnings, count_visible(tilt_series, particles, box_px)


def count_visible(tilt_series: TiltSeries, particles: Particles, box_px: int) -> int:
    """Return the number of pairs whose projection is at least half a box inside the image."""
    w, h = tilt_series.image_size_px
    q = project(tilt_series.projections_px[tilt_series.usable], particles.positions_px)
    margin = box_px / 2
    inside = (
        (q[..., 0] >= margin) & (q[..., 0] <= w - margin) & (q[..., 1] >= margin) & (q[..., 1] <= h - margin)
    )
    return int(np.count_nonzero(inside))


def _pixel_size_remarks(dataset: Dataset, place: str, tilt_series: TiltSeries) -> list[Remark]:
    """Compare the pixel size with the first tomogram's; raises InputError where no reference fits both."""
    size, first = tilt_series.pixel_size_angstrom, dataset.pixel_size_angstrom
    if math.isclose(size, first, rel_tol=SAME):
        return []
    if math.isclose(size, first, rel_tol=ALIKE):
        sentence = (
            f"the pixel size is {size:g} Å, that of the first tomogram {first:g}; they share the references"
        )
        return [Remark(sentence=sentence)]
    raise InputError(
        f"{place}: tomogram {tilt_series.name} has {size:g} Å/px, but others {first:g}, so that no "
        "reference fits all; split the set by pixel size"
    )


def _check_images(place: str, tilt_series: TiltSeries, box_px: int) -> None:
    images = tilt_series.images
    w, h = images.size_px
    if min(w, h) < LEAST_PX:
        raise InputError(
            f"{place}: the tilt images have {w} x {h} px and are placeholders; {INSTEAD_OF_PLACEHOLDERS}"
        )
    if box_px > min(w, h):
        raise InputError(
            f"--b {box_px}: the box is larger than the tilt images ({w} x {h} px, {place}); reduce it"
        )


def _series_warnings(place: str, tilt_series: TiltSeries) -> list[str]:
    warnings = left_out_sentences(tilt_series.name, tilt_series.left_out)
    odd = (*exposure_warnings(tilt_series), *defocus_warnings(tilt_series))
    warnings += [f"{place}: {sentence}" for sentence in odd]
    if np.count_nonzero(tilt_series.usable) == 1:
        warnings.append(
            f"{place}: only one tilt image of {tilt_series.name} is used, which tells nothing of depth: "
            "depths and angles stay near the input's"
        )
    if isinstance(tilt_series.images, MrcImages):
        surplus = tilt_series.images.surplus
        warnings += [] if surplus is None else [f"{place}: {surplus}"]
    return warnings


def _particle_warnings(place: str, tilt_series: TiltSeries, particles: Particles) -> list[str]:
    name, warnings = tilt_series.name, []
    stated = ~np.array(tilt_series.size_is_assumed)
    positions, size = particles.positions_px[:, stated], np.array(tilt_series.tomogram_size_px)[stated]
    outside = int(np.any((positions < 0) | (positions > size), axis=1).sum())
    if outside:
        warnings.append(
            f"{place}: {outside} of {len(particles)} particles are outside tomogram {name}; "
            "check pixel sizes and positions"
        )
    trajectories = particles.trajectories_px
    if trajectories is not None and len(particles):
        first = np.abs(trajectories[:, tilt_series.chronological[0]]).max()
        if first > 1e-3:
            warnings.append(
                f"{place}: trajectories of {name} do not begin at zero, but up to {first:.3g} px from it"
            )
    return warnings


def _image_remarks(place: str, tilt_series: TiltSeries) -> list[Remark]:
    """Return remarks on other pixel sizes in headers; raises InputError for images of another set."""
    images, counting = tilt_series.images, tilt_series.pixel_size_angstrom
    if not isinstance(images, MrcImages):
        return []
    file = images.first_file
    agreement = compare_pixel_sizes(file.pixel_size_angstrom, counting)
    if agreement is Agreement.DIFFERENT:
        raise InputError(
            f"{place}: the tilt images of {tilt_series.name} ({file.path}) have "
            f"{file.pixel_size_angstrom:.4f} Å/px{times_binned(file.pixel_size_angstrom, counting)}, but the "
            f"set says {counting:.4f}; give the images of that "
            f"pixel size, correct {PIXEL_SIZE}, or, if only the header is wrong, set its pixel size to "
            f"{counting:.4f} Å"
        )
    if agreement is Agreement.ALIKE:
        stated = f"{file.pixel_size_angstrom:.4g}"
        return [
            Remark(
                sentence=f"the tilt images' header says {stated} Å/px, the set {counting:.4g}, which is used"
            )
        ]
    return []
