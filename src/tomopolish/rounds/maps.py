"""The maps of a species in a round: half maps, their FSC, and the sharpened map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tomopolish.dataset.files import shown_path
from tomopolish.dataset.mrc import read_header, write_volume
from tomopolish.dataset.project import Dataset
from tomopolish.dataset.relion.optimisation_set import write_optimisation_set
from tomopolish.dataset.relion.postprocess import PostprocessFile, write_postprocess
from tomopolish.dataset.species import Project, Species
from tomopolish.errors import InputError
from tomopolish.imaging.fsc import ShellCorrelation, shell_correlation
from tomopolish.imaging.postprocess import SharpenedMap, sharpened_map, soft_mask
from tomopolish.results.rounds import SpeciesRound
from tomopolish.results.tomogram import MAP_THRESHOLDS
from tomopolish.rounds.references import reopened_dataset
from tomopolish.run.back_projection import BackProjection
from tomopolish.settings.polish import PolishSettings
from tomopolish.shapes import Array, Float32

FOLDER = "maps"
HALF_MAPS = ("half1.mrc", "half2.mrc")
MERGED, MASK, FSC = "merged.mrc", "mask.mrc", "postprocess.star"
SHARPENED, SHARPENED_MASKED = "postprocess.mrc", "postprocess_masked.mrc"
MAPS = (*HALF_MAPS, MERGED, SHARPENED, SHARPENED_MASKED)
SET = "optimisation_set.star"


@dataclass(frozen=True, kw_only=True, eq=False)
class SpeciesMaps:
    """Maps of one species in a round.

    Attributes
    ----------
    name
        Name of the species.
    folder
        Folder of the files.
    files
        Half maps, mask and FSC: component of an optimisation set → its file.
    failures
        Tomogram → why it is not part of the maps.
    """

    name: str
    folder: Path
    files: Mapping[str, Path]
    fsc: ShellCorrelation
    pixel_size_angstrom: float
    bfactor_angstrom2: float
    failures: Mapping[str, str]

    @property
    def optimisation_set(self) -> Path:
        """Sets of the round, with these half maps, mask and FSC as references."""
        return self.folder / SET

    def figures(self) -> SpeciesRound:
        """Return what a round keeps of its maps."""
        high, half = (self.fsc.resolution_angstrom(self.pixel_size_angstrom, t) for t in MAP_THRESHOLDS)
        return SpeciesRound(
            name=self.name,
            optimisation_set=str(self.optimisation_set),
            fsc=tuple(float(value) for value in self.fsc.corrected),
            resolution_angstrom=(high, half),
            bfactor_angstrom2=self.bfactor_angstrom2,
        )


def map_sizes(project: Project, settings: PolishSettings) -> tuple[int, ...]:
    """Return the edge of each species' maps: as requested, or that of mask or references, or the box.

    Raises InputError when they do not fit.
    """
    return tuple(_map_size(project, species, settings) for species in project.species)


def _map_size(project: Project, species: Species, settings: PolishSettings) -> int:
    files, size = species.dataset.files, settings.crop_px
    for component in ("mask", "half map 1"):
        if component not in files.paths or (component != "mask" and settings.own_references):
            continue
        edge = read_header(files.require(component)).shape[0]
        if size is None:
            size = edge
        elif component == "mask" and size != edge:
            raise InputError(
                f"{files.shown('mask')}: the mask has {edge}^3 px, but --crop is {size}: give "
                f"--crop {edge}, or another mask"
            )
    if size is not None and size > species.box_px:
        sentence = f"--b {species.box_px} is smaller than the maps ({size} px): give --b {size} or more"
        raise InputError(project.named(species, sentence))
    return size or species.box_px


def make_maps(
    species: Species, projected: BackProjection, folder: Path, size_px: int, mask_path: Path | None = None
) -> SpeciesMaps:
    """Write the half maps of a back-projection with their FSC and the sharpened map.

    The optimisation set is written last.

    Parameters
    ----------
    mask_path
        The mask; None: that of the data set, or where it has none, a mask that is made of the half maps.

    Raises
    ------
    RunError
        When a file cannot be written.
    """
    dataset = species.dataset
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
    _write_postprocess(files, dataset, fsc, sharp, mask)
    maps = SpeciesMaps(
        name=species.name,
        folder=folder,
        files=files,
        fsc=fsc,
        pixel_size_angstrom=pixel,
        bfactor_angstrom2=sharp.bfactor_angstrom2,
        failures=projected.failures,
    )
    write_set(dataset, maps)
    return maps


def write_set(dataset: Dataset, maps: SpeciesMaps) -> None:
    """Write the optimisation set that names the sets of a data set, and the maps as its references."""
    updated = dataset.files.updated(maps.files)
    table = replace(updated.table, version=updated.table.version or dataset.version)
    write_optimisation_set(maps.optimisation_set, replace(updated, table=table))


def are_complete(folder: Path, species: Species) -> bool:
    """Return whether a folder has all maps of a species in a round, and all files that their set names."""
    if not all((folder / name).is_file() for name in (*MAPS, FSC, SET)):
        return False
    try:
        files = reopened_dataset(species.dataset, folder / SET).input_files()
    except InputError:
        return False
    return all(path.is_file() for path in files)


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
