"""The maps of a round: half maps, their FSC, and the sharpened map."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tomopolish.dataset.files import shown_path
from tomopolish.dataset.mrc import read_header, write_volume
from tomopolish.dataset.project import Dataset
from tomopolish.dataset.relion.optimisation_set import write_optimisation_set
from tomopolish.dataset.relion.postprocess import PostprocessFile, write_postprocess
from tomopolish.dataset.remarks import Remarks
from tomopolish.errors import InputError
from tomopolish.imaging.fsc import ShellCorrelation, shell_correlation
from tomopolish.imaging.postprocess import SharpenedMap, sharpened_map, soft_mask
from tomopolish.run.cluster.maps import back_project_on_cluster
from tomopolish.run.commands.reconstruct import back_project
from tomopolish.run.reporter import Reporter
from tomopolish.settings.polish import PolishSettings
from tomopolish.shapes import Float32

Array = np.ndarray

FOLDER = "maps"
HALF_MAPS = ("half1.mrc", "half2.mrc")
MERGED, MASK, FSC = "merged.mrc", "mask.mrc", "postprocess.star"
SHARPENED, SHARPENED_MASKED = "postprocess.mrc", "postprocess_masked.mrc"
MAPS = (*HALF_MAPS, MERGED, SHARPENED, SHARPENED_MASKED)
SET = "optimisation_set.star"


@dataclass(frozen=True, kw_only=True, eq=False)
class RoundMaps:
    """Maps of a round.

    Attributes
    ----------
    folder
        Folder of the files.
    optimisation_set
        Sets of the round, with these half maps, mask and FSC as references.
    failures
        Tomogram → why it is not part of the maps.
    """

    folder: Path
    optimisation_set: Path
    mask: Path
    fsc: ShellCorrelation
    pixel_size_angstrom: float
    bfactor_angstrom2: float
    failures: Mapping[str, str]


def map_size(dataset: Dataset, settings: PolishSettings) -> int:
    """Return the edge of the maps: as requested, or that of mask or references, or the box.

    Raises InputError when they do not fit.
    """
    box_px = settings.align.windows.box_px
    size = settings.crop_px
    for component in ("mask", "half map 1"):
        if component not in dataset.files.paths or (component != "mask" and settings.own_references):
            continue
        edge = read_header(dataset.files.require(component)).shape[0]
        if size is None:
            size = edge
        elif component == "mask" and size != edge:
            raise InputError(
                f"{dataset.files.shown('mask')}: the mask has {edge}^3 px, but --crop is {size}: give "
                f"--crop {edge}, or another mask"
            )
    if size is not None and size > box_px:
        raise InputError(f"--b {box_px} is smaller than the maps ({size} px): give --b {size} or more")
    return size or box_px


def make_maps(
    dataset: Dataset,
    folder: Path,
    size_px: int,
    settings: PolishSettings,
    reporter: Reporter,
    mask_path: Path | None = None,
    look: Callable[[], None] = lambda: None,
) -> RoundMaps:
    """Reconstruct the half maps of a data set, and write them with their FSC and the sharpened map.

    The optimisation set is written last.

    Parameters
    ----------
    mask_path
        The mask; None: that of the data set, or where it has none, a mask that is made of the half maps.
    look
        Called about twice a second while workers compute; it raises an error to end the run.

    Raises
    ------
    InputError
        When a set lacks columns, or the point group is unknown.
    RunError
        When no tomogram can be used, or a file cannot be written.
    """
    align, remarks = settings.align, Remarks()
    box_px, run = align.windows.box_px, align.run
    if run.cluster is None:
        projected = back_project(dataset, box_px, settings.symmetry, run.threads, reporter, remarks)
    else:
        projected = back_project_on_cluster(dataset, box_px, settings.symmetry, run, reporter, look)
    for sentence in remarks.sentences():
        reporter.warn(sentence)
    halves, merged = projected.sums.half_maps(size_px), projected.sums.merged_map(size_px)
    pixel = dataset.pixel_size_angstrom
    folder.mkdir(parents=True, exist_ok=True)
    files = {"half map 1": folder / HALF_MAPS[0], "half map 2": folder / HALF_MAPS[1], "fsc": folder / FSC}
    if mask_path is None and "mask" in dataset.files.paths:
        mask_path = dataset.files.require("mask")
    if mask_path is not None:
        mask, files["mask"] = read_header(mask_path).read_volume(), mask_path
    else:
        mask = soft_mask(halves, pixel)
        files["mask"] = folder / MASK
        write_volume(folder / MASK, mask, pixel)
    fsc = shell_correlation(halves, mask)
    sharp = sharpened_map(merged, fsc, pixel, mask)
    written = (*halves, merged, sharp.volume, sharp.volume * mask)
    for name, volume in zip(MAPS, written, strict=True):
        write_volume(folder / name, volume, pixel)
    updated = dataset.files.updated(files)
    _write_postprocess(updated.paths, dataset, fsc, sharp, mask)
    table = replace(updated.table, version=updated.table.version or dataset.version)
    write_optimisation_set(folder / SET, replace(updated, table=table))
    return RoundMaps(
        folder=folder,
        optimisation_set=folder / SET,
        mask=updated.paths["mask"],
        fsc=fsc,
        pixel_size_angstrom=pixel,
        bfactor_angstrom2=sharp.bfactor_angstrom2,
        failures=projected.failures,
    )


def are_complete(folder: Path) -> bool:
    """Return whether a folder has all files of a round's maps."""
    return all((folder / name).is_file() for name in (*MAPS, FSC, SET))


def _write_postprocess(
    paths: Mapping[str, Path],
    dataset: Dataset,
    fsc: ShellCorrelation,
    sharp: SharpenedMap,
    mask: Float32[Array, "s s s"],
) -> None:
    def shown(component: str) -> str:
        return shown_path(paths[component], dataset.files.working_directory)

    solvent = float(mask.size / max(mask.sum(dtype=np.float64), 1.0))
    unmasked = fsc.unmasked
    fraction = np.clip(solvent * unmasked / (1 + (solvent - 1) * np.abs(unmasked)), -1, 1)
    guinier = sharp.guinier
    line = (guinier.slope, guinier.intercept, guinier.correlation) if guinier.is_fitted else None
    content = PostprocessFile(
        half_maps=(shown("half map 1"), shown("half map 2")),
        mask=shown("mask"),
        box_px=fsc.box_px,
        pixel_size_angstrom=dataset.pixel_size_angstrom,
        resolution_angstrom=sharp.resolution_angstrom,
        bfactor_angstrom2=sharp.bfactor_angstrom2,
        curves={**fsc.by_name(), "fraction": fraction},
        guinier={
            "inverse square": guinier.inverse_square,
            "original": guinier.original,
            "weighted": guinier.weighted,
            "sharpened": guinier.sharpened,
        },
        line=line,
    )
    write_postprocess(paths["fsc"], content, dataset.version)
