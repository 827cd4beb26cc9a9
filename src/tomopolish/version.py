"""The version of the program, from its release tag."""

from __future__ import annotations

import functools


@functools.cache
def program_version() -> str:
    """Return the version; "0+unknown" where the program runs from a source tree that was never installed."""
    from importlib import metadata  # noqa: PLC0415  an eighth of the time that `--help` would take

    try:
        return metadata.version("tomopolish")
    except metadata.PackageNotFoundError:
        return "0+unknown"
