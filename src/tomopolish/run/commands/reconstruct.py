"""Reconstruction of maps from sets on disk."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from tomopolish.dataset.check import check_particles
from tomopolish.dataset.left_out import check_selection
from tomopolish.dataset.mrc import read_header, write_volume
from tomopolish.dataset.project import Dataset
from tomopolish.dataset.relion.fsc_file import write_fsc
from tomopolish.dataset.relion.optimisation_set import write_optimisation_set
from tomopolish.errors import InputError
from tomopolish.imaging.fsc import ShellCorrelation, shell_correlation
from tomopolish.results.tomogram import MAP_THRESHOLDS
from tomopolish.run.back_projection import back_project
from tomopolish.run.folder.guard import Guard
from tomopolish.run.folder.output import own_folder
from tomopolish.run.invocation import Invocation
from tomopolish.run.reporter import Reporter
from tomopolish.settings.refuse import refuse, refuse_above, refuse_threads
from tomopolish.shapes import Array, Float32

COMMAND = "reconstruct"
MAP_NAMES = ("half1.mrc", "half2.mrc", "merged.mrc")
FSC_NAME, SET_NAME = "fsc.star", "optimisation_set.star"


@dataclass(frozen=True, kw_only=True)
class ReconstructSettings:
    """Options of a reconstruction.

    Attributes
    ----------
    box_px, crop_px
        Edge of the boxes cut from the images, and of the maps. Intensities are those of unitary transforms in
        a box of `box_px`, whatever the crop (docs/dev/conventions.md): align with the same box.
    symmetry
        Name of the point group.
    overwrite
        Whether files that no earlier reconstruction wrote may be replaced.
    """

    output_folder: Path
    box_px: int
    crop_px: int | None = None
    symmetry: str = "C1"
    threads: int = 1
    overwrite: bool = False

    def __post_init__(self) -> None:
        refuse(
            self.box_px < 16 or self.box_px % 2 == 1,
            f"--b {self.box_px} is not a valid box size: give an even number of pixels, 16 or more",
        )
        refuse_above("--b", self.box_px, 4096, "no tilt image has room for such a box")
        refuse(
            self.crop_px is not None and (self.crop_px % 2 == 1 or not 8 <= self.crop_px <= self.box_px),
            f"--crop {self.crop_px} must be even, 8 or more, and at most --b {self.box_px}",
        )
        refuse_threads(self.threads)


@dataclass(frozen=True, kw_only=True, eq=False)
class WrittenMaps:
    """FSC of the maps that a reconstruction wrote, and the tomograms that it left out, with the reason."""

    fsc: ShellCorrelation
    failures: Mapping[str, str]


def reconstruct_dataset(
    dataset: Dataset,
    settings: ReconstructSettings,
    reporter: Reporter,
    invocation: Invocation,
) -> WrittenMaps:
    """Write half1.mrc, half2.mrc, merged.mrc, fsc.star, and the optimisation set that names them.

    A tomogram that cannot be used is left out, with a warning. Raises InputError when a set is missing or
    malformed, the mask does not have the maps' size, or a file would replace a file that it must not, and
    RunError when no tomogram can be used, or a file cannot be written.
    """
    check_selection(dataset.tomograms, dataset.selection)
    if not dataset.tomogram_names:
        check_particles(dataset)  # says why there are none
    size = settings.crop_px or settings.box_px
    for sentence in dataset.conventions:
        reporter.say(sentence)
    mask = _mask(dataset, size)
    guard = Guard.of(dataset, settings.output_folder, COMMAND, overwrite=settings.overwrite)
    with own_folder(guard, invocation.command, [*MAP_NAMES, FSC_NAME, SET_NAME]) as out:
        reconstruction = back_project(dataset, settings.box_px, settings.symmetry, settings.threads, reporter)
        for sentence in reconstruction.remark_sentences():
            reporter.warn(sentence)
        sums = reconstruction.sums
        halves = sums.half_maps(settings.crop_px)
        fsc = shell_correlation(halves, mask)
        pixel = dataset.pixel_size_angstrom
        with out.new_files(joining=[SET_NAME]) as new:
            for name, volume in zip(MAP_NAMES, (*halves, sums.merged_map(settings.crop_px)), strict=True):
                write_volume(new / name, volume, pixel)
            write_fsc(
                new / FSC_NAME,
                fsc.by_name(),
                box_px=size,
                pixel_size_angstrom=pixel,
                version=dataset.version,
            )
            names = dict(zip(("half map 1", "half map 2", "fsc"), (*MAP_NAMES[:2], FSC_NAME), strict=True))
            paths = {part: out.folder / name for part, name in names.items()}
            files = dataset.files.updated(paths, version=dataset.version)
            write_optimisation_set(new / SET_NAME, files)
    return WrittenMaps(fsc=fsc, failures=reconstruction.failures)


def resolution_sentence(
    fsc: ShellCorrelation, pixel_size_angstrom: float, folder: Path, left_out: Collection[str] = ()
) -> str:
    """Say where the maps are, which resolution they reach, and which tomograms were left out."""
    high, half = (fsc.resolution_angstrom(pixel_size_angstrom, threshold) for threshold in MAP_THRESHOLDS)
    others = f" Left out: {', '.join(left_out)}." if left_out else ""
    return (
        f"Half maps, merged map and FSC are in {folder}: FSC 0.143 at {high:.2f} Å, 0.5 at {half:.2f} Å."
        + others
    )


def _mask(dataset: Dataset, size: int) -> Float32[Array, "s s s"] | None:
    if "mask" not in dataset.files.paths:
        return None
    header = read_header(dataset.files.require("mask"))
    if header.shape != (size,) * 3:
        raise InputError(
            f"{dataset.files.shown('mask')}: the mask has {header.shape[0]}^3 px, but the maps will have "
            f"{size}^3; give --crop {header.shape[0]}, or another mask"
        )
    return header.read_volume()
