"""`logfile.pdf`, which RELION's GUI shows for a finished job: the change of every tilt image."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tomopolish.dataset.files import atomic_path
from tomopolish.output.table import flagged_words
from tomopolish.plain_text import one_line
from tomopolish.results.tomogram import TomogramStatistics
from tomopolish.results.verdict import Verdict, sentence
from tomopolish.shapes import Float

Array = np.ndarray

FILE_NAME = "logfile.pdf"
PAGE_INCHES = (8.27, 11.69)
FAILURES_ON_A_PAGE = 50
LINE_LENGTH, LINE_HEIGHT = 118, 0.05
"""Length of the verdict's lines, characters, and their height over that of a plot."""
COLOURS = {"doubtful": "#e69f00", "helped": "#00694c", "harmed": "#a84300"}
"""Kind of verdict → colour of its frame, as in the report."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TomogramPage:
    """Content of one page; arrays are in the order of exposure.

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
    outcome: Verdict | None,
) -> None:
    """Write the verdict, plots over all tomograms, the failures, and a page for each of `pages`.

    Raises RunError when the file cannot be written.
    """
    from matplotlib.backends.backend_pdf import PdfPages

    undated = {"Title": "tomopolish", "CreationDate": None, "ModDate": None}
    with (
        atomic_path(path) as temporary,
        PdfPages(temporary, metadata=undated) as pdf,
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a name in a script that the font lacks
        pdf.savefig(summary_page(statistics, failures, outcome))
        reasons = [one_line(f"{name}: {reason}") for name, reason in failures.items()]
        for start in range(0, len(reasons), FAILURES_ON_A_PAGE):
            pdf.savefig(_listed(reasons[start : start + FAILURES_ON_A_PAGE]))
        for page in pages:
            pdf.savefig(_tomogram(page))


def summary_page(
    statistics: Mapping[str, TomogramStatistics], failures: Mapping[str, str], outcome: Verdict | None
) -> Any:
    """Return the first page: the verdict, framed in the colour of its kind, and plots over all tomograms."""
    tomograms = list(statistics.values())
    figure = _page(f"tomopolish: {len(tomograms)} tomograms refined, {len(failures)} failed")
    number = np.arange(1, len(tomograms) + 1)
    per_pair = [s.log_likelihood_gain / max(s.visible_pairs, 1) for s in tomograms]
    shifts = [s.rms_shift_angstrom for s in tomograms]
    positions = [s.rms_position_angstrom for s in tomograms]
    evaluations = [s.evaluations for s in tomograms]
    said, flagged = textwrap.fill(one_line(sentence(outcome)), LINE_LENGTH), flagged_words(tomograms)
    said += "" if flagged is None else f"\n\n{flagged} (scores.star)."
    height = 0.25 + LINE_HEIGHT * (1 + said.count("\n"))
    words, first, second, third = figure.subplots(4, 1, height_ratios=(height, 1, 1, 1))
    _write_verdict(words, said, outcome)
    _plot(first, number, {"": per_pair}, "tomogram", "log-likelihood gained per pair")
    _plot(second, number, {"shifts": shifts, "positions": positions}, "tomogram", "RMS change (Å)")
    _plot(third, number, {"": evaluations}, "tomogram", "evaluations to convergence")
    return figure


def _write_verdict(axes: Any, said: str, outcome: Verdict | None) -> None:
    """Write text in place of a plot, in a frame; long text must not narrow the plots."""
    colour = COLOURS.get("" if outcome is None else outcome.outcome, "0.6")
    axes.axis("off")
    axes.text(
        0.0,
        0.9,
        said,
        va="top",
        fontsize=8,
        in_layout=False,
        parse_math=False,
        bbox={"facecolor": "white", "edgecolor": colour, "linewidth": 2, "pad": 6},
    )


def _listed(reasons: Sequence[str]) -> Any:
    figure = _page("Tomograms that failed and keep their input values")
    for line, reason in enumerate(reasons):
        figure.text(0.08, 0.92 - 0.016 * line, reason[:120], fontsize=7, parse_math=False)
    return figure


def _tomogram(page: TomogramPage) -> Any:
    s = page.statistics
    flagged = "" if s.flagged_particles is None else f" ({s.flagged_particles} flagged)"
    figure = _page(
        f"{one_line(page.name)[:80]}\n{s.particles} particles{flagged}, {s.visible_pairs} visible pairs, "
        f"log-likelihood gained {s.log_likelihood_gain:.1f}, {s.evaluations} evaluations"
    )
    image = np.arange(1, len(page.angles_degrees) + 1)
    shifts = {"x": page.shifts_angstrom[:, 0], "y": page.shifts_angstrom[:, 1]}
    upper, lower = figure.subplots(2, 1)
    _plot(upper, image, shifts, "tilt image, by exposure", "change of shift (Å)")
    _plot(lower, image, {"": page.angles_degrees}, "tilt image, by exposure", "change of angle (°)")
    return figure


def _page(title: str) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=PAGE_INCHES, layout="constrained")
    figure.suptitle(title, fontsize=11, parse_math=False)
    return figure


def _plot(
    axes: Any, x: Array, curves: Mapping[str, Sequence[float] | Array], x_label: str, y_label: str
) -> None:
    """Draw curves with points; the x axis has ticks at integers."""
    from matplotlib.ticker import MaxNLocator

    for label, curve in curves.items():
        axes.plot(x, curve, "o-", markersize=2.5, linewidth=1, label=label or None)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(visible=True, alpha=0.3)
    if any(curves):
        axes.legend()
