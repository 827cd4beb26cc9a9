"""How the program was called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """How the program was called: the command line, and whether tracebacks of failures are shown."""

    command: tuple[str, ...] = ("tomopolish",)
    debug: bool = False


def path_after(arguments: Sequence[str], *options: str) -> Path | None:
    """Return the path that follows an option, by one of its names, in a command line; None without it.

    The command line need not be valid.
    """
    found = None
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=False):
        option, equals, value = argument.partition("=")
        named = value if equals else following
        if option in options and named.strip():
            found = Path(named)
    return found
