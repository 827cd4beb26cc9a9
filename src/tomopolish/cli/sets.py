"""Options that name the sets of one project, of commands that read them without references."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tomopolish.cli.grouped import FILE, Section
from tomopolish.cli.relion_version import version_from

if TYPE_CHECKING:
    from tomopolish.dataset.project import Dataset


def add_sets(section: Section) -> None:
    """Add the options to a section of a command's help."""
    section.value("--i", "STAR", "Optimisation set.", type=FILE)
    section.value("--p", "STAR", "Particle set; overrides that of --i.", type=FILE)
    section.value("--t", "STAR", "Tomogram set; overrides that of --i.", type=FILE)
    section.value("--mot", "STAR", "Trajectory set; overrides that of --i.", type=FILE)


def open_sets(values: Mapping[str, Any], **further: Any) -> Dataset:
    """Open the data set that the options name; raises InputError as `open_dataset`, which takes `further`."""
    from tomopolish.dataset.project import open_dataset

    return open_dataset(
        values["i"],
        particles=values["p"],
        tomograms=values["t"],
        trajectories=values["mot"],
        relion_version=version_from(values["relion_version"]),
        **further,
    )
