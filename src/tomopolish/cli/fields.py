"""Options that set fields of settings: the field states type and default, `wording.ARGUMENTS` the option."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields
from typing import Any, TypeVar

from tomopolish.errors import InputError
from tomopolish.settings.wording import ARGUMENTS, OFF, options_that_set

S = TypeVar("S")


def type_and_default(option: str, settings: Sequence[type[Any]]) -> tuple[str, Any]:
    """Return the name of the type of an option's value, and its default as a command line has it.

    The type is "" and the default None for an option that sets no field of `settings`.
    """
    argument, _, place = ARGUMENTS.get(option, "").partition("=")[0].rstrip("]").partition("[")
    field = next((f for kind in settings for f in fields(kind) if f.name == argument), None)
    if field is None:
        return "", None
    default: Any = None if field.default is MISSING else field.default
    if place:
        return "int", default[int(place)]
    kind = str(field.type).removesuffix(" | None")
    if default is not None or option not in OFF:
        return kind, default
    off = OFF[option]
    return ("str", "auto") if off == "auto" else (kind, int(off) if kind == "int" else float(off))


def settings_of(settings: type[S], values: Mapping[str, Any], **stated: Any) -> S:
    """Return settings whose fields have the values of their options; raises InputError as the settings do.

    Fields that no option sets by its value alone are `stated`. Other fields without an option among the
    values keep their defaults.
    """
    chosen = {
        field.name: _value(field, values)
        for field in fields(settings)  # type: ignore[arg-type]
        if field.name not in stated and _options(field, values)
    }
    return settings(**chosen, **stated)


def _options(field: Field[Any], values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the options among the values that set a field: several for a tuple, each with a place in it."""
    if f"{field.name}[0]" in ARGUMENTS.values():
        return [pair for place in range(2) for pair in options_that_set(f"{field.name}[{place}]")[:1]]
    options = [pair for pair in options_that_set(field.name) if _name(pair[0]) in values]
    assert len(options) < 2, f"several options set {field.name}: state its value"
    return options


def _value(field: Field[Any], values: Mapping[str, Any]) -> Any:
    options = _options(field, values)
    found = [_converted(option, values[_name(option)], of_flag) for option, of_flag in options]
    return found[0] if len(found) == 1 else tuple(found)


def _converted(option: str, value: Any, of_flag: str) -> Any:
    """Return the value of a field, with None for what RELION or the program writes as "off"."""
    if of_flag:
        return value == (of_flag == "True")
    off = OFF.get(option)
    if off == "auto":
        return None if value == "auto" else _number(option, value)
    return None if (off == "0" and value == 0) or (off == "-1" and value < 0) else value


def _number(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"--{option} {text} is not a number: give a number, or auto") from None


def _name(option: str) -> str:
    """Return the name under which click passes an option's value on."""
    return option.lower()
