"""`--config`: options from the `run.yaml` of an earlier run, or from a file of options."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from reprlib import repr as brief
from typing import Any

import click
from click.core import ParameterSource

from tomopolish.cli.yaml_files import read_yaml
from tomopolish.errors import InputError

MOST_BYTES = 1 << 22
"""A run.yaml lists the input files, so that it may be longer than other files of options."""

NOT_OPTIONS = ("config", "debug", "quiet", "verbose", "help")
"""Options that a file cannot set, and that are not recorded."""


def resolved_options(context: click.Context) -> dict[str, Any]:
    """Return all options of a running command with their values, defaults included, by their first names."""
    return {
        _names(option)[0]: context.params[option.name]
        for option in context.command.params
        if isinstance(option, click.Option)
        and option.name in context.params
        and option.name not in NOT_OPTIONS
        and not option.hidden
        and context.params[option.name] not in (None, ())
        and (getattr(option, "records_default", True) or _is_given(context, option.name))
    }


def _is_given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is not ParameterSource.DEFAULT


def _names(option: click.Parameter) -> list[str]:
    return [name.lstrip("-") for name in option.opts]


def apply_file(context: click.Context, path: Path, command: str) -> None:
    """Let the options of a file be the defaults of a command; raises InputError for a file that is none."""
    shown = f"--config {path}"
    content = read_yaml(path, shown, MOST_BYTES)
    if not isinstance(content, Mapping):
        raise InputError(f"{shown}: the file contains no options; write for example 'r: 12'")
    options: Any = content
    if "options" in content:
        of_command, options = content.get("command", command), content["options"]
        if of_command != command:
            raise InputError(
                f"{shown}: this is the run of 'tomopolish {brief(of_command)[1:-1]}', not of 'tomopolish "
                f"{command}': give the file to that command"
            )
        _compare_folders(content, shown)
    elif "call" in content:
        raise InputError(f"{shown}: this run was started from Python: repeat the call that the file contains")
    if not isinstance(options, Mapping):
        raise InputError(f"{shown}: options is {brief(options)}, but must list options, such as 'r: 12'")
    known = {
        name: option
        for option in context.command.params
        if isinstance(option, click.Option) and option.name not in NOT_OPTIONS
        for name in _names(option)
    }
    defaults = {}
    for name, value in options.items():
        option = known.get(str(name))
        if option is None:
            nearest = get_close_matches(str(name), known, n=1)
            guess = f"did you mean {nearest[0]}?" if nearest else f"'tomopolish {command} --help' lists them"
            raise InputError(f"{shown}: {brief(name)} is no option of {command}; {guess}")
        defaults[str(option.name)] = _checked(value, option, f"{shown}: {name}")
    context.default_map = {**(context.default_map or {}), **defaults}


def _checked(value: Any, option: click.Option, place: str) -> Any:
    """Return a value as click accepts a default; raises InputError for one of another kind."""
    several = option.multiple or option.nargs != 1
    items = value if isinstance(value, list) else [value]
    if (isinstance(value, list) and not several) or not all(
        isinstance(item, str | int | float) for item in items
    ):
        kinds = "a number, a text or true or false" + (", or a list of them" if several else "")
        raise InputError(f"{place} is {brief(value)}, but must be {kinds}")
    alone = getattr(option, "value_alone", None)
    if alone is not None and isinstance(value, bool):
        return alone if value else None
    if option.is_flag != isinstance(value, bool):
        kinds = "true or false" if option.is_flag else "a value, not true or false"
        raise InputError(f"{place} is {brief(value)}, but must be {kinds}")
    return items if several else value


def _compare_folders(content: Mapping[Any, Any], shown: str) -> None:
    folder = content.get("working_directory")
    if isinstance(folder, str) and Path(folder) != Path.cwd():
        from tomopolish.run.journal.recording import LOG

        LOG.warning(
            "%s was written by a run in %s: relative paths in it are looked for in the present folder",
            shown,
            folder,
        )
