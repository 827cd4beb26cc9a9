"""Simulating a project, with progress."""

from __future__ import annotations

from pathlib import Path

from tomopolish.errors import InputError
from tomopolish.run.reporter import Reporter
from tomopolish.simulate.project import write_project
from tomopolish.simulate.settings import SimulationSettings


def run_simulate(folder: Path, settings: SimulationSettings, *, threads: int, reporter: Reporter) -> Path:
    """Write a project with its truth into an empty or new folder; returns its optimisation set.

    Raises
    ------
    InputError
        When the settings cannot be simulated, or the folder holds anything.
    RunError
        When a file cannot be written.
    """
    if threads < 1:
        raise InputError(f"--j {threads} gives no thread to work with: give 1 or more")
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(
            f"--o {folder} is not empty: name a new folder, so that nothing of yours is replaced"
        )
    with reporter.open(1), reporter.tomogram("simulation") as progress:
        written = write_project(folder, settings, threads=threads, progress=progress)
    reporter.say(f"Simulated project: {written}")
    return written
