"""`--relion_version`: the version of RELION whose convention for positions in px applies."""

from __future__ import annotations

import click

from tomopolish.cli.grouped import Section


def relion_version_option(section: Section) -> None:
    """Add the option to a command."""
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
