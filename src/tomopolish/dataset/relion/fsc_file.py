"""FSC curves as RELION's users know them from postprocess: table ``fsc`` (spec §4, §7)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tomopolish.dataset.references import CORRECTED_FSC, FSC_TABLE, RESOLUTION, SHELL
from tomopolish.dataset.star import read_star, write_star
from tomopolish.dataset.star_table import StarTable, format_floats
from tomopolish.shapes import Float

Array = np.ndarray

_CURVES = {
    "corrected": CORRECTED_FSC,
    "unmasked": "rlnFourierShellCorrelationUnmaskedMaps",
    "masked": "rlnFourierShellCorrelationMaskedMaps",
    "randomised": "rlnCorrectedFourierShellCorrelationPhaseRandomizedMaskedMaps",
}


def read_curves(path: Path) -> tuple[dict[str, Float[Array, "shells"]], float]:
    """Read the curves that `write_fsc` wrote, and the maps' pixel size in Å; raises InputError."""
    table = read_star(path).table(FSC_TABLE)
    curves = {name: table.floats(label) for name, label in _CURVES.items() if label in table}
    shell = len(table) - 1
    if shell < 1 or "corrected" not in curves:
        raise table.error("this is no FSC curve: it needs several shells of corrected values")
    return curves, float(table.floats(RESOLUTION)[shell]) * shell / (2 * shell)


def write_fsc(
    path: Path,
    curves: Mapping[str, Float[Array, "shells"]],
    *,
    box_px: int,
    pixel_size_angstrom: float,
    version: str | None = None,
) -> None:
    """Write FSC curves by shell, atomically.

    Parameters
    ----------
    curves
        ``corrected``, and any of ``unmasked``, ``masked`` and ``randomised``; shells 0 … s/2.

    Raises
    ------
    RunError
        when the file cannot be written.
    """
    shells = np.arange(len(curves["corrected"]))
    length = box_px * pixel_size_angstrom
    columns = {
        SHELL: [str(shell) for shell in shells],
        "rlnResolution": format_floats(shells / length),
        RESOLUTION: format_floats(length / np.maximum(shells, 1e-3)),
    }
    columns |= {label: format_floats(curves[name]) for name, label in _CURVES.items() if name in curves}
    write_star(path, [StarTable(name=FSC_TABLE, columns=columns, version=version)])
