"""`--relion_version`: which RELION's reading of positions in px is meant."""

from __future__ import annotations

import click

from tomopolish.cli.grouped import Section


def relion_version_option(section: Section) -> None:
    """Add the option to a command."""
    section.value(
        "--relion_version",
        "VERSION",
        "RELION that is to read the results: 4 adds 1 px to positions that are stated in px, 5 does not; "
        "auto: that of the tomogram set.",
        type=click.Choice(("auto", "4", "5")),
        default="auto",
    )


def version_from(value: str) -> int | None:
    """Return the version that the option names; None for auto."""
    return None if value == "auto" else int(value)
