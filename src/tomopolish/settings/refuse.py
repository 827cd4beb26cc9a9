"""Functions that refuse invalid values, and values too large for any machine, in one sentence.

Sentences name options; where settings are made in Python they name arguments instead (`settings.wording`).
"""

from __future__ import annotations

from pathlib import Path

from tomopolish.errors import InputError
from tomopolish.quoting import is_possible_value
from tomopolish.settings.wording import as_called


def refuse(condition: bool, sentence: str) -> None:
    """Raise InputError with the sentence where the condition holds."""
    if condition:
        raise InputError(as_called(sentence))


def refuse_above(option: str, value: float | None, most: float, reason: str) -> None:
    """Raise InputError where an option's value exceeds `most`; None never does.

    `reason` completes the sentence with the effect of larger values, or with usual values.
    """
    if value is not None:
        refuse(value > most, f"{option} {value:g} is above {most:g}, the largest value allowed: {reason}")


def refuse_threads(threads: int) -> None:
    """Raise InputError for a number of threads below 1, or above that of any machine's cores."""
    refuse(threads < 1, f"--j {threads} is not a valid number of threads: give 1 or more")
    refuse_above("--j", threads, 4096, "give the number of this machine's cores")


def refuse_unwritable(option: str, path: Path | None) -> None:
    """Raise InputError for a path that the new sets would name, but that no STAR file can hold."""
    refuse(
        path is not None and not is_possible_value(str(path)),
        f"{option} {str(path)!r}: the new sets would name this path, which no STAR file can hold "
        "(it has a line end, or both kinds of quotes before blanks): rename it",
    )
