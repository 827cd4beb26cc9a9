"""`logfile.pdf`, which RELION's GUI shows for a finished job: verdict, next steps, changes of tilt images."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tomopolish.dataset.files import atomic_path
from tomopolish.output.drawing import VERDICTS, count_in_whole_numbers, new_figure
from tomopolish.output.motion import motion_sentence, motion_words, tried
from tomopolish.output.next_steps import NextStep
from tomopolish.output.summary import FILE_NAME as SUMMARY_NAME
from tomopolish.output.summary import NO_EVIDENCE
from tomopolish.output.table import Table
from tomopolish.plain_text import counted, one_line
from tomopolish.results.tomogram import TomogramStatistics
from tomopolish.results.verdict import Verdict, sentence, verdict_on, worst_first
from tomopolish.shapes import Array, Float

FILE_NAME = "logfile.pdf"
PAGE_INCHES = (8.27, 11.69)
FAILURES_ON_A_PAGE = 50
LINE_LENGTH, TABLE_LENGTH = 108, 96
"""Length of lines of text, and of those of the table, characters."""
MOST_WARNINGS, MOST_TRIALS, MOST_ROWS = 8, 8, 25
"""Maximum number of warnings, of trials of motion and of tomograms on the first page; the report has all."""
HEADING_LINES = 4
"""Lines of the table's headings, and of the number of further tomograms."""
LEFT, TOP, LINE = 0.07, 0.93, 0.0135
"""Place of the first line, and height of a line, as fractions of the page."""
MARGINS = {"left": 0.13, "right": 0.96, "bottom": 0.05, "top": 0.92, "hspace": 0.2}
"""Edges of the plots as fractions of the page, which leave room for all labels, and the space between two as
a fraction of their height."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RunPages:
    """Content of the pages on all tomograms.

    Attributes
    ----------
    warnings
        All warnings of the run.
    steps
        What a user should do next.
    report
        Path of report.html; empty where there is none.
    """

    statistics: Mapping[str, TomogramStatistics]
    failures: Mapping[str, str]
    outcome: Verdict | None
    warnings: Sequence[str] = ()
    steps: Sequence[NextStep] = ()
    report: str = ""


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


def write_logfile(path: Path, run: RunPages, pages: Iterable[TomogramPage]) -> None:
    """Write the first page, plots over all tomograms, the failures, and a page for each of `pages`.

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
        pdf.savefig(first_page(run))
        if len(run.statistics) > 1:
            pdf.savefig(_over_tomograms(run.statistics))
        reasons = [one_line(f"{name}: {reason}") for name, reason in run.failures.items()]
        for start in range(0, len(reasons), FAILURES_ON_A_PAGE):
            pdf.savefig(_listed(reasons[start : start + FAILURES_ON_A_PAGE]))
        for page in pages:
            if len(page.angles_degrees) > 1:
                pdf.savefig(_tomogram(page))


def first_page(run: RunPages) -> Any:
    """Return the page with the verdict, what to do next, the warnings, and a table, the worst first."""
    figure = _page(
        f"tomopolish: {counted(len(run.statistics), 'tomogram')} refined, {len(run.failures)} failed"
    )
    column = _Column(figure)
    column.verdict(sentence(run.outcome), run.outcome)
    column.heading("What next")
    for step in run.steps:
        column.lines(step.sentence, "– ")
        for command in step.commands:
            column.lines(command, "   ", mono=True)
    if run.report:
        column.lines(f"Figures and details are in {run.report}.", "– ")
    column.heading(f"Warnings ({len(run.warnings)})" if run.warnings else "Warnings: none")
    for warning in run.warnings[:MOST_WARNINGS]:
        column.lines(warning, "– ")
    if len(run.warnings) > MOST_WARNINGS:
        column.lines(f"… and {len(run.warnings) - MOST_WARNINGS} more in the report", "– ")
    if trials := tried(run.statistics):
        column.heading(motion_sentence(trials))
        for name in list(trials)[:MOST_TRIALS]:
            column.lines(f"{shortened(name)}: {motion_words(trials[name])}", "– ")
        if len(trials) > MOST_TRIALS:
            column.lines(f"… and {len(trials) - MOST_TRIALS} more in {SUMMARY_NAME}", "– ")
    column.heading("Tomograms, the worst first")
    column.table(_rows(run, min(MOST_ROWS, column.room - HEADING_LINES)))
    return figure


class _Column:
    """Text of a page, from above; what no longer fits is left out."""

    def __init__(self, figure: Any) -> None:
        self._figure = figure
        self._height = TOP

    @property
    def room(self) -> int:
        """Return the number of lines that still fit."""
        return int(self._height / LINE) - 1

    def verdict(self, text: str, outcome: Verdict | None) -> None:
        """Write the verdict, framed in the colour of its kind."""
        colour = VERDICTS.get("" if outcome is None else outcome.outcome, "0.6")
        filled = textwrap.fill(one_line(text), LINE_LENGTH)
        frame = {"facecolor": "white", "edgecolor": colour, "linewidth": 2, "pad": 6}
        self._figure.text(LEFT, self._height, filled, va="top", fontsize=8.5, parse_math=False, bbox=frame)
        self._height -= LINE * (2 + filled.count("\n"))

    def heading(self, text: str) -> None:
        """Write a heading."""
        self._height -= LINE
        self._write(text, fontweight="bold")

    def lines(self, text: str, mark: str, *, mono: bool = False) -> None:
        """Write a paragraph, its first line after a mark."""
        indent = " " * len(mark)
        family = {"family": "monospace", "fontsize": 7.5} if mono else {}
        width = TABLE_LENGTH if mono else LINE_LENGTH
        for line in textwrap.wrap(one_line(text), width, initial_indent=mark, subsequent_indent=indent):
            self._write(line, **family)

    def table(self, table: Table) -> None:
        """Write a table in even columns."""
        for line in table.plain().split("\n")[1:]:
            self._write(line[:TABLE_LENGTH], family="monospace", fontsize=7.5)

    def _write(self, text: str, **style: Any) -> None:
        if self._height > LINE:
            style = {"fontsize": 8.5, **style}
            self._figure.text(LEFT, self._height, text, va="top", parse_math=False, **style)
        self._height -= LINE


def _rows(run: RunPages, most: int) -> Table:
    """Return the tomograms on the first page, at most so many, those that failed in front."""
    names = worst_first(run.statistics, run.outcome)
    rows = [(shortened(name), "failed", "", "", "", "", "") for name in run.failures]
    for name in names:
        s = run.statistics[name]
        e = s.evidence
        rows.append(
            (
                shortened(name),
                verdict_on(run.outcome, name),
                "–" if e is None else f"{100 * e.agreement_before:.0f} → {100 * e.agreement_after:.0f}",
                "–" if e is None else f"{e.gain_per_pair:.3g} ± {e.standard_error_per_pair:.2g}",
                "–" if s.flagged_particles is None else f"{s.flagged_particles} of {s.particles}",
                f"{s.rms_shift_angstrom:.2f}",
                f"{s.rms_position_angstrom:.2f}",
            )
        )
    more = len(rows) - most
    rows = rows[:most] + ([(f"… {more} more", "", "", "", "", "", "")] if more > 0 else [])
    return Table(
        title="",
        columns=(
            "tomogram",
            "verdict",
            "agreement\n(%)",
            "gain of\nheld-out pairs",
            "flagged\nparticles",
            "shifts\n(Å)",
            "positions\n(Å)",
        ),
        rows=rows,
    )


def shortened(name: str) -> str:
    """Return a name of at most 24 characters."""
    return name if len(name) <= 24 else f"{name[:11]}…{name[-12:]}"


def _over_tomograms(statistics: Mapping[str, TomogramStatistics]) -> Any:
    """Return plots over all tomograms, in the order of the run."""
    tomograms = list(statistics.values())
    figure = _page("All tomograms, in the order of the run")
    number = np.arange(1, len(tomograms) + 1)
    per_pair = [s.gain_per_visible_pair for s in tomograms]
    evidence = [s.evidence or NO_EVIDENCE for s in tomograms]
    agreement = {
        "before": [e.agreement_before for e in evidence],
        "after": [e.agreement_after for e in evidence],
    }
    changes = {
        "shifts": [s.rms_shift_angstrom for s in tomograms],
        "positions": [s.rms_position_angstrom for s in tomograms],
    }
    first, second, third = figure.subplots(3, 1)
    if any(s.evidence is not None for s in tomograms):
        _plot(first, number, agreement, "tomogram", "agreement of held-out pairs")
    else:
        _plot(first, number, {"": [s.evaluations for s in tomograms]}, "tomogram", "evaluations")
    _plot(second, number, {"": per_pair}, "tomogram", "log-likelihood gained per pair")
    _plot(third, number, changes, "tomogram", "RMS change (Å)")
    return figure


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
    figure = new_figure(*PAGE_INCHES, MARGINS)
    figure.suptitle(title, fontsize=11, parse_math=False)
    return figure


def _plot(
    axes: Any, x: Array, curves: Mapping[str, Sequence[float] | Array], x_label: str, y_label: str
) -> None:
    """Draw curves with points; the x axis has ticks at integers."""
    for label, curve in curves.items():
        axes.plot(x, curve, "o-", markersize=2.5, linewidth=1, label=label or None)
    count_in_whole_numbers(axes.xaxis)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(visible=True, alpha=0.3)
    if any(curves):
        axes.legend()
