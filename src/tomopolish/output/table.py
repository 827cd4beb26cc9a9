"""Tables for the terminal, as plain text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tomopolish.results import TomogramStatistics


@dataclass(frozen=True, kw_only=True)
class Table:
    """A heading, column names and rows of cells; the first column is text, the others are figures."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def plain(self) -> str:
        """Return the table as aligned text without control characters."""
        lines = [list(self.columns), *[list(row) for row in self.rows]]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        text = [
            "  ".join(
                cell.ljust(width) if column == 0 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        return "\n".join([self.title, text[0], rule, *text[1:]])


def change_table(statistics: Mapping[str, TomogramStatistics]) -> Table:
    """Return what the refinement changed, one row per tomogram."""
    return Table(
        title="Refined tomograms (changes are root mean squares)",
        columns=(
            "tomogram",
            "particles",
            "visible pairs",
            "log-likelihood gained",
            "shifts (Å)",
            "angles (°)",
            "positions (Å)",
            "evaluations",
        ),
        rows=[
            (
                name,
                f"{s.particles}",
                f"{s.visible_pairs}",
                f"{s.log_likelihood_gain:.1f}",
                f"{s.rms_shift_angstrom:.2f}",
                f"{s.rms_angle_degrees:.3f}",
                f"{s.rms_position_angstrom:.2f}",
                f"{s.evaluations}",
            )
            for name, s in statistics.items()
        ],
    )


def time_table(statistics: Mapping[str, TomogramStatistics]) -> Table:
    """Return the seconds each stage took, one row per tomogram; a stage that did not run is empty."""
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
