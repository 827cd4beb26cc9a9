"""The rounds of an earlier run in the output folder: continued, refused, or removed on request."""

from __future__ import annotations

import shutil

from tomopolish.dataset.species import Project
from tomopolish.errors import InputError
from tomopolish.rounds.journal import Journal, RunBasis
from tomopolish.rounds.outputs import COMMAND, remove_outputs
from tomopolish.run.folder.guard import Guard
from tomopolish.run.folder.output import OutputFolder
from tomopolish.run.outputs import inputs_of
from tomopolish.run.rounds_folder import round_name
from tomopolish.settings.alignment import RunSettings


def refuse_other_run(guard: Guard, basis: RunBasis, run: RunSettings) -> None:
    """Raise InputError where a run would replace the rounds of another one without `--overwrite`."""
    journal = Journal(folder=guard.folder.absolute())
    if run.overwrite or not journal.exists():
        return
    if not run.only_do_unfinished:
        raise InputError(
            f"{guard.shown} has the rounds of an earlier run: give --only_do_unfinished to "
            "continue it, --overwrite to make all rounds again, or another folder"
        )
    changes = journal.changes(basis)
    if changes:
        raise InputError(
            f"{guard.shown}: the earlier run cannot be continued, because {changes}: continue it unchanged, "
            "give --overwrite to make all rounds again, or another folder"
        )


def start_again(out: OutputFolder, project: Project, kept: int) -> None:
    """Remove the rounds of an earlier run but the first `kept`, after all files that name any of them.

    Finished tomograms of rounds that stay may be reused.

    Raises
    ------
    InputError
        When an input is among the rounds.
    RunError
        When a file cannot be removed.
    """
    own = [
        name
        for name, command in out.written.folders.items()
        if command == COMMAND and name.startswith("round")
    ]
    inputs = inputs_of(project)
    files = [path.resolve() for path in (*inputs.sets(), *inputs.images())]
    for name in own:
        for path in files:
            if path.is_relative_to((out.folder / name).resolve()):
                raise InputError(f"{out.guard.shown} would replace the input {path}: give another folder")
    remove_outputs(out, project)
    Journal(folder=out.folder).remove()
    for name in own:
        if name not in map(round_name, range(kept)):
            shutil.rmtree(out.folder / name, ignore_errors=True)
