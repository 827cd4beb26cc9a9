"""`tomopolish relion-external`: the executable of an External job of RELION's GUI."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from tomopolish.cli.grouped import command, invocation
from tomopolish.errors import InputError

RENAMED = {"--in_parts": "--p", "--in_mask": "--mask", "--in_coords": "--mot"}
"""What the job's input fields are called, and what they are here."""


def align_arguments(arguments: Sequence[str]) -> list[str]:
    """Turn an External job's command line into that of `tomopolish align`.

    The first input field, `--in_parts`, may hold an optimisation set or a particle set; `--in_3dref` the
    first half map, whose companion is found beside it. All else passes through; a label with the value
    true or false stands for a flag.

    Raises InputError when the companion of the half map is not there.
    """
    found: list[str] = []
    pending = list(arguments)
    while pending:
        option = pending.pop(0)
        if not option.startswith("--") or not pending or pending[0].startswith("--"):
            found.append(option)
            continue
        value = pending.pop(0)
        if option == "--in_3dref":
            found += ["--ref1", value, "--ref2", str(other_half(Path(value)))]
        elif option == "--in_parts" and "optimisation_set" in Path(value).name:
            found += ["--i", value]
        elif value.lower() in ("true", "yes"):
            found.append(option)
        elif value.lower() not in ("false", "no"):
            found += [RENAMED.get(option, option), value]
    if "--o" in found and "--pipeline_control" not in found:
        found += ["--pipeline_control", found[found.index("--o") + 1]]
    return found


def other_half(path: Path) -> Path:
    """Find the second half map beside the first; raises InputError when there is none."""
    name = path.name.replace("half1", "half2")
    if name == path.name or not path.with_name(name).exists():
        raise InputError(
            f"--in_3dref {path}: give the half map whose name holds half1, with half2 beside it in its folder"
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
    return run(["align", *translated, *(["--debug"] if invocation().debug else [])])


COMMAND = command(
    "relion-external",
    _relion_external,
    [],
    text="Run 'tomopolish align' from an External job: its input fields are the particles (or an "
    "optimisation set), the first half map, the mask and the trajectories; its labels are options of "
    "align, without dashes, flags with the value true.",
)
COMMAND.params.insert(0, click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED))
COMMAND.context_settings = {**COMMAND.context_settings, "ignore_unknown_options": True}
