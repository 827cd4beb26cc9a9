"""FSC curves as RELION writes them: table ``fsc`` of a postprocess.star, and tables like it.

See docs/dev/conventions.md, References and weights.

Only the number of each shell and its value are used. The resolution columns repeat the shell's number for
a pixel size that may differ from the tilt series': a map may have been calibrated in between.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tomopolish.dataset.pixel_sizes import ALIKE, SAME
from tomopolish.dataset.relion.numbers import LARGEST
from tomopolish.dataset.relion.roles import ROLES, check_kind
from tomopolish.dataset.star import StarFile, read_star, write_star
from tomopolish.dataset.star_table import StarTable, format_floats
from tomopolish.errors import InputError
from tomopolish.shapes import Array, Float, Int

FSC_TABLE = "fsc"
CORRECTED_FSC = "rlnFourierShellCorrelationCorrected"
FREQUENCY = "rlnResolution"
RESOLUTION = "rlnAngstromResolution"
SHELL = "rlnSpectralIndex"
_CURVES = {
    "corrected": CORRECTED_FSC,
    "fraction": "rlnFourierShellCorrelationParticleMaskFraction",
    "unmasked": "rlnFourierShellCorrelationUnmaskedMaps",
    "masked": "rlnFourierShellCorrelationMaskedMaps",
    "randomised": "rlnCorrectedFourierShellCorrelationPhaseRandomizedMaskedMaps",
}
_INSTEAD = (
    "rlnFourierShellCorrelation",
    "rlnGoldStandardFsc",
    "rlnFourierShellCorrelationMaskedMaps",
    "rlnFourierShellCorrelationUnmaskedMaps",
)
"""Curves that are used where there is no corrected one, the best first."""


_LEAST = 1e-12
"""Smallest frequency (1/Å) and resolution (Å) that can be stated; their products and ratios are numbers."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FscCurve:
    """The FSC by which frequencies are weighted.

    Attributes
    ----------
    values
        FSC by shell of a box of `box_px` at the tilt series' pixel size: shells 0 … box_px/2.
    remarks
        Sentences on assumptions that were made on reading.
    """

    values: Float[Array, "shells"]
    box_px: int
    remarks: tuple[str, ...] = ()


def read_fsc(path: Path, *, shown_as: str, map_px: int, pixel_size_angstrom: float) -> FscCurve:
    """Return the FSC of maps with an edge of `map_px`, for tilt series of a pixel size.

    `shown_as` is the file's name in messages. Raises InputError when it is missing, or contains no curve.
    """
    table, label = _curve_in(read_star(path, shown_as=shown_as), path)
    remarks = []
    if label != CORRECTED_FSC:
        remarks.append(f"{table.place}: {CORRECTED_FSC} is missing; {table.spelling(label)} is used")
    frequencies = _frequencies(table)
    shells = _shells(table, frequencies)
    values = _values(table, label, shells)
    box = 2 * (len(values) - 1)
    stated_px = _stated_pixel_size(shells, frequencies, box)
    if stated_px is not None and not math.isclose(stated_px, pixel_size_angstrom, rel_tol=SAME):
        box, sentence = _other_sampling(box, stated_px, map_px, pixel_size_angstrom)
        remarks.append(f"{table.place}: {sentence}")
    return FscCurve(values=_to_box(values, box), box_px=box, remarks=tuple(remarks))


def _curve_in(star: StarFile, path: Path) -> tuple[StarTable, str]:
    """Return the table that contains a curve, and the label of the column that is used."""
    tables = [table for table in star.tables if table.name.lower() == FSC_TABLE] or list(star.tables)
    for label in (CORRECTED_FSC, *_INSTEAD):
        for table in tables:
            if label in table:
                return table, label
    check_kind(star, ROLES["fsc"], path)
    table = star.table(FSC_TABLE)
    raise table.error(f"the column {CORRECTED_FSC} is missing; give the postprocess.star of a masked map")


def _frequencies(table: StarTable) -> Float[Array, "rows"] | None:
    """Return the frequency of each row in 1/Å, or None where no column has sensible ones."""
    for label in (FREQUENCY, RESOLUTION):
        if label not in table:
            continue
        with contextlib.suppress(InputError):
            values = table.floats(label, default=0.0)
            if label == RESOLUTION:
                # Shell 0 has no length: RELION writes 999 there, whatever the box.
                lengths = np.where((np.arange(len(values)) == 0) & (values == 999), 0, values)
                values = np.divide(1.0, lengths, out=np.zeros_like(values), where=lengths > _LEAST)
            possible = (values == 0) | ((values >= _LEAST) & (values <= 1 / _LEAST))
            if possible.all() and np.count_nonzero(values) > 1:
                return values
    return None


def _shells(table: StarTable, frequencies: Float[Array, "rows"] | None) -> Int[Array, "rows"]:
    """Return each row's shell number: as stated, or in the order of the frequencies or rows."""
    if len(table) < 3:
        raise table.error(f"the curve has {len(table)} shells, which is not an FSC; give a postprocess.star")
    if table.is_stated(SHELL):
        shells = table.ints(SHELL)
        wrong = (shells < 0) | (shells > LARGEST)
        wrong |= ~np.isin(np.arange(len(shells)), np.unique(shells, return_index=True)[1])
        if wrong.any():
            row = int(np.argmax(wrong))
            raise table.error(f"{SHELL} is {shells[row]} there or twice; give every shell once", row=row)
        return shells
    shells = np.arange(len(table))
    if frequencies is None:
        return shells
    # Frequencies rise in equal steps; the first determines the first shell of the table.
    rising = np.sort(frequencies)
    step, first = np.polyfit(shells[1:], rising[1:], 1)
    if step > 0 and np.abs(rising[1:] - first - step * shells[1:]).max() < step and first / step < LARGEST:
        shells[np.argsort(frequencies, kind="stable")] = np.arange(len(table)) + max(0, round(first / step))
    return shells


def _values(table: StarTable, label: str, shells: Int[Array, "rows"]) -> Float[Array, "shells"]:
    """Return the curve from shell 0 on; missing values are interpolated between shells.

    Shell 0 is 1, and a curve that ends early is 0 beyond. Raises InputError, which names an invalid value.
    """
    values = table.floats(label, default=0.0)
    if (np.abs(values) > 1.01).any():
        row = int(np.argmax(np.abs(values) > 1.01))
        raise table.error(f"{label} is {values[row]:g}, but must lie between -1 and 1; correct it", row=row)
    known = np.ones(len(values), dtype=bool)
    known[table.unset_rows(label)] = False
    if not known.any():
        raise table.error(f"{label} has no value in any row; give the postprocess.star of a masked map")
    order = np.argsort(shells[known])
    return np.interp(
        np.arange(shells.max() + 1), shells[known][order], values[known][order], left=1.0, right=0.0
    )


def _stated_pixel_size(
    shells: Int[Array, "rows"], frequencies: Float[Array, "rows"] | None, box_px: int
) -> float | None:
    """Return the pixel size to which the frequencies belong; None where they belong to none."""
    if frequencies is None:
        return None
    usable = (shells > 0) & (frequencies > 0)
    sizes = shells[usable] / (box_px * frequencies[usable])
    typical = float(np.median(sizes))
    return typical if np.mean(np.abs(sizes / typical - 1) < SAME) > 0.5 else None


def _other_sampling(
    box_px: int, stated_angstrom: float, map_px: int, pixel_size_angstrom: float
) -> tuple[int, str]:
    """Return the box to which the shells belong at the tilt series' pixel size, and a remark on it."""
    here_px = 2 * round(box_px * stated_angstrom / pixel_size_angstrom / 2)
    alike = math.isclose(stated_angstrom, pixel_size_angstrom, rel_tol=ALIKE)
    if alike or box_px == map_px or not 6 <= here_px <= LARGEST:
        return box_px, (
            f"the resolution belongs to {stated_angstrom:.5g} Å/px, but the tilt series have "
            f"{pixel_size_angstrom:.5g}; only the shells' numbers and values are used"
        )
    return here_px, (
        f"the curve belongs to a box of {box_px} px at {stated_angstrom:.5g} Å/px, so that its shells are "
        f"those of {here_px} px at the tilt series' {pixel_size_angstrom:.5g} Å/px"
    )


def _to_box(values: Float[Array, "shells"], box_px: int) -> Float[Array, "n"]:
    """Return a curve that is cut at the box's last shell, or continued with 0 up to it."""
    count = box_px // 2 + 1
    return np.pad(values[:count], (0, max(0, count - len(values))))


def read_curves(path: Path) -> tuple[dict[str, Float[Array, "shells"]], float]:
    """Return the curves of a file from `write_fsc`, and the maps' pixel size in Å; raises InputError."""
    table = read_star(path).table(FSC_TABLE)
    curves = {name: table.floats(label) for name, label in _CURVES.items() if label in table}
    shell = len(table) - 1
    if shell < 1 or "corrected" not in curves:
        raise table.error("this is not an FSC curve, which has several shells of corrected values")
    return curves, float(table.floats(RESOLUTION)[shell]) * shell / (2 * shell)


def write_fsc(
    path: Path,
    curves: Mapping[str, Float[Array, "shells"]],
    *,
    box_px: int,
    pixel_size_angstrom: float,
    version: str | None = None,
) -> None:
    """Write FSC curves by shell, atomically; raises RunError when the file cannot be written.

    The parameters are those of `fsc_table`.
    """
    table = fsc_table(curves, box_px=box_px, pixel_size_angstrom=pixel_size_angstrom, version=version)
    write_star(path, [table])


def fsc_table(
    curves: Mapping[str, Float[Array, "shells"]],
    *,
    box_px: int,
    pixel_size_angstrom: float,
    version: str | None = None,
) -> StarTable:
    """Return the table ``fsc`` of FSC curves by shell.

    Parameters
    ----------
    curves
        ``corrected``, and any of ``unmasked``, ``masked``, ``randomised`` and ``fraction``, the unmasked
        curve corrected for the solvent outside the mask; shells 0 … s/2.
    """
    shells = np.arange(len(curves["corrected"]))
    length = box_px * pixel_size_angstrom
    columns = {
        SHELL: [str(shell) for shell in shells],
        FREQUENCY: format_floats(shells / length),
        RESOLUTION: format_floats(length / np.maximum(shells, 1e-3)),
    }
    columns |= {label: format_floats(curves[name]) for name, label in _CURVES.items() if name in curves}
    return StarTable(name=FSC_TABLE, columns=columns, version=version)
