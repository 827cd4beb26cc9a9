"""The particles' optics groups: aberrations, and values that repeat those of the tomograms.

See docs/dev/conventions.md, Optics.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from tomopolish.dataset.cells import is_number
from tomopolish.dataset.model import OpticsGroup, TiltSeries
from tomopolish.dataset.relion.tilt_series import STATED_TWICE
from tomopolish.dataset.remarks import Remark
from tomopolish.dataset.star import StarFile, StarTable
from tomopolish.errors import InputError
from tomopolish.shapes import Array, Int

OPTICS = "rlnOpticsGroup"
TABLE = "optics"
BINNING = "rlnTomoSubtomogramBinning"
IMAGE_PIXEL_SIZE = "rlnImagePixelSize"
_TOLERANCE = 1e-3
_BINNED = 0.05  # pixel sizes are rounded, and calibrated
_LARGEST_BINNING = 1e3


def optics_table(star: StarFile) -> StarTable | None:
    """Return the table of optics groups; None where a particle set has none, or one without rows."""
    return star.table(TABLE) if TABLE in star and len(star.table(TABLE)) else None


def read_optics_groups(optics: StarTable | None) -> tuple[OpticsGroup, ...]:
    """Return all optics groups, in the file's order; without a table, one group without aberrations.

    Raises InputError when aberrations are not vectors of numbers.
    """
    if optics is None:
        return (OpticsGroup(name="all"),)
    return tuple(
        OpticsGroup(
            name=optics.stated("rlnOpticsGroupName", row) or f"group {row + 1}",
            even_zernike=_zernike(optics, "rlnEvenZernike", row),
            odd_zernike=_zernike(optics, "rlnOddZernike", row),
        )
        for row in range(len(optics))
    )


def optics_indices(
    table: StarTable, optics: StarTable | None, groups: tuple[OpticsGroup, ...]
) -> tuple[Int[Array, "rows"], str | None]:
    """Return the index into the optics groups of every particle, and any fault that does not matter.

    With a single group, particles need not name it, and without aberrations nothing depends on the group.
    Otherwise, an InputError names a row without a group.
    """
    first = np.zeros(len(table), dtype=np.int64)
    if optics is None or _need_no_group(table, optics):
        return first, None
    try:
        return _stated_indices(table, optics, groups), None
    except InputError as problem:
        if have_aberrations(groups):
            raise
        return first, f"{problem} (nothing depends on it: no group has aberrations)"


def _need_no_group(table: StarTable, optics: StarTable) -> bool:
    """Return whether there is a single group without a number in the particles or in the group."""
    return len(optics) == 1 and not (table.is_stated(OPTICS) and OPTICS in optics)


def have_aberrations(groups: Iterable[OpticsGroup]) -> bool:
    """Whether anything depends on which group a particle belongs to."""
    return any(group.even_zernike or group.odd_zernike for group in groups)


def _stated_indices(
    table: StarTable, optics: StarTable, groups: tuple[OpticsGroup, ...]
) -> Int[Array, "rows"]:
    index: dict[int, int] = {}
    for row, number in enumerate(optics.ints(OPTICS).tolist()):
        first = index.setdefault(number, row)
        if _aberrations(groups[first]) != _aberrations(groups[row]):
            raise optics.error(
                f"{OPTICS} {number} is that of row {first + 1}, too, with other aberrations; give each group "
                "of joined sets a number of its own, here and in the particles",
                row=row,
            )
    numbers = table.ints(OPTICS)
    known = np.isin(numbers, list(index))
    if not known.all():
        row = int(np.argmin(known))
        raise table.error(
            f"{OPTICS} is {numbers[row]}, which the table optics does not list; add the group there", row=row
        )
    return np.array([index[n] for n in numbers.tolist()], dtype=np.int64)


def optics_in_use(
    groups: tuple[OpticsGroup, ...], index: Int[Array, "P"]
) -> tuple[tuple[OpticsGroup, ...], Int[Array, "P"]]:
    """Return the groups that the particles use, and each particle's index into them.

    Groups with the same aberrations are joined, under the name of the first: a project may have hundreds of
    groups, and the effect of each group's aberrations is computed for every tilt image.
    """
    used, inverse = np.unique(index, return_inverse=True)
    place: dict[tuple[tuple[float, ...], ...], int] = {}
    chosen: list[OpticsGroup] = []
    code = np.zeros(len(used), dtype=np.int64)
    for i, number in enumerate(used.tolist()):
        group = groups[number]
        aberrations = _aberrations(group)
        if aberrations not in place:
            place[aberrations] = len(chosen)
            chosen.append(group)
        code[i] = place[aberrations]
    return tuple(chosen), code[inverse]


def optics_remarks(optics: StarTable | None, groups: Iterable[int], series: TiltSeries) -> list[Remark]:
    """Return remarks on optics groups that state another pixel size or microscope than the tomogram's.

    There are also remarks on binned particle images, with which the orientations were refined.
    """
    if optics is None:
        return []
    groups = list(groups)
    microscope = series.microscope
    counting = (
        ("pixel size", series.pixel_size_angstrom),
        ("voltage", microscope.voltage_kv),
        ("spherical aberration", microscope.spherical_aberration_mm),
        ("amplitude contrast", microscope.amplitude_contrast),
    )
    remarks = []
    for row in groups:
        for label, (quantity, value) in zip(STATED_TWICE, counting, strict=True):
            other = _stated_number(optics, label, row)
            if other is not None and not math.isclose(value, other, rel_tol=0.0, abs_tol=_TOLERANCE):
                sentence = (
                    f"the {quantity} is {value:g}, which is used, but {optics.place}, row {row + 1}, says "
                    f"{other:g}"
                )
                remarks.append(Remark(sentence=sentence))
    return remarks + _binning_remarks(optics, groups, series.pixel_size_angstrom)


def _aberrations(group: OpticsGroup) -> tuple[tuple[float, ...], ...]:
    """Return what tells groups apart: the coefficients of even and odd aberrations."""
    return tuple(_without_last_zeros(c) for c in (group.even_zernike, group.odd_zernike))


def _without_last_zeros(coefficients: tuple[float, ...]) -> tuple[float, ...]:
    count = len(coefficients)
    while count and coefficients[count - 1] == 0:
        count -= 1
    return coefficients[:count]


def _binning_remarks(optics: StarTable, groups: Iterable[int], pixel_size_angstrom: float) -> list[Remark]:
    """Return a remark on the binning of particle images, by the larger of two columns."""
    factors = [1.0]
    for row in groups:
        image_px = _stated_number(optics, IMAGE_PIXEL_SIZE, row) or 0.0
        factors += [_stated_number(optics, BINNING, row) or 0.0, image_px / pixel_size_angstrom]
    factor = max(factors)
    if not 1 + _BINNED < factor < _LARGEST_BINNING:
        return []
    angstrom = factor * pixel_size_angstrom
    return [
        Remark(
            sentence=f"the particle images are binned {factor:.3g} times ({BINNING} or "
            f"{IMAGE_PIXEL_SIZE} in {optics.place}): the orientations, which remain unchanged, were refined "
            f"to {2 * angstrom:.3g} Å at best; extract particles at binning 1 and refine them for a finer map"
        )
    ]


def _stated_number(table: StarTable, label: str, row: int) -> float | None:
    """Return a cell as a number; None where it has none, since nothing is computed with it."""
    cell = table.stated(label, row) or ""
    return float(cell) if is_number(cell) else None


def _zernike(optics: StarTable, label: str, row: int) -> tuple[float, ...]:
    return () if optics.stated(label, row) is None else tuple(optics.vector(label, row).tolist())
