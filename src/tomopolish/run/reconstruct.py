"""A reconstruction from sets on disk to maps on disk."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from tomopolish.dataset.dataset import Dataset
from tomopolish.dataset.fsc_file import write_fsc
from tomopolish.dataset.mrc import read_header, write_volume
from tomopolish.dataset.optimisation_set import write_optimisation_set
from tomopolish.errors import InputError
from tomopolish.reconstruct.fsc import ShellCorrelation, shell_correlation
from tomopolish.reconstruct.halves import reconstruct
from tomopolish.reconstruct.symmetry import point_group


@dataclass(frozen=True, kw_only=True)
class ReconstructSettings:
    """Options of a reconstruction.

    Attributes
    ----------
    box_px, crop_px
        Edge of the boxes cut from the images, and of the maps. Intensities are those of unitary transforms in
        a box of `box_px`, whatever the crop (spec §4): align with the same box.
    symmetry
        Name of the point group.
    """

    output_folder: Path
    box_px: int
    crop_px: int | None = None
    symmetry: str = "C1"
    threads: int = 1

    def __post_init__(self) -> None:
        if self.crop_px is not None and (self.crop_px % 2 or not 8 <= self.crop_px <= self.box_px):
            raise InputError(f"--crop {self.crop_px} must be even, 8 or more, and at most --b {self.box_px}")


def reconstruct_dataset(dataset: Dataset, settings: ReconstructSettings) -> ShellCorrelation:
    """Write half1.mrc, half2.mrc, merged.mrc, fsc.star, and the optimisation set that names them.

    Raises
    ------
    InputError
        when a set is missing or malformed, or the mask has not the maps' size.
    RunError
        when an image cannot be read, or a file not be written.
    """
    size = settings.crop_px or settings.box_px
    mask = None
    if "mask" in dataset.files.paths:
        header = read_header(dataset.files.require("mask"))
        if header.shape != (size,) * 3:
            raise InputError(
                f"{dataset.files.shown('mask')}: the mask has {header.shape[0]}^3 px, but the maps will have "
                f"{size}^3; give --crop {header.shape[0]}, or another mask"
            )
        mask = header.read_volume()
    symmetry = point_group(settings.symmetry)
    tomograms = (dataset.load(name) for name in dataset.tomogram_names)
    found = reconstruct(tomograms, settings.box_px, symmetry, settings.threads)
    halves = found.half_maps(settings.crop_px)
    fsc = shell_correlation(halves, mask)
    out = dataset.files.working_directory / settings.output_folder
    pixel = dataset.pixel_size_angstrom
    paths = {"half map 1": out / "half1.mrc", "half map 2": out / "half2.mrc", "fsc": out / "fsc.star"}
    out.mkdir(parents=True, exist_ok=True)
    write_volume(paths["half map 1"], halves[0], pixel)
    write_volume(paths["half map 2"], halves[1], pixel)
    write_volume(out / "merged.mrc", found.merged_map(settings.crop_px), pixel)
    curves = {"corrected": fsc.corrected, "unmasked": fsc.unmasked}
    if mask is not None:
        curves |= {"masked": fsc.masked, "randomised": fsc.randomised}
    write_fsc(paths["fsc"], curves, box_px=size, pixel_size_angstrom=pixel, version=dataset.version)
    files = dataset.files.updated(paths)
    files = replace(files, table=replace(files.table, version=files.table.version or dataset.version))
    write_optimisation_set(out / "optimisation_set.star", files)
    return fsc
