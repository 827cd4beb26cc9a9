"""Options that leave out tilt images, of every command that reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tomopolish.cli.grouped import NUMBER, Section
from tomopolish.settings.tilts import TiltSelection, excluded_tilts


def add_tilt_options(section: Section) -> None:
    """Add the options to a section of a command's help."""
    section.value(
        "--exclude_tilts", "TOMOGRAM:N,N-N",
        "Tilt images to leave out, by their rows from 1, as TS_01:1,2,38-41; repeat it for other tomograms.",
        type=str, multiple=True,
    )  # fmt: skip
    section.value(
        "--max_tilt_angle", "DEGREES", "Largest tilt to either side that is used; -1: any.",
        type=NUMBER, default=-1.0,
    )  # fmt: skip
    section.value(
        "--max_dose", "DOSE", "Largest exposure before an image that is used, e⁻/Å²; -1: any.",
        type=NUMBER, default=-1.0,
    )  # fmt: skip


def tilt_selection(values: Mapping[str, Any]) -> TiltSelection:
    """Turn the parsed options into settings; raises InputError where one cannot be read."""
    angle, dose = values["max_tilt_angle"], values["max_dose"]
    return TiltSelection(
        excluded=excluded_tilts(values["exclude_tilts"]),
        max_tilt_angle_degrees=None if angle < 0 else angle,
        max_dose=None if dose < 0 else dose,
    )
