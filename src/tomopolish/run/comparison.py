"""Maps before and after a refinement: half maps of both geometries, and their FSC (docs/evidence.md)."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tomopolish.dataset.mrc import read_header, write_stack, write_volume
from tomopolish.dataset.project import Dataset, open_dataset
from tomopolish.dataset.relion.fsc_file import read_curves, write_fsc
from tomopolish.dataset.species import Project
from tomopolish.errors import RunStopped, TomopolishError
from tomopolish.imaging.fsc import ShellCorrelation, shell_correlation, weighted_slices
from tomopolish.results.tomogram import MAP_THRESHOLDS, MapComparison
from tomopolish.run.back_projection import back_project
from tomopolish.run.failures import Failure
from tomopolish.run.folder.output import OutputFolder
from tomopolish.run.reporter import Reporter
from tomopolish.settings.alignment import AlignSettings
from tomopolish.shapes import Array, Float32

FOLDER_NAME = "evaluation"
BEFORE, AFTER = "fsc_before{}.star", "fsc_after{}.star"
SLICES = {BEFORE: "slices_before{}.mrc", AFTER: "slices_after{}.mrc"}
"""Curve → stack of the central slices of the map that it belongs to."""

MAPS = {
    BEFORE: ("half1_before{}.mrc", "half2_before{}.mrc", "merged_before{}.mrc"),
    AFTER: ("half1_after{}.mrc", "half2_after{}.mrc", "merged_after{}.mrc"),
}
"""Curve → the maps that it belongs to."""


def evaluate_maps(
    project: Project,
    refined: Sequence[Path],
    settings: AlignSettings,
    out: OutputFolder,
    reporter: Reporter,
    *,
    debug: bool = False,
) -> dict[str, MapComparison]:
    """Compare the maps of each species with those of its refined set; all are written to ``evaluation/``.

    A fault is reported as a warning and does not end the run, whose results have been written. Raises
    RunStopped when the run was asked to end.
    """
    comparisons: dict[str, MapComparison] = {}
    for species, path in zip(project.species, refined, strict=True):
        before, suffix = species.dataset, "" if species is project.species[0] else f"_{species.name}"
        try:
            with out.new_files() as new:
                comparisons[species.name] = compare_maps(
                    new,
                    before,
                    open_dataset(
                        path.absolute(),
                        working_directory=before.files.working_directory,
                        relion_version=before.relion_version,
                        selection=before.selection,
                    ),
                    species.box_px,
                    reporter,
                    threads=settings.run.threads,
                    suffix=suffix,
                )
        except RunStopped:
            raise
        except Exception as error:
            if debug:
                traceback.print_exc()
            sentence = Failure.of(error).recorded(settings.run.output_folder, "comparison of maps")
            reporter.warn(f"maps before and after were not compared: {sentence}")
    return comparisons


def compare_maps(
    folder: Path,
    before: Dataset,
    after: Dataset,
    box_px: int,
    reporter: Reporter,
    *,
    threads: int = 1,
    suffix: str = "",
) -> MapComparison:
    """Reconstruct both data sets' maps, without symmetry, and write them with both FSC curves.

    Raises TomopolishError when images cannot be read, or curves cannot be written.
    """
    references = before.references()
    pixel = before.pixel_size_angstrom
    curves, slices = [], []
    for what, dataset, file_name in (("before", before, BEFORE), ("after", after, AFTER)):
        reporter.say(f"Reconstructing half maps {what} refinement")
        sums = back_project(dataset, box_px, "C1", threads, reporter).sums
        halves = sums.half_maps(references.size_px)
        curves.append(shell_correlation(halves, references.mask))
        path = folder / FOLDER_NAME / file_name.format(suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_fsc(
            path,
            curves[-1].by_name(),
            box_px=references.size_px,
            pixel_size_angstrom=pixel,
            version=before.version,
        )
        volumes = (*halves, sums.merged_map(references.size_px))
        for name, volume in zip(MAPS[file_name], volumes, strict=True):
            write_volume(path.with_name(name.format(suffix)), volume, pixel)
        slices.append(weighted_slices(halves, curves[-1]))
        write_stack(
            path.with_name(SLICES[file_name].format(suffix)),
            slices[-1],
            count=3,
            size_px=(references.size_px, references.size_px),
            pixel_size_angstrom=pixel,
        )
    return _comparison(curves[0], curves[1], pixel, np.stack(slices))


def read_comparison(folder: Path) -> MapComparison | None:
    """Read the curves of a run's first structure from its output folder; None where there are none."""
    try:
        (one, pixel), (other, _) = (
            read_curves(folder / FOLDER_NAME / name.format("")) for name in (BEFORE, AFTER)
        )
    except TomopolishError:
        return None
    before, after = ShellCorrelation.from_curves(one), ShellCorrelation.from_curves(other)
    if before.box_px != after.box_px:
        return None
    return _comparison(before, after, pixel, _read_slices(folder / FOLDER_NAME, before.box_px))


def _read_slices(folder: Path, size_px: int) -> Float32[Array, "2 3 s s"] | None:
    """Return the slices before and after; None where they are missing, or of another size."""
    with contextlib.suppress(TomopolishError, OSError):
        stacks = [read_header(folder / SLICES[name].format("")).read_volume() for name in (BEFORE, AFTER)]
        if all(stack.shape == (3, size_px, size_px) for stack in stacks):
            return np.stack(stacks)
    return None


def _comparison(
    before: ShellCorrelation,
    after: ShellCorrelation,
    pixel: float,
    slices: Float32[Array, "2 3 s s"] | None,
) -> MapComparison:
    return MapComparison(
        frequency_per_angstrom=np.arange(len(before.corrected)) / (before.box_px * pixel),
        before=before.corrected,
        after=after.corrected,
        resolution_before_angstrom={t: before.resolution_angstrom(pixel, t) for t in MAP_THRESHOLDS},
        resolution_after_angstrom={t: after.resolution_angstrom(pixel, t) for t in MAP_THRESHOLDS},
        masked=before.is_masked,
        slices=slices,
    )
