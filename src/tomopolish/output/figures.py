"""Figures of results for notebooks and papers, drawn by matplotlib from what a report shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tomopolish.output.drawing import AFTER, BEFORE, GREY, THIRD, count_in_whole_numbers, new_figure
from tomopolish.output.report.data import ScoreHistogram, TomogramDetails
from tomopolish.output.summary import NO_EVIDENCE
from tomopolish.results.tomogram import BinnedAgreement, MapComparison, TomogramStatistics
from tomopolish.results.verdict import Verdict, worst_first

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


AGREEMENT = "agreement (fraction)"
RESOLUTIONS_ANGSTROM = (80, 40, 20, 15, 12, 10, 8, 7, 6, 5, 4, 3.5, 3, 2.5, 2)


def tomograms_figure(statistics: Mapping[str, TomogramStatistics], verdict: Verdict | None) -> Figure:
    """Return the agreement of held-out pairs before and after, tomogram by tomogram, the worst first."""
    names = worst_first(statistics, verdict)
    evidence = [statistics[name].evidence or NO_EVIDENCE for name in names]
    place = np.arange(1, len(names) + 1)
    errors = [e.agreement_error for e in evidence]
    figure, axes = _new(max(4.0, min(12.0, 0.3 * len(names) + 2)))
    before = [e.agreement_before for e in evidence]
    after = [e.agreement_after for e in evidence]
    axes.errorbar(place, before, errors, fmt="o", mfc="none", color=BEFORE, label="before")
    axes.errorbar(place, after, errors, fmt="o", color=AFTER, label="after ± standard deviation by noise")
    if len(names) <= 30:
        axes.set_xticks(place, names, rotation=45, ha="right", parse_math=False)
    axes.set(xlabel="" if len(names) <= 30 else "tomogram, the worst first", ylabel=AGREEMENT)
    axes.legend()
    return figure


def resolution_figure(curves: Sequence[BinnedAgreement]) -> Figure:
    """Return the agreement of held-out pairs by resolution, before and after; of all curves together."""
    figure, axes = _new()
    if curves:
        length = min(len(curve.centres) for curve in curves)
        total = BinnedAgreement(
            centres=np.mean([curve.centres[:length] for curve in curves], axis=0),
            log_likelihood=np.sum([curve.log_likelihood[:length] for curve in curves], axis=0),
            power=np.sum([curve.power[:length] for curve in curves], axis=0),
        )
        _curve(axes, total)
        _resolution_axis(axes, float(total.centres[-1]))
    axes.set_ylabel(AGREEMENT)
    return figure


def tilts_figure(details: TomogramDetails) -> Figure:
    """Return agreement, and changes of shift and angle with standard errors, of each tilt image."""
    figure, panels = _new(8.0, 8.0, rows=3)
    tilts = details.tilts
    x = tilts.exposure
    panels[0].plot(x, tilts.agreement[:, 0], "o:", mfc="none", color=BEFORE, label="before")
    panels[0].plot(x, tilts.agreement[:, 1], "o-", color=AFTER, label="after")
    panels[0].set_ylabel(AGREEMENT)
    moved = tilts.shifts_after_angstrom - tilts.shifts_before_angstrom
    for axis, colour in enumerate((AFTER, BEFORE)):
        panels[1].errorbar(
            x,
            moved[:, axis],
            np.nan_to_num(tilts.shift_errors_angstrom[:, axis]),
            fmt="o-",
            color=colour,
            label="xy"[axis],
        )
    panels[1].set_ylabel("change of shift (Å)")
    for axis, colour in enumerate((AFTER, BEFORE, THIRD)):
        panels[2].errorbar(
            x,
            tilts.turned_degrees[:, axis],
            np.nan_to_num(tilts.angle_errors_degrees[:, axis]),
            fmt="o-",
            color=colour,
            label="xyz"[axis],
        )
    panels[2].set(ylabel="rotation (°)", xlabel="exposure (e⁻/Å²)")
    for panel in panels:
        panel.legend()
    panels[0].set_title(details.name, parse_math=False)
    return figure


def scores_figure(scores: ScoreHistogram) -> Figure:
    """Return the histogram of particles by agreement, with the threshold of a probability of 0.5."""
    figure, axes = _new()
    middle, width = (scores.edges[1:] + scores.edges[:-1]) / 2, np.diff(scores.edges)
    axes.bar(middle, scores.good, width, color=AFTER, label="not flagged")
    axes.bar(middle, scores.flagged, width, bottom=scores.good, color=BEFORE, hatch="//", label="flagged")
    if np.isfinite(scores.threshold):
        axes.axvline(scores.threshold, color=GREY, linestyle="--", label="probability 0.5")
    count_in_whole_numbers(axes.yaxis)
    axes.set(xlabel=AGREEMENT, ylabel="number of particles")
    axes.legend()
    return figure


def image_figure(details: TomogramDetails) -> Figure:
    """Return the least tilted image with its particles, coloured by agreement; flagged ones are crosses."""
    figure, axes = _new(6.5, 6.0)
    particles = details.particles
    width, height = particles.image_size_px
    axes.set(xlim=(0, width), ylim=(0, height), xlabel="x (px)", ylabel="y (px)", aspect="equal")
    axes.set_title(details.name, parse_math=False)
    if details.picture is None:
        return figure
    place, picture = details.picture
    rows, columns = (size * picture.bin_px for size in picture.grey.shape)
    axes.imshow(picture.grey, cmap="gray", origin="lower", extent=(-0.5, columns - 0.5, -0.5, rows - 0.5))
    at = particles.image_positions_px[place]
    for chosen, marker, label in ((~particles.flagged, "o", ""), (particles.flagged, "X", "flagged")):
        shown = axes.scatter(
            *at[chosen].T,
            c=particles.agreement[chosen],
            marker=marker,
            vmin=0,
            vmax=1,
            edgecolors="white",
            label=label or "not flagged",
        )
    figure.colorbar(shown, label=AGREEMENT)
    axes.legend(loc="upper right")
    return figure


def depth_figure(details: TomogramDetails) -> Figure:
    """Return the agreement of fitted pairs by depth, which falls to both ends where the hand is wrong."""
    figure, axes = _new()
    if details.by_depth is not None:
        _curve(axes, details.by_depth)
    axes.set(xlabel="depth at which the image shows the particle (Å)", ylabel=AGREEMENT)
    axes.set_title(details.name, parse_math=False)
    return figure


def maps_figure(maps: Mapping[str, MapComparison]) -> Figure:
    """Return the FSC of half maps before and after, a panel for each structure."""
    figure, panels = _new(6.0, 3.5 * len(maps), rows=len(maps))
    for axes, (name, comparison) in zip(np.atleast_1d(panels), maps.items(), strict=True):
        frequency = comparison.frequency_per_angstrom
        axes.plot(frequency, comparison.before, ":", color=BEFORE, label="before")
        axes.plot(frequency, comparison.after, color=AFTER, label="after")
        for level in comparison.resolution_after_angstrom:
            axes.axhline(level, color=GREY, linestyle=":", linewidth=1)
        _resolution_axis(axes, float(frequency[-1]))
        axes.set(ylabel="FSC", ylim=(-0.1, 1.05))
        axes.set_title(name, parse_math=False)
        axes.legend()
    return figure


def _new(width: float = 6.5, height: float = 4.0, rows: int = 1) -> tuple[Figure, Any]:
    """Return a figure that no window shows, and its axes; of several, an array, one below the other."""
    figure = new_figure(width, height)
    axes = figure.subplots(rows, 1)
    for panel in np.atleast_1d(axes):
        panel.grid(visible=True, alpha=0.3)
    return figure, axes


def _curve(axes: Axes, curve: BinnedAgreement) -> None:
    before, after = curve.agreement.T
    axes.errorbar(curve.centres, before, curve.error, fmt="o:", mfc="none", color=BEFORE, label="before")
    label = "after ± standard deviation by noise"
    axes.errorbar(curve.centres, after, curve.error, fmt="o-", color=AFTER, label=label)
    axes.legend()


def _resolution_axis(axes: Axes, highest: float) -> None:
    ticks = [d for d in RESOLUTIONS_ANGSTROM if 1 / d <= highest]
    axes.set_xticks([1 / d for d in ticks], [f"{d:g}" for d in ticks])
    axes.set(xlabel="resolution (Å)", xlim=(0, 1.02 * highest))
