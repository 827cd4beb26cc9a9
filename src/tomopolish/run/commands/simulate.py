"""Simulation of a project, with protection of the folder's files, a note, and progress."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from tomopolish.errors import InputError
from tomopolish.output.note import NOTE_NAMES, note_lines, write_note
from tomopolish.run.folder.guard import Guard, Inputs
from tomopolish.run.folder.output import own_folder
from tomopolish.run.folder.written import STATE_FOLDER
from tomopolish.run.invocation import Invocation
from tomopolish.run.journal.recording import is_record
from tomopolish.run.reporter import Reporter
from tomopolish.settings.refuse import refuse_threads
from tomopolish.settings.simulation import SimulationSettings
from tomopolish.simulate.project import write_project

COMMAND = "simulate"


def run_simulate(
    folder: Path,
    settings: SimulationSettings,
    invocation: Invocation,
    *,
    threads: int,
    reporter: Reporter,
    overwrite: bool = False,
) -> Path:
    """Write a simulated project with its truth; returns the path of its optimisation set.

    The folder must be new or empty, or contain only an earlier simulation, which is replaced; with
    `overwrite` it may contain other files, and those with the names of the project's files are replaced.
    Raises InputError when the settings cannot be simulated, or the folder contains anything else, and
    RunError when a file cannot be written.
    """
    refuse_threads(threads)
    shown = f"--o {folder}"
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{shown} is a file: give a folder for the project")
    map_path = settings.molecule.map_path
    inputs = Inputs(sets=lambda: [] if map_path is None else [map_path])
    guard = Guard(folder=folder, shown=shown, command=COMMAND, inputs=inputs, overwrite=overwrite)
    if not overwrite:
        own = set(guard.own_files())
        for name in _files(folder):
            if name not in own:
                raise InputError(
                    f"{shown} contains {name}, which no simulation wrote: give a new folder, or --overwrite"
                )
    note = note_lines(invocation.command, datetime.now().astimezone())
    companions = [f"{companion.name}_optimisation_set.star" for companion in settings.companions]
    with own_folder(guard, invocation.command) as out:
        with (
            out.new_files(joining=["optimisation_set.star", *companions], obsolete=lambda _: True) as new,
            reporter.open(1),
            reporter.tomogram("simulation") as progress,
        ):
            written = write_project(new, settings, threads=threads, progress=progress).relative_to(new)
            write_note(new / out.free_name(NOTE_NAMES), note)
        reporter.say(f"Simulated project: {folder / written}")
    return folder / written


def _files(folder: Path) -> Iterator[str]:
    """Yield the files below a folder, relative to it, apart from the program's own and run records."""
    for parent, folders, names in os.walk(folder):
        if STATE_FOLDER in folders:
            folders.remove(STATE_FOLDER)
        for name in names:
            path = Path(parent) / name
            if not is_record(path):
                yield path.relative_to(folder).as_posix()
