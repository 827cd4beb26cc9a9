"""How the program was called."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """The command line, for the notes a run leaves, and whether failures show their tracebacks."""

    command: tuple[str, ...] = ("tomopolish",)
    debug: bool = False
