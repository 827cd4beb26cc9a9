"""``postprocess.star``: resolution, FSC curves and Guinier plot, in RELION's tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tomopolish.dataset.relion.fsc_file import fsc_table
from tomopolish.dataset.star import StarTable, format_floats, write_star
from tomopolish.shapes import Array, Float

_GUINIER = {
    "inverse square": "rlnResolutionSquared",
    "original": "rlnLogAmplitudesOriginal",
    "weighted": "rlnLogAmplitudesWeighted",
    "sharpened": "rlnLogAmplitudesSharpened",
}
NOTHING = -99.0
"""Logarithm that stands for an amplitude of 0."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PostprocessFile:
    """Content of a ``postprocess.star``.

    Attributes
    ----------
    half_maps, mask
        Names of the files, as RELION finds them from its project folder.
    curves
        As in `fsc_table`.
    guinier
        Values of the Guinier plot by shell: ``inverse square`` (1/Å²), and logarithms of the amplitudes
        ``original``, ``weighted`` and ``sharpened``.
    line
        Slope, intercept and correlation of the Guinier fit; None where there was none.
    """

    half_maps: tuple[str, str]
    mask: str
    box_px: int
    pixel_size_angstrom: float
    resolution_angstrom: float
    bfactor_angstrom2: float
    curves: Mapping[str, Float[Array, "shells"]]
    guinier: Mapping[str, Float[Array, "shells"]]
    line: tuple[float, float, float] | None = None


def write_postprocess(path: Path, content: PostprocessFile, version: str | None = None) -> None:
    """Write the tables ``general``, ``fsc`` and ``guinier``; raises RunError when that fails."""
    general = {
        "rlnFinalResolution": content.resolution_angstrom,
        "rlnBfactorUsedForSharpening": content.bfactor_angstrom2,
    }
    if content.line is not None:
        slope, intercept, correlation = content.line
        general |= {
            "rlnFittedSlopeGuinierPlot": slope,
            "rlnFittedInterceptGuinierPlot": intercept,
            "rlnCorrelationFitGuinierPlot": correlation,
        }
    cells = {label: format_floats([value]) for label, value in general.items()}
    cells |= {
        "rlnUnfilteredMapHalf1": [content.half_maps[0]],
        "rlnUnfilteredMapHalf2": [content.half_maps[1]],
        "rlnMaskName": [content.mask],
    }
    guinier = {
        label: format_floats(np.nan_to_num(content.guinier[name][1:], nan=NOTHING))
        for name, label in _GUINIER.items()
    }
    write_star(
        path,
        [
            StarTable(name="general", columns=cells, is_loop=False, version=version),
            fsc_table(
                content.curves,
                box_px=content.box_px,
                pixel_size_angstrom=content.pixel_size_angstrom,
                version=version,
            ),
            StarTable(name="guinier", columns=guinier, version=version),
        ],
    )
