"""`logfile.pdf`, which RELION's GUI shows for a finished job: what changed, tilt image by tilt image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from tomopolish.dataset.files import atomic_path
from tomopolish.plain_text import one_line
from tomopolish.results.tomogram import TomogramStatistics
from tomopolish.shapes import Float

Array = np.ndarray

FILE_NAME = "logfile.pdf"
PAGE = (595.0, 842.0)
MARGIN = 60.0
COLOURS = ((0.12, 0.35, 0.65), (0.80, 0.35, 0.05), (0.15, 0.55, 0.25))


@dataclass(frozen=True, kw_only=True, eq=False)
class TomogramPage:
    """What one page shows; arrays are in the order of exposure.

    Attributes
    ----------
    shifts_angstrom
        Change of each projection's shift, x and y.
    angles_degrees
        Angle by which each projection turned.
    """

    name: str
    statistics: TomogramStatistics
    shifts_angstrom: Float[Array, "F 2"]
    angles_degrees: Float[Array, "F"]


def write_logfile(
    path: Path,
    statistics: Mapping[str, TomogramStatistics],
    pages: Iterable[TomogramPage],
    failures: Mapping[str, str],
) -> None:
    """Write the figures of all tomograms, then a page for each of `pages`.

    Raises RunError when the file cannot be written.
    """
    from reportlab.pdfgen.canvas import Canvas  # noqa: PLC0415  only a pipeline needs it

    with atomic_path(path) as temporary:
        canvas = Canvas(str(temporary), pagesize=PAGE, invariant=1)
        canvas.setTitle("tomopolish")
        _summary(canvas, statistics, failures)
        for page in pages:
            _tomogram(canvas, page)
        canvas.save()


def _summary(canvas: Any, statistics: Mapping[str, TomogramStatistics], failures: Mapping[str, str]) -> None:
    figures = list(statistics.values())
    _heading(canvas, f"tomopolish: {len(figures)} tomograms refined, {len(failures)} failed")
    number = np.arange(1, len(figures) + 1)
    per_pair = [s.log_likelihood_gain / max(s.visible_pairs, 1) for s in figures]
    shifts = [s.rms_shift_angstrom for s in figures]
    positions = [s.rms_position_angstrom for s in figures]
    _plot(canvas, 560, "tomogram", "log-likelihood gained per pair", number, {"": per_pair})
    _plot(canvas, 320, "tomogram", "RMS change (Å)", number, {"shifts": shifts, "positions": positions})
    _plot(
        canvas, 80, "tomogram", "evaluations to convergence", number, {"": [s.evaluations for s in figures]}
    )
    canvas.showPage()
    for start in range(0, len(failures), 50):
        _heading(canvas, "Tomograms that failed and keep their input values")
        for line, (name, reason) in enumerate(list(failures.items())[start : start + 50]):
            canvas.setFont("Helvetica", 8)
            canvas.drawString(MARGIN, 770 - 14 * line, _printable(f"{name}: {reason}")[:120])
        canvas.showPage()


def _tomogram(canvas: Any, page: TomogramPage) -> None:
    s = page.statistics
    _heading(canvas, page.name)
    canvas.setFont("Helvetica", 9)
    canvas.drawString(
        MARGIN,
        765,
        f"{s.particles} particles, {s.visible_pairs} visible pairs, log-likelihood gained "
        f"{s.log_likelihood_gain:.1f}, {s.evaluations} evaluations",
    )
    frame = np.arange(len(page.angles_degrees))
    _plot(
        canvas,
        480,
        "tilt image, by exposure",
        "change of shift (Å)",
        frame,
        {"x": page.shifts_angstrom[:, 0], "y": page.shifts_angstrom[:, 1]},
    )
    _plot(canvas, 160, "tilt image, by exposure", "change of angle (°)", frame, {"": page.angles_degrees})
    canvas.showPage()


def _heading(canvas: Any, text: str) -> None:
    canvas.setFont("Helvetica-Bold", 13)
    canvas.drawString(MARGIN, 790, _printable(text)[:80])


def _plot(
    canvas: Any,
    bottom: float,
    x_label: str,
    y_label: str,
    x: Array,
    curves: Mapping[str, Sequence[float] | Array],
) -> None:
    """Draw curves with points, axes and a legend into a box 180 points high."""
    left, width, height = MARGIN + 30, PAGE[0] - 2 * MARGIN - 30, 180.0
    values = [np.nan_to_num(np.asarray(curve, dtype=np.float64)) for curve in curves.values()]
    x_range = _range(x.astype(np.float64))
    y_range = _range(np.concatenate([*values, [0.0]]))
    canvas.setStrokeColorRGB(0.4, 0.4, 0.4)
    canvas.setLineWidth(0.6)
    canvas.rect(left, bottom, width, height)
    canvas.setFont("Helvetica", 8)
    canvas.drawCentredString(left + width / 2, bottom - 24, x_label)
    canvas.drawString(left, bottom + height + 5, y_label)
    for fraction in (0.0, 0.5, 1.0):
        y = y_range[0] + fraction * (y_range[1] - y_range[0])
        canvas.drawRightString(left - 4, bottom + fraction * height - 3, f"{y:.4g}")
        number = x_range[0] + fraction * (x_range[1] - x_range[0])
        canvas.drawCentredString(left + fraction * width, bottom - 11, f"{number:.4g}")
    for i, (label, curve) in enumerate(zip(curves, values, strict=True)):
        colour = COLOURS[i % len(COLOURS)]
        points = [
            (
                left + width * (a - x_range[0]) / (x_range[1] - x_range[0]),
                bottom + height * (b - y_range[0]) / (y_range[1] - y_range[0]),
            )
            for a, b in zip(x.tolist(), curve.tolist(), strict=True)
        ]
        canvas.setStrokeColorRGB(*colour)
        canvas.setFillColorRGB(*colour)
        canvas.lines([(*a, *b) for a, b in pairwise(points)])
        for point in points:
            canvas.circle(*point, 1.4, stroke=0, fill=1)
        canvas.drawRightString(left + width - 6 - 60 * i, bottom + height + 5, label)
        canvas.setFillColorRGB(0, 0, 0)


def _range(values: Array) -> tuple[float, float]:
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _printable(text: str) -> str:
    return "".join(c if ord(c) < 256 else "?" for c in one_line(text))
