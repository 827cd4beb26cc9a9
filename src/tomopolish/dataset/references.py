"""Reference maps, mask and FSC, checked against each other (docs/dev/conventions.md, References)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tomopolish.dataset.files import shown_path
from tomopolish.dataset.model import References
from tomopolish.dataset.mrc import MrcFile, read_header
from tomopolish.dataset.pixel_sizes import Agreement, compare_pixel_sizes, times_binned
from tomopolish.dataset.relion.fsc_file import read_fsc
from tomopolish.dataset.relion.optimisation_set import OptimisationSet
from tomopolish.errors import InputError
from tomopolish.physics.fourier import FSC_THRESHOLD
from tomopolish.shapes import Array, Float32

LARGEST_VALUE = 1e12
"""Largest value of a map, and 1/smallest: squares and their sums are finite in single precision."""

_REMEDIES = {
    "half map 1": "give half maps of the unbinned tilt images, from Reconstruct particle at binning 1",
    "half map 2": "give half maps of the unbinned tilt images, from Reconstruct particle at binning 1",
    "mask": "make the mask from these half maps, at the pixel size of the unbinned tilt images",
}


def read_references(files: OptimisationSet, pixel_size_angstrom: float) -> References:
    """Return half maps, and mask and FSC where there are any.

    `pixel_size_angstrom` is the tilt series', which is used; headers need not state it. Raises InputError
    when a file is missing or malformed, or the files do not fit each other or the pixel size.
    """
    folder = files.working_directory
    headers, remarks = check_headers(files, pixel_size_angstrom)
    half_maps = np.empty((2, *headers["half map 1"].shape), dtype=np.float32)
    for i, component in enumerate(("half map 1", "half map 2")):
        half_maps[i] = _finite(headers[component], folder)
        lowest, highest = _range(half_maps[i])
        if lowest == highest:
            raise InputError(
                f"{files.shown(component)}: the {component} is constant; give the maps of a refinement"
            )
    mask = _finite(headers["mask"], folder) if "mask" in headers else None
    if mask is not None:
        lowest, highest = _range(mask)
        if lowest < -0.1 or highest > 1.1 or highest <= 0:
            raise InputError(
                f"{files.shown('mask')}: the mask has values from {lowest:g} to {highest:g}, but must "
                "lie between 0 and 1 and not be empty; make a mask with Mask creation"
            )
    for i, component in enumerate(("half map 1", "half map 2")):
        _check_scale(files, component, half_maps[i], mask)
    fsc = None
    if "fsc" in files.paths:
        fsc = read_fsc(
            files.require("fsc"),
            shown_as=files.shown("fsc"),
            map_px=half_maps.shape[-1],
            pixel_size_angstrom=pixel_size_angstrom,
        )
        remarks += fsc.remarks
    return References(
        half_maps=half_maps,
        pixel_size_angstrom=pixel_size_angstrom,
        mask=mask,
        fsc=None if fsc is None else fsc.values,
        fsc_box=None if fsc is None else fsc.box_px,
        remarks=tuple(remarks),
    )


def check_references(references: References, files: OptimisationSet, box_px: int) -> list[str]:
    """Return warnings of references; raises InputError when the box is smaller than the maps."""
    shown, size = files.shown("half map 1"), references.size_px
    if box_px < size:
        raise InputError(
            f"--b {box_px}: the box is smaller than the map {shown} ({size} px); give --b {size} or more, "
            "or crop the maps"
        )
    warnings = list(references.remarks)
    if np.array_equal(references.half_maps[0], references.half_maps[1]):
        warnings.append(
            f"{shown}: both half maps are identical, so that signal and noise cannot be separated"
        )
    if references.fsc is not None and references.fsc[1:3].min() < FSC_THRESHOLD:
        warnings.append(
            f"{files.shown('fsc')}: the FSC is below {FSC_THRESHOLD:g} in its first shells; little signal is "
            "used"
        )
    return warnings


def _check_scale(
    files: OptimisationSet,
    component: str,
    half_map: Float32[Array, "s s s"],
    mask: Float32[Array, "s s s"] | None,
) -> None:
    """Raise InputError for a map whose squares exceed single precision, or that is empty within the mask."""
    lowest, highest = _range(half_map, mask)
    largest = max(-lowest, highest)
    if not 1 / LARGEST_VALUE <= largest <= LARGEST_VALUE:
        inside = "" if mask is None else f", multiplied by the mask {files.shown('mask')},"
        raise InputError(
            f"{files.shown(component)}: the {component}{inside} has values up to {largest:g}, which is not "
            f"between {1 / LARGEST_VALUE:g} and {LARGEST_VALUE:g}; check both maps, or scale them"
        )


def _range(
    volume: Float32[Array, "s s s"], mask: Float32[Array, "s s s"] | None = None
) -> tuple[float, float]:
    """Return the smallest and the largest value of a map, multiplied by the mask if there is one."""
    # Sections stay in cache, while copies of the map would need new memory.
    sections = volume if mask is None else map(np.multiply, volume, mask)
    ranges = np.array([(section.min(), section.max()) for section in sections])
    return float(ranges[:, 0].min()), float(ranges[:, 1].max())


def check_headers(files: OptimisationSet, pixel_size_angstrom: float) -> tuple[dict[str, MrcFile], list[str]]:
    """Return the headers of half maps and mask, and remarks on their pixel sizes.

    Raises InputError when sizes or pixel sizes do not fit.
    """
    headers = {}
    for component in ("half map 1", "half map 2", "mask"):
        if component != "mask" or component in files.paths:
            headers[component] = _read_cubic_header(
                files.require(component), component, files.working_directory
            )
    first, remarks = headers["half map 1"].shape, []
    for component, header in headers.items():
        shown = files.shown(component)
        if header.shape != first:
            raise InputError(
                f"{shown}: the {component} has {header.shape[0]}^3 px, but the first half map {first[0]}^3; "
                "give maps of one size"
            )
        remarks += header_remarks(header, component, shown, pixel_size_angstrom)
    return headers, remarks


def header_remarks(header: MrcFile, component: str, shown: str, pixel_size_angstrom: float) -> list[str]:
    """Return remarks on a pixel size in the header of a map or mask that is not the tilt series'.

    Raises InputError when it is so different that the file cannot belong to the tilt series.
    """
    stated = header.pixel_size_angstrom
    agreement = compare_pixel_sizes(stated, pixel_size_angstrom)
    if agreement is Agreement.DIFFERENT:
        raise InputError(
            f"{shown}: the {component} has {stated:.4f} Å/px{times_binned(stated, pixel_size_angstrom)}, but "
            f"the tilt series {pixel_size_angstrom:.4f}; "
            f"{_REMEDIES[component]}, or, if only the header is wrong, set its pixel size to "
            f"{pixel_size_angstrom:.4f} Å"
        )
    if agreement is Agreement.ALIKE:
        return [
            f"{shown}: the header says {stated:.4f} Å/px, but the tilt series have "
            f"{pixel_size_angstrom:.4f}, which is also used for the {component}"
        ]
    if agreement is Agreement.NOT_SET and stated > 0:
        return [
            f"{shown}: the header's pixel size of 1 Å is ignored as unset; that of the tilt series, "
            f"{pixel_size_angstrom:.4f} Å/px, is used for the {component}"
        ]
    return []


def _read_cubic_header(path: Path, component: str, working_directory: Path) -> MrcFile:
    shown = shown_path(path, working_directory)
    try:
        header = read_header(path)
        header.check_volume()
    except InputError as problem:
        raise InputError(f"{component}: {problem}") from None
    z, y, x = header.shape
    if not x == y == z:
        raise InputError(
            f"{shown}: the {component} has {x} x {y} x {z} px, but must be cubic; give a cubic map"
        )
    if x % 2:
        raise InputError(f"{shown}: the {component} has {x}^3 px, but its size must be even; crop or pad it")
    if header.axes not in ((1, 2, 3), (0, 0, 0)):
        raise InputError(
            f"{shown}: the axes of the {component} are stored in the order {header.axes}, but must be "
            "(1, 2, 3); rewrite the map"
        )
    return header


def _finite(header: MrcFile, working_directory: Path) -> Float32[Array, "s s s"]:
    volume = header.read_volume()
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.sum(volume, dtype=np.float64)
    if not np.isfinite(total):
        shown = shown_path(header.path, working_directory)
        raise InputError(f"{shown}: the map contains values that are not finite; make it again")
    return volume
