"""Tables for the terminal, as plain text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tomopolish.plain_text import one_line
from tomopolish.results.tomogram import MAP_THRESHOLDS, MapComparison, TomogramStatistics
from tomopolish.results.verdict import Verdict


@dataclass(frozen=True, kw_only=True)
class Table:
    """A title, column headings and rows of cells.

    The first column is text, the others are numbers; a heading may have several lines.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def plain(self) -> str:
        """Return the table as aligned text without control characters."""
        headings = [column.split("\n") for column in self.columns]
        height = max(map(len, headings))
        padded = [[""] * (height - len(lines)) + lines for lines in headings]
        header = list(zip(*padded, strict=True))
        rows = [[one_line(cell) for cell in row] for row in self.rows]
        widths = [max(map(len, cells)) for cells in zip(*header, *rows, strict=True)]
        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        lines = [
            *[_aligned(cells, widths) for cells in header],
            rule,
            *[_aligned(cells, widths) for cells in rows],
        ]
        return "\n".join([self.title, *lines])


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *figures = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *[cell.rjust(width) for cell, width in figures]]).rstrip()


def change_table(statistics: Mapping[str, TomogramStatistics]) -> Table:
    """Return the changes by the refinement, one row per tomogram.

    Images left out, and flagged particles and images, are counted where there are any.
    """
    any_left_out = any(s.left_out_tilts for s in statistics.values())
    any_flagged = any(s.flagged_particles or s.flagged_tilts for s in statistics.values())
    return Table(
        title="Refined tomograms (changes are root mean squares)",
        columns=(
            "tomogram",
            "particles\n(flagged)" if any_flagged else "particles",
            *(["images\nflagged"] if any_flagged else []),
            *(["images\nleft out"] if any_left_out else []),
            "visible\npairs",
            "log-likelihood\ngained",
            "shifts\n(Å)",
            "angles\n(°)",
            "positions\n(Å)",
        ),
        rows=[
            (
                name,
                f"{s.particles} ({s.flagged_particles or 0})" if any_flagged else f"{s.particles}",
                *([f"{s.flagged_tilts or 0}"] if any_flagged else []),
                *([f"{s.left_out_tilts}"] if any_left_out else []),
                f"{s.visible_pairs}",
                f"{s.log_likelihood_gain:.1f}",
                f"{s.rms_shift_angstrom:.2f}",
                f"{s.rms_angle_degrees:.3f}",
                f"{s.rms_position_angstrom:.2f}",
            )
            for name, s in statistics.items()
        ],
    )


def flagged_words(statistics: Iterable[TomogramStatistics]) -> str | None:
    """Say how many particles and tilt images are flagged; None where no probabilities were estimated."""
    known = [s for s in statistics if s.flagged_particles is not None]
    if not known:
        return None
    particles, tilts = sum(s.flagged_particles or 0 for s in known), sum(s.flagged_tilts or 0 for s in known)
    if not particles and not tilts:
        return "No particle and no tilt image is flagged"
    of_all = f"{particles} of {sum(s.particles for s in known)} particles"
    verb = "is" if (particles, tilts) == (0, 1) else "are"
    return f"{of_all} and {tilts} tilt image{'' if tilts == 1 else 's'} {verb} flagged"


def evidence_table(statistics: Mapping[str, TomogramStatistics], verdict: Verdict) -> Table:
    """Return the gain of the held-out pairs, one row per tomogram that has any."""
    return Table(
        title="Particle images held out of a first fit, against the other half's map",
        columns=("tomogram", "held\nout", "log-likelihood\ngained by each", "±", "agreement\n(%)", "verdict"),
        rows=[
            (
                name,
                f"{e.pairs}",
                f"{e.gain_per_pair:.3g}",
                f"{e.standard_error_per_pair:.2g}",
                f"{100 * e.agreement_before:.0f} → {100 * e.agreement_after:.0f}",
                verdict.of_tomogram(name),
            )
            for name, e in ((name, s.evidence) for name, s in statistics.items())
            if e is not None
        ],
    )


def maps_table(maps: Mapping[str, MapComparison]) -> Table:
    """Return the resolution of half maps before and after, one row per structure."""
    return Table(
        title="Half maps: resolution where their FSC falls below a threshold (Å)",
        columns=("structure", *[f"FSC {threshold:g}" for threshold in MAP_THRESHOLDS]),
        rows=[
            (
                name,
                *[
                    f"{m.resolution_before_angstrom[t]:.2f} → {m.resolution_after_angstrom[t]:.2f}"
                    for t in MAP_THRESHOLDS
                ],
            )
            for name, m in maps.items()
        ],
    )


def time_table(statistics: Mapping[str, TomogramStatistics]) -> Table:
    """Return the time of each stage in seconds, one row per tomogram; a stage that did not run is empty."""
    stages = list(dict.fromkeys(stage for s in statistics.values() for stage in s.seconds_by_stage))
    return Table(
        title="Time (s)",
        columns=("tomogram", *stages, "all"),
        rows=[
            (
                name,
                *[f"{s.seconds_by_stage[k]:.1f}" if k in s.seconds_by_stage else "" for k in stages],
                f"{sum(s.seconds_by_stage.values()):.1f}",
            )
            for name, s in statistics.items()
        ],
    )


def times_of_all(statistics: Mapping[str, TomogramStatistics]) -> Table:
    """Return the time of each stage in seconds, summed over all tomograms."""
    stages = dict.fromkeys(stage for s in statistics.values() for stage in s.seconds_by_stage)
    sums = [sum(s.seconds_by_stage.get(stage, 0.0) for s in statistics.values()) for stage in stages]
    return Table(
        title="Time (s)",
        columns=("tomograms", *stages, "all"),
        rows=[(f"all {len(statistics)}", *[f"{seconds:.1f}" for seconds in [*sums, sum(sums)]])],
    )
