"""`report.html` of a polishing run: plots of its rounds and slices of the map before and after, offline."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tomopolish.dataset.files import atomic_write
from tomopolish.output.drawing import AFTER, BEFORE, count_in_whole_numbers, new_figure
from tomopolish.output.rounds import gain_sentence, rounds_table
from tomopolish.physics.fourier import FSC_THRESHOLD
from tomopolish.plain_text import counted, one_line
from tomopolish.results.rounds import Round, best_round, mean_fsc
from tomopolish.shapes import Array, Float32
from tomopolish.version import program_version

ROUND_COLOUR = "0.65"
INCHES = (10.0, 3.4)

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
img { width: 100%; background: white; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0; }
td, th { padding: 0.2rem 0.7rem; text-align: right; border-bottom: 1px solid #ccc; }
td:first-child, th:first-child { text-align: left; }
figcaption, footer { color: #666; font-size: 0.9rem; }
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class ComparedSlices:
    """Central slices of the sharpened map of the input and of the best round.

    Attributes
    ----------
    planes
        Slices across z, y and x, before and after.
    spans
        Density that is shown as white, and with the other sign as black, before and after.
    """

    planes: Float32[Array, "2 3 s s"]
    spans: tuple[float, float]

    @classmethod
    def of(cls, before: Float32[Array, "s s s"], after: Float32[Array, "s s s"]) -> ComparedSlices:
        """Return the slices of two maps."""
        middle = after.shape[-1] // 2
        planes = [(map_[middle], map_[:, middle], map_[:, :, middle]) for map_ in (before, after)]
        spans = [float(np.quantile(np.abs(map_), 0.999)) or 1.0 for map_ in (before, after)]
        return cls(planes=np.array(planes), spans=(spans[0], spans[1]))


@dataclass(frozen=True, kw_only=True, eq=False)
class RoundsPage:
    """Content of the page.

    Attributes
    ----------
    reason
        Why the run ended; empty while it runs.
    slices
        Slices of each species' map.
    note
        Lines on the command, version and time of the run.
    """

    rounds: Sequence[Round]
    reason: str
    slices: Sequence[ComparedSlices]
    pixel_size_angstrom: float
    note: Sequence[str]


def write_page(path: Path, page: RoundsPage) -> None:
    """Write the page; raises RunError when the file cannot be written."""
    rounds = page.rounds
    of = [f" of {each.name}" if len(page.slices) > 1 else "" for each in rounds[0].species]
    figures = [
        *[(f"FSC of the half maps{which}", _fsc_figure(page, number)) for number, which in enumerate(of)],
        ("Resolution, FSC and held-out particle images", _course_figure(rounds)),
        ("What moved", _change_figure(rounds)),
        *[
            (f"The sharpened map{which} before (above) and after (below)", _slices_figure(slices))
            for which, slices in zip(of, page.slices, strict=True)
        ],
    ]
    parts = [
        f"<h1>tomopolish polish: {counted(len(rounds) - 1, 'round')}</h1>",
        f"<p><strong>{html.escape(gain_sentence(rounds))}</strong> {html.escape(page.reason)}</p>",
        _html_table(rounds),
        *[f"<figure><img alt='{title}' src='{_png(f)}'><figcaption>{title}.</figcaption></figure>"
          for title, f in figures],
        _failures(rounds),
        f"<footer>{'<br>'.join(html.escape(one_line(line)) for line in page.note)}</footer>",
    ]  # fmt: skip
    with atomic_write(path) as stream:
        stream.write(
            "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
            f"<meta name='generator' content='tomopolish {program_version()}'>"
            f"<title>tomopolish polish</title><style>{STYLE}</style></head><body>\n"
        )
        stream.write("\n".join(parts))
        stream.write("\n</body></html>\n")


def _html_table(rounds: Sequence[Round]) -> str:
    table = rounds_table(rounds)
    head = "".join(f"<th>{html.escape(column)}</th>" for column in table.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows
    )
    return f"<table><caption>{html.escape(table.title)}</caption><tr>{head}</tr>{rows}</table>"


def _failures(rounds: Sequence[Round]) -> str:
    reasons = [
        f"<li>Round {each.number}, {html.escape(one_line(f'{name}: {reason}'))}</li>"
        for each in rounds
        for name, reason in each.failures
    ]
    return f"<h2>Tomograms that failed</h2><ul>{''.join(reasons)}</ul>" if reasons else ""


def _fsc_figure(page: RoundsPage, species: int) -> Any:
    """Return the curves of one species, by its number, of all rounds."""
    figure = new_figure(*INCHES)
    axes = figure.subplots()
    best = best_round(page.rounds)
    for each in page.rounds:
        colour = {0: BEFORE, best.number: AFTER}.get(each.number, ROUND_COLOUR)
        curve = each.species[species].fsc
        frequency = np.arange(len(curve)) / (2 * (len(curve) - 1) * page.pixel_size_angstrom)
        axes.plot(frequency, curve, color=colour, linewidth=1.6, label=f"round {each.number}")
    axes.axhline(FSC_THRESHOLD, color="0.3", linewidth=0.8, linestyle=":")
    axes.set_xlabel("spatial frequency (1/Å)")
    axes.set_ylabel("FSC, corrected for the mask")
    axes.set_ylim(-0.1, 1.02)
    axes.legend()
    return figure


def _course_figure(rounds: Sequence[Round]) -> Any:
    figure = new_figure(*INCHES)
    left, middle, right = figure.subplots(1, 3)
    numbers = [each.number for each in rounds]
    values, single = mean_fsc(rounds), rounds[0].is_single
    for species, maps in enumerate(rounds[0].species):
        for index, label in enumerate(("FSC 0.143", "FSC 0.5")):
            resolutions = [each.species[species].resolution_angstrom[index] for each in rounds]
            left.plot(numbers, resolutions, "o-", label=label if single else f"{maps.name}, {label}")
        colour = {"color": AFTER} if single else {}
        middle.plot(numbers, values[:, species], "o-", label=maps.name, **colour)
    left.set_ylabel("resolution (Å)")
    left.legend()
    middle.set_ylabel("mean FSC")
    if not single:
        middle.legend()
    tested = [(each.number, each.evidence) for each in rounds if each.evidence is not None]
    right.errorbar(
        [number for number, _ in tested],
        [e.gain_per_pair for _, e in tested],
        [e.standard_error_per_pair for _, e in tested],
        fmt="o-",
        capsize=3,
        color=AFTER,
    )
    right.axhline(0, color="0.3", linewidth=0.8)
    right.set_ylabel("log-likelihood per held-out pair")
    for axes in (left, middle, right):
        _count_rounds(axes)
    return figure


def _change_figure(rounds: Sequence[Round]) -> Any:
    figure = new_figure(*INCHES)
    left, right = figure.subplots(1, 2)
    refined = [each for each in rounds if each.number > 0]
    numbers = [each.number for each in refined]
    for name, label in (("shift_angstrom", "shifts"), ("position_angstrom", "positions")):
        left.plot(numbers, [getattr(each, name) for each in refined], "o-", label=label)
    left.set_ylabel("RMS change (Å)")
    left.legend()
    right.plot(numbers, [each.angle_degrees for each in refined], "o-")
    right.set_ylabel("RMS change of angles (°)")
    for axes in (left, right):
        _count_rounds(axes)
    return figure


def _slices_figure(slices: ComparedSlices) -> Any:
    figure = new_figure(INCHES[0], 7.0)
    for row, (planes, span) in enumerate(zip(slices.planes, slices.spans, strict=True)):
        for column, (plane, name) in enumerate(zip(planes, ("xy", "xz", "yz"), strict=True)):
            axes = figure.add_subplot(2, 3, 3 * row + column + 1)
            axes.imshow(plane, cmap="gray", origin="lower", vmin=-span, vmax=span)
            axes.set_title(f"{('before', 'after')[row]}, {name}", fontsize=9)
            axes.axis("off")
    return figure


def _count_rounds(axes: Any) -> None:
    count_in_whole_numbers(axes.xaxis)
    axes.set_xlabel("round")
    axes.grid(visible=True, alpha=0.3)


def _png(figure: Any) -> str:
    with io.BytesIO() as stream:
        figure.savefig(stream, format="png", dpi=110, metadata={"Software": None})
        return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
