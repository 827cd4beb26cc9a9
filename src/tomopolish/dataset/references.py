"""Reference maps, mask and FSC (spec §4, §7), checked against each other."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from tomopolish.dataset.files import shown_path
from tomopolish.dataset.model import References
from tomopolish.dataset.mrc import MrcFile, read_header
from tomopolish.dataset.relion.optimisation_set import OptimisationSet
from tomopolish.dataset.star import StarTable, read_star
from tomopolish.errors import InputError
from tomopolish.shapes import Float, Float32

Array = np.ndarray

FSC_TABLE = "fsc"
CORRECTED_FSC = "rlnFourierShellCorrelationCorrected"
RESOLUTION = "rlnAngstromResolution"
SHELL = "rlnSpectralIndex"
_TOLERANCE = 0.01  # of a pixel size: headers hold it in single precision, and people round it


def read_references(files: OptimisationSet, pixel_size_angstrom: float) -> References:
    """Read half maps, and mask and FSC where there are any.

    Parameters
    ----------
    files
        Where they are.
    pixel_size_angstrom
        The tilt series' pixel size, which all of them must have.

    Raises
    ------
    InputError
        When one is missing or malformed, or they do not fit each other or the pixel size.
    """
    folder = files.working_directory
    headers = check_headers(files, pixel_size_angstrom)
    half_maps = np.empty((2, *headers["half map 1"].shape), dtype=np.float32)
    for i, component in enumerate(("half map 1", "half map 2")):
        half_maps[i] = _finite(headers[component], folder)
        if half_maps[i].min() == half_maps[i].max():
            raise InputError(
                f"{files.shown(component)}: the {component} is constant; give the maps of a refinement"
            )
    mask = _finite(headers["mask"], folder) if "mask" in headers else None
    if mask is not None and (mask.min() < -0.1 or mask.max() > 1.1 or mask.max() <= 0):
        raise InputError(
            f"{files.shown('mask')}: the mask holds values from {mask.min():g} to {mask.max():g}, but must "
            "lie between 0 and 1 and not be empty; make a mask with Mask creation"
        )
    fsc, box = read_fsc(files, pixel_size_angstrom) if "fsc" in files.paths else (None, None)
    return References(
        half_maps=half_maps, pixel_size_angstrom=pixel_size_angstrom, mask=mask, fsc=fsc, fsc_box=box
    )


def check_headers(files: OptimisationSet, pixel_size_angstrom: float) -> dict[str, MrcFile]:
    """Headers of half maps and mask, after checking sizes and pixel sizes; raises InputError."""
    headers = {}
    for component in ("half map 1", "half map 2", "mask"):
        if component != "mask" or component in files.paths:
            headers[component] = _read_cubic_header(
                files.require(component), component, files.working_directory
            )
    first = headers["half map 1"].shape
    for component, header in headers.items():
        shown = files.shown(component)
        if header.shape != first:
            raise InputError(
                f"{shown}: the {component} has {header.shape[0]}^3 px, but the first half map {first[0]}^3; "
                "give maps of one size"
            )
        if header.pixel_size_angstrom and not _agree(header.pixel_size_angstrom, pixel_size_angstrom):
            raise InputError(
                f"{shown}: the {component} has {header.pixel_size_angstrom:.4f} Å/px, but the tilt series "
                f"{pixel_size_angstrom:.4f}; give references at the pixel size of the unbinned tilt images"
            )
    return headers


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
        raise InputError(f"{shown}: the map holds values that are not finite; make it again")
    return volume


def read_fsc(files: OptimisationSet, pixel_size_angstrom: float) -> tuple[Float[Array, "shells"], int]:
    """Corrected FSC by shell, and the box it belongs to; raises InputError."""
    path = files.require("fsc")
    table = read_star(path, shown_as=files.shown("fsc")).table(FSC_TABLE)
    if CORRECTED_FSC not in table:
        raise table.error(f"the column {CORRECTED_FSC} is missing; give the postprocess.star of a masked map")
    fsc = table.floats(CORRECTED_FSC)
    if len(fsc) < 3:
        raise table.error(f"the curve has {len(fsc)} shells, which is no FSC; give a postprocess.star")
    if (np.abs(fsc) > 1.01).any():
        row = int(np.argmax(np.abs(fsc) > 1.01))
        raise table.error(
            f"{CORRECTED_FSC} is {fsc[row]:g}, but must lie between -1 and 1; correct it", row=row
        )
    if SHELL in table and (wrong := table.ints(SHELL) != np.arange(len(fsc))).any():
        raise table.error(
            f"{SHELL} does not count 0, 1, 2 …; give every shell in order", row=int(np.argmax(wrong))
        )
    box = 2 * (len(fsc) - 1)
    _check_extent(table, box, pixel_size_angstrom)
    return fsc, box


def _check_extent(table: StarTable, box: int, pixel_size_angstrom: float) -> None:
    """Shell i of a box of s px lies at s · pixel size / i Å."""
    if RESOLUTION not in table:
        return
    shell = len(table) - 1
    stated = float(table.floats(RESOLUTION)[shell]) * shell / box
    if not _agree(stated, pixel_size_angstrom):
        raise table.error(
            f"{RESOLUTION} belongs to a box of {box} px at {stated:.5g} Å/px, but the tilt series have "
            f"{pixel_size_angstrom:.4f}; give the FSC of these references"
        )


def _agree(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=_TOLERANCE)
