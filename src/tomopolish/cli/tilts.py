"""Options that leave out tilt images, shared by all commands that read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tomopolish.cli.fields import settings_of
from tomopolish.cli.grouped import NUMBER, Section
from tomopolish.settings.tilts import TiltSelection, excluded_tilts


def add_tilt_options(section: Section) -> None:
    """Add these options to a section of a command's help."""
    section.value(
        "--exclude_tilts",
        "TOMOGRAM:N,N-N",
        "Rows (from 1) of tilt images to leave out, such as TS_01:1,2,38-41; repeatable.",
        type=str,
        multiple=True,
    )
    text = "Largest tilt angle to either side that is used; -1: all."
    section.value("--max_tilt_angle", "DEGREES", text, type=NUMBER, default=-1.0)
    text = "Largest dose before an image that is used, e⁻/Å²; -1: all."
    section.value("--max_dose", "DOSE", text, type=NUMBER, default=-1.0)


def tilt_selection(values: Mapping[str, Any]) -> TiltSelection:
    """Return the parsed options as settings; raises InputError for an invalid value."""
    return settings_of(TiltSelection, values, excluded=excluded_tilts(values["exclude_tilts"]))
