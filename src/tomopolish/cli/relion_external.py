"""`tomopolish relion-external`: the executable of an External job of RELION's GUI."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from tomopolish.cli.grouped import command, invocation
from tomopolish.errors import InputError

RENAMED = {"--in_parts": "--p", "--in_mask": "--mask", "--in_coords": "--mot"}
"""Names of the job's input fields → options of `tomopolish align`."""

POLISH = "--polish"
"""The flag with which the job runs `tomopolish polish` instead."""


def align_arguments(arguments: Sequence[str]) -> list[str]:
    """Return the command line of `tomopolish align` for that of an External job.

    The first input field, `--in_parts`, may be an optimisation set or a particle set; `--in_3dref` is the
    first half map, with the second beside it. Everything else is passed on; a label with the value
    true or false stands for a flag.

    Raises InputError when the second half map is missing.
    """
    words: list[str] = []
    pending = list(arguments)
    while pending:
        option = pending.pop(0)
        if not option.startswith("--") or not pending or pending[0].startswith("--"):
            words.append(option)
            continue
        value = pending.pop(0)
        if option == "--in_3dref":
            words += ["--ref1", value, "--ref2", str(other_half(Path(value)))]
        elif option == "--in_parts" and "optimisation_set" in Path(value).name:
            words += ["--i", value]
        elif value.lower() in ("true", "yes"):
            words.append(option)
        elif value.lower() not in ("false", "no"):
            words += [RENAMED.get(option, option), value]
    if "--o" in words and "--pipeline_control" not in words:
        words += ["--pipeline_control", words[words.index("--o") + 1]]
    return words


def other_half(path: Path) -> Path:
    """Return the second half map beside the first; raises InputError when there is none."""
    name = path.name.replace("half1", "half2")
    if name == path.name or not path.with_name(name).exists():
        raise InputError(
            f"--in_3dref {path}: give a map with half1 in its name, and a map with half2 beside it"
        )
    return path.with_name(name)


def _relion_external(arguments: tuple[str, ...]) -> int:
    from tomopolish.cli import run
    from tomopolish.run.relion_job import control_of

    try:
        translated = align_arguments(arguments)
    except InputError as problem:
        control_of(["--pipeline_control" if a == "--o" else a for a in arguments]).end(2, problem)
        raise
    name = "polish" if POLISH in translated else "align"
    words = [word for word in translated if word != POLISH]
    return run([name, *words, *(["--debug"] if invocation().debug else [])])


COMMAND = command(
    "relion-external",
    _relion_external,
    [],
    text="Run 'tomopolish align', or with the label 'polish' 'tomopolish polish', from an External job: its "
    "input fields are the particles (or an optimisation set), the first half map, the mask and the "
    "trajectories; its labels are options of the command without dashes, where flags have the value true.",
)
COMMAND.params.insert(0, click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED))
COMMAND.context_settings = {**COMMAND.context_settings, "ignore_unknown_options": True}
