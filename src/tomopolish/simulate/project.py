"""Simulated projects on disk, with their truth."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tomopolish.dataset.model import TiltImages
from tomopolish.dataset.mrc import write_stack
from tomopolish.dataset.relion.new_project import STACK_NAME, NewProjectWriter
from tomopolish.dataset.relion.tomograms import Dialect
from tomopolish.errors import InputError
from tomopolish.progress import Progress, SilentProgress, StageProgress
from tomopolish.settings.simulation import SimulationSettings
from tomopolish.shapes import Array, Shaped
from tomopolish.simulate.structure import build_structure
from tomopolish.simulate.tomogram import SimulatedTomogram, simulate_tomogram
from tomopolish.simulate.truth import Truth, write_truth

_DIALECTS = {"relion5": Dialect.RELION_5, "relion4": Dialect.RELION_4}
TRUTH_NAME = "truth.json"


def write_project(
    folder: Path,
    settings: SimulationSettings,
    *,
    threads: int = 1,
    progress: Progress | None = None,
) -> Path:
    """Simulate a project and write it, tilt image by tilt image.

    The folder receives ``optimisation_set.star``, ``tomograms.star``, ``particles.star``, the half maps, mask
    and FSC, ``tilt_series/`` and ``truth.json``. Paths in these files are relative to the folder. The same
    settings give the same bytes for any number of threads. A further species adds
    ``<name>_optimisation_set.star`` and ``<name>_truth.json``; its particles and references are in the folder
    ``<name>/``.

    Returns
    -------
    The optimisation set, written last.

    Raises
    ------
    InputError
        When the settings cannot be simulated.
    RunError
        When a file cannot be written.
    """
    progress = progress or SilentProgress()
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: this is a file; name a folder for the simulated project")
    structure = build_structure(settings)
    tomograms = [simulate_tomogram(settings, index, structure) for index in range(settings.tomograms)]
    writer = NewProjectWriter(folder, _DIALECTS[settings.dialect])
    writer.write_references(structure.references)
    _write_companions(folder, settings, tomograms)

    def written_truths() -> Iterator[Truth]:
        for tomogram in tomograms:
            _write_images(folder, tomogram, settings, threads, progress)
            writer.add(
                tomogram.series,
                tomogram.particles,
                nominal_angles_degrees=tomogram.angles_degrees,
                box_px=structure.box_px,
            )
            yield tomogram.truth

    write_truth(folder / TRUTH_NAME, written_truths())
    return writer.finish()


def _write_companions(folder: Path, settings: SimulationSettings, tomograms: list[SimulatedTomogram]) -> None:
    """Write particles, references and truths of the species that share the first one's tomograms."""
    for number, companion in enumerate(settings.companions):
        writer = NewProjectWriter(folder, _DIALECTS[settings.dialect], species=companion.name)
        members = [tomogram.companions[number] for tomogram in tomograms]
        writer.write_references(members[0].references)
        for tomogram, species in zip(tomograms, members, strict=True):
            writer.add_particles(tomogram.series, species.particles, box_px=species.box_px)
        write_truth(folder / f"{companion.name}_{TRUTH_NAME}", [species.truth for species in members])
        writer.finish()


def _write_images(
    folder: Path, tomogram: SimulatedTomogram, settings: SimulationSettings, threads: int, progress: Progress
) -> None:
    series = tomogram.series
    with progress.stage(f"images of {series.name}", total=len(series)) as stage:
        write_stack(
            folder / STACK_NAME.format(series.name),
            _rendered(tomogram.images, settings.image_type, threads, stage),
            count=len(series),
            size_px=series.image_size_px,
            pixel_size_angstrom=series.pixel_size_angstrom,
            dtype=settings.image_type,
        )


def _rendered(
    images: TiltImages, image_type: str, threads: int, stage: StageProgress
) -> Iterator[Shaped[Array, "h w"]]:
    """Yield the images in order; at most one per thread is being computed or waiting."""
    waiting: deque[Future[Array]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for tilt in range(len(images)):
            waiting.append(pool.submit(images.read, tilt))
            if len(waiting) > threads:
                yield _converted(waiting.popleft().result(), image_type)
                stage.advance()
        while waiting:
            yield _converted(waiting.popleft().result(), image_type)
            stage.advance()


def _converted(image: Array, image_type: str) -> Array:
    if image_type != "int16":
        return image.astype(image_type)
    limits = np.iinfo(np.int16)
    return np.clip(np.rint(image), limits.min, limits.max).astype(np.int16)
