"""Simulating a project: guards what the folder holds, leaves a note, shows progress."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from tomopolish.errors import InputError
from tomopolish.output.note import NOTE_NAME, write_note
from tomopolish.run.invocation import Invocation
from tomopolish.run.reporter import Reporter
from tomopolish.settings.simulation import SimulationSettings
from tomopolish.simulate.project import write_project

_MARK = "command: tomopolish simulate "


def run_simulate(
    folder: Path,
    settings: SimulationSettings,
    invocation: Invocation,
    *,
    threads: int,
    reporter: Reporter,
) -> Path:
    """Write a project with its truth; returns its optimisation set.

    The folder is new or empty, or holds an earlier simulation (its note says so), which is replaced.

    Raises
    ------
    InputError
        When the settings cannot be simulated, or the folder holds anything else.
    RunError
        When a file cannot be written.
    """
    if threads < 1:
        raise InputError(f"--j {threads} gives no thread to work with: give 1 or more")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--o {folder} is a file: name a folder for the project")
    if folder.is_dir() and any(folder.iterdir()) and not _is_simulation(folder):
        raise InputError(f"--o {folder} holds something else than a simulation: name a new folder")
    write_note(folder, command=invocation.command, started=datetime.now().astimezone())
    with reporter.open(1), reporter.tomogram("simulation") as progress:
        written = write_project(folder, settings, threads=threads, progress=progress)
    reporter.say(f"Simulated project: {written}")
    return written


def _is_simulation(folder: Path) -> bool:
    note = folder / NOTE_NAME
    return note.is_file() and note.read_text(encoding="utf-8", errors="replace").startswith(_MARK)
