"""Options that several commands share: the sets of a project, RELION's version, tilt images to leave out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from tomopolish.cli.fields import settings_of
from tomopolish.cli.grouped import FILE, NUMBER, Section
from tomopolish.settings.tilts import TiltSelection, excluded_tilts

if TYPE_CHECKING:
    from tomopolish.dataset.project import Dataset


def add_sets(section: Section) -> None:
    """Add the options that name the sets of a project, of commands that read them without references."""
    section.value("--i", "STAR", "Optimisation set.", type=FILE)
    section.value("--p", "STAR", "Particle set; overrides that of --i.", type=FILE)
    section.value("--t", "STAR", "Tomogram set; overrides that of --i.", type=FILE)
    section.value("--mot", "STAR", "Trajectory set; overrides that of --i.", type=FILE)


def open_sets(values: Mapping[str, Any], **further: Any) -> Dataset:
    """Open the data set that they name; raises InputError as `open_dataset`, which takes `further`."""
    from tomopolish.dataset.project import open_dataset

    return open_dataset(
        values["i"],
        particles=values["p"],
        tomograms=values["t"],
        trajectories=values["mot"],
        relion_version=version_from(values["relion_version"]),
        **further,
    )


def add_relion_version(section: Section) -> None:
    """Add the option for the version of RELION whose convention for positions in px applies."""
    section.value(
        "--relion_version",
        "VERSION",
        "Version of RELION that will read the results: 4 adds 1 px to positions given in px, 5 does not; "
        "auto: the version of the tomogram set.",
        type=click.Choice(("auto", "4", "5")),
        default="auto",
    )


def version_from(value: str) -> int | None:
    """Return the version from the option's value; None for auto."""
    return None if value == "auto" else int(value)


def add_tilt_options(section: Section) -> None:
    """Add the options that leave out tilt images."""
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
