"""Errors against a known truth, as a table and as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

from tomopolish.output.table import Table
from tomopolish.simulate.evaluate import Evaluation
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


def evaluation_table(evaluation: Evaluation) -> Table:
    """Return the errors, one row per tomogram; before → after where the input is known."""
    return Table(
        title="Root mean square errors",
        columns=("tomogram", "visible\npairs", *_COLUMNS.values()),
        rows=[
            (
                tomogram.tomogram,
                f"{tomogram.after.visible_pairs}",
                *[_cell(tomogram.before, tomogram.after, name) for name in _COLUMNS],
            )
            for tomogram in evaluation.tomograms
        ],
    )


def evaluation_json(evaluation: Evaluation) -> str:
    """Return the errors as JSON; an error that cannot be computed is null."""
    content = {
        "visible_pairs": evaluation.visible_pairs,
        "rms_2d_before_angstrom": evaluation.rms_2d_before_angstrom,
        "rms_2d_after_angstrom": evaluation.rms_2d_after_angstrom,
        "tomograms": {
            tomogram.tomogram: {
                "before": None if tomogram.before is None else dataclasses.asdict(tomogram.before),
                "after": dataclasses.asdict(tomogram.after),
            }
            for tomogram in evaluation.tomograms
        },
    }
    return json.dumps(_without_nan(content), indent=2)


def _cell(before: GeometryErrors | None, after: GeometryErrors, name: str) -> str:
    figure = f"{getattr(after, name):.2f}"
    return figure if before is None else f"{getattr(before, name):.2f} → {figure}"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
