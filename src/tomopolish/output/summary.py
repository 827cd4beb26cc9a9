"""Figures of all tomograms: rows for data frames, and ``summary.csv``, the worst tomogram first."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tomopolish.dataset.files import atomic_write
from tomopolish.output.motion import motion_outcome
from tomopolish.output.tuning import kernel_name
from tomopolish.plain_text import one_line
from tomopolish.results.tomogram import Evidence, MotionTrial, TomogramStatistics
from tomopolish.results.verdict import Verdict, verdict_on, worst_first

FILE_NAME = "summary.csv"
FIRST = ("tomogram", "verdict", "failure", "agreement_before", "agreement_after", "gain_per_pair")
"""Columns that stand in front."""

_FORMULAS = ("=", "+", "-", "@")
"""First characters by which spreadsheets take a text for a formula."""

Row = dict[str, Any]

NO_EVIDENCE = Evidence(
    particles=0,
    pairs=0,
    gain=float("nan"),
    standard_error=float("nan"),
    agreement_before=float("nan"),
    agreement_after=float("nan"),
    agreement_error=float("nan"),
)
"""Figures of a tomogram of which no pair was held out."""


def tomogram_rows(
    statistics: Mapping[str, TomogramStatistics], failures: Mapping[str, str], verdict: Verdict | None
) -> list[Row]:
    """Return a row of figures for each tomogram; of one that failed, only the reason, in ``failure``.

    ``gain_per_pair`` is the rise of the log-likelihood per held-out pair.
    """
    rows = [
        {"tomogram": name, **_figures(figures), "verdict": verdict_on(verdict, name), "failure": ""}
        for name, figures in statistics.items()
    ]
    return rows + [{"tomogram": name, "verdict": "", "failure": reason} for name, reason in failures.items()]


def _figures(statistics: TomogramStatistics) -> Row:
    evidence = statistics.evidence or NO_EVIDENCE
    pairs = max(evidence.pairs, 1)
    return {
        "particles": statistics.particles,
        "visible_pairs": statistics.visible_pairs,
        "left_out_tilts": statistics.left_out_tilts,
        "flagged_particles": statistics.flagged_particles,
        "flagged_tilts": statistics.flagged_tilts,
        "log_likelihood_gain": statistics.log_likelihood_gain,
        "rms_shift_angstrom": statistics.rms_shift_angstrom,
        "rms_angle_degrees": statistics.rms_angle_degrees,
        "rms_position_angstrom": statistics.rms_position_angstrom,
        "intensity_scale": statistics.intensity_scale,
        "evaluations": statistics.evaluations,
        "time_seconds": sum(statistics.seconds_by_stage.values()),
        "held_out_pairs": evidence.pairs,
        "gain_per_pair": evidence.gain_per_pair,
        "gain_per_pair_error": evidence.standard_error / pairs,
        "agreement_before": evidence.agreement_before,
        "agreement_after": evidence.agreement_after,
        **({} if statistics.motion is None else _motion(statistics.motion)),
    }


def _motion(trial: MotionTrial) -> Row:
    """Return what became of motion that was tried; scales as `--s_vel` and `--s_div` have them."""
    evidence = trial.evidence or NO_EVIDENCE
    found = bool(trial.velocity_scale)
    return {
        "motion": motion_outcome(trial),
        "motion_velocity_scale": trial.velocity_scale if found else None,
        "motion_distance_scale": trial.distance_scale if found else None,
        "motion_kernel": kernel_name(trial.squared_exponential) if found else None,
        "motion_gain": evidence.gain,
        "motion_gain_error": evidence.standard_error,
    }


def write_summary(
    path: Path,
    statistics: Mapping[str, TomogramStatistics],
    failures: Mapping[str, str],
    verdict: Verdict | None,
) -> None:
    """Write the rows of all tomograms as CSV, those that failed and the worst first; unknown cells are empty.

    A name that a spreadsheet would take for a formula has an apostrophe in front. Raises RunError when the
    file cannot be written.
    """
    ranked = {name: statistics[name] for name in worst_first(statistics, verdict)}
    rows = sorted(tomogram_rows(ranked, failures, verdict), key=lambda row: row["failure"] == "")
    known = dict.fromkeys(name for row in rows for name in row)
    names = [*FIRST, *(name for name in known if name not in FIRST)]
    with atomic_write(path) as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(names)
        for row in rows:
            table.writerow([_cell(row.get(name)) for name in names])


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, str):
        text = one_line(value)
        return f"'{text}" if text.startswith(_FORMULAS) else text
    return f"{value:.6g}" if isinstance(value, float) else str(value)
