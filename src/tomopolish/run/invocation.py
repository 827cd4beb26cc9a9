"""How the program was called."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """How the program was called.

    Attributes
    ----------
    command
        The command line, for the notes a run leaves.
    debug
        Whether failures show their tracebacks.
    """

    command: tuple[str, ...] = ("tomopolish",)
    debug: bool = False
