"""Errors against a known truth, as tables and as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from tomopolish.output.table import Table
from tomopolish.simulate.evaluate import Evaluation, TomogramEvaluation
from tomopolish.simulate.flags import BINS, FlagCounts
from tomopolish.simulate.geometry_errors import GeometryErrors

_COLUMNS = {
    "rms_2d_angstrom": "in the images\n(Å)",
    "rms_shift_angstrom": "shifts\n(Å)",
    "net_rotation_degrees": "net rotation\n(°)",
    "rms_view_degrees": "views\n(°)",
    "rms_angle_degrees": "angles\n(°)",
    "rms_position_angstrom": "positions\n(Å)",
    "rms_trajectory_angstrom": "motion\n(Å)",
}


def evaluation_tables(evaluation: Evaluation) -> list[Table]:
    """Return the errors, one row per tomogram; before → after where the input is known.

    A second table has the good particles where the truth knows of bad ones; where the result has scores,
    further tables say how well they tell good from bad.
    """
    tables = [
        _errors_table(
            "Root mean square errors", [(t.tomogram, t.before, t.after) for t in evaluation.tomograms]
        )
    ]
    good = [(t.tomogram, t.good_before, t.good_after) for t in evaluation.tomograms if t.good_after]
    if good:
        tables.append(_errors_table("Of the good particles, in the good tilt images", good))
    if evaluation.flags is not None:
        counts = {"particles": evaluation.flags.particles, "tilt images": evaluation.flags.tilt_images}
        tables += _flag_tables({name: c for name, c in counts.items() if c is not None})
    return tables


def _errors_table(
    title: str, rows: Sequence[tuple[str, GeometryErrors | None, GeometryErrors | None]]
) -> Table:
    return Table(
        title=title,
        columns=("tomogram", "visible\npairs", *_COLUMNS.values()),
        rows=[
            (name, f"{after.visible_pairs}", *[_cell(before, after, column) for column in _COLUMNS])
            for name, before, after in rows
            if after is not None
        ],
    )


def _flag_tables(counts: Mapping[str, FlagCounts]) -> list[Table]:
    """Return a table of the flags, and one of the calibration of the probabilities."""
    if not counts:
        return []
    flags = Table(
        title="Flags (the second pick of a particle is neither good nor bad)",
        columns=("", "bad", "flagged", "good", "flagged", "picked twice", "flagged"),
        rows=[
            (
                name,
                f"{c.bad}",
                _share(c.bad_flagged, c.bad),
                f"{c.good}",
                _share(c.good_flagged, c.good),
                f"{c.duplicates}",
                _share(c.duplicates_flagged, c.duplicates),
            )
            for name, c in counts.items()
        ],
    )
    calibration = Table(
        title="Good ones, by their probability",
        columns=("probability", *counts),
        rows=[
            (
                f"{i / BINS:.1f} to {(i + 1) / BINS:.1f}",
                *[_share(c.bin_good[i], c.bin_counts[i]) for c in counts.values()],
            )
            for i in range(BINS)
            if any(c.bin_counts[i] for c in counts.values())
        ],
    )
    return [flags, calibration]


def _share(part: int, total: int) -> str:
    return f"{part} of {total} ({100 * part / total:.1f} %)" if total else "–"


def evaluation_json(evaluation: Evaluation) -> str:
    """Return the errors as JSON; an error that cannot be computed is null."""
    content: dict[str, Any] = {
        "visible_pairs": evaluation.visible_pairs,
        "rms_2d_before_angstrom": evaluation.rms_2d_before_angstrom,
        "rms_2d_after_angstrom": evaluation.rms_2d_after_angstrom,
        "tomograms": {tomogram.tomogram: _tomogram_json(tomogram) for tomogram in evaluation.tomograms},
        "failures": dict(evaluation.failures),
    }
    if evaluation.good_rms_2d_after_angstrom is not None:
        content["good_rms_2d_before_angstrom"] = evaluation.good_rms_2d_before_angstrom
        content["good_rms_2d_after_angstrom"] = evaluation.good_rms_2d_after_angstrom
    if evaluation.flags is not None:
        content["flags"] = {
            name: None if counts is None else _flags_json(counts)
            for name, counts in (
                ("particles", evaluation.flags.particles),
                ("tilt_images", evaluation.flags.tilt_images),
            )
        }
    return json.dumps(_without_nan(content), indent=2)


def _tomogram_json(tomogram: TomogramEvaluation) -> dict[str, dict[str, Any] | None]:
    errors = {"before": tomogram.before, "after": tomogram.after}
    if tomogram.good_after is not None:
        errors |= {"good_before": tomogram.good_before, "good_after": tomogram.good_after}
    return {name: None if e is None else dataclasses.asdict(e) for name, e in errors.items()}


def _flags_json(counts: FlagCounts) -> dict[str, Any]:
    return dataclasses.asdict(counts) | {"recall": counts.recall, "false_alarms": counts.false_alarms}


def _cell(before: GeometryErrors | None, after: GeometryErrors, name: str) -> str:
    figure = f"{getattr(after, name):.2f}"
    return figure if before is None else f"{getattr(before, name):.2f} → {figure}"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
