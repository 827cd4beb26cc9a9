"""Refusing values that cannot work, or that no machine could carry out, in one sentence."""

from __future__ import annotations

from tomopolish.errors import InputError


def refuse(condition: bool, sentence: str) -> None:
    """Raise InputError with the sentence where the condition holds."""
    if condition:
        raise InputError(sentence)


def refuse_above(option: str, value: float | None, most: float, reason: str) -> None:
    """Raise InputError where an option's value exceeds `most`; None is no value.

    `reason` completes the sentence: what a larger value would do, or what is usual.
    """
    if value is not None and value > most:
        raise InputError(f"{option} {value:g} is above {most:g}, the largest value allowed: {reason}")
