"""A run on this machine: check everything, then tomogram after tomogram, then write the sets.

The steps come in from outside (`Stages`), so that the loop can be tested, or run elsewhere, without them.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from tomopolish.dataset.model import Alignment, Particles, References, TiltSeries
from tomopolish.errors import InputError, RunError
from tomopolish.output.note import write_note
from tomopolish.output.table import change_table, time_table
from tomopolish.progress import Progress
from tomopolish.results import TomogramResult, TomogramStatistics
from tomopolish.run.failures import reason
from tomopolish.run.reporter import Reporter
from tomopolish.settings import AlignSettings

Prepared = TypeVar("Prepared")


class Project(Protocol):
    """The data set as a run sees it."""

    @property
    def tomogram_names(self) -> Sequence[str]:
        """Tomograms that hold particles, in the order of the tomogram set."""

    def references(self) -> References:
        """Return what the particles are compared with."""

    def load(self, name: str) -> tuple[TiltSeries, Particles]:
        """Return one tilt series and its particles."""


@dataclass(frozen=True, kw_only=True)
class Stages(Generic[Prepared]):
    """The computation: references once, then one tomogram at a time."""

    prepare: Callable[[References, AlignSettings], Prepared]
    align_tomogram: Callable[[TiltSeries, Particles, Prepared, AlignSettings, Progress], TomogramResult]


@dataclass(frozen=True, kw_only=True, eq=False)
class RunReport:
    """What became of each tomogram: a result, or the reason why there is none."""

    results: Mapping[str, TomogramResult]
    failures: Mapping[str, str]

    @property
    def statistics(self) -> dict[str, TomogramStatistics]:
        """The figures of the tomograms that were refined."""
        return {name: result.statistics for name, result in self.results.items()}

    @property
    def alignments(self) -> dict[str, Alignment]:
        """The geometry of the tomograms that were refined."""
        return {name: result.alignment for name, result in self.results.items()}


def refine(
    project: Project,
    settings: AlignSettings,
    stages: Stages[Prepared],
    reporter: Reporter,
    *,
    debug: bool = False,
) -> RunReport:
    """Refine every tomogram of a checked project; one that fails does not stop the others.

    Parameters
    ----------
    debug
        Print the traceback of each failure.

    Raises
    ------
    TomopolishError
        When the references cannot be prepared.
    RunError
        When no tomogram could be refined.
    """
    results: dict[str, TomogramResult] = {}
    failures: dict[str, str] = {}
    names = project.tomogram_names
    with reporter.open(len(names)):
        prepared = stages.prepare(project.references(), settings)
        for name in names:
            try:
                with reporter.tomogram(name) as progress:
                    series, particles = project.load(name)
                    results[name] = stages.align_tomogram(series, particles, prepared, settings, progress)
            except Exception as error:
                failures[name] = reason(error)
                reporter.warn(f"{name} failed: {failures[name]}")
                if debug:
                    traceback.print_exc()
                continue
            for sentence in results[name].statistics.warnings:
                reporter.warn(sentence if name in sentence else f"{name}: {sentence}")
    if not results:
        raise RunError(f"no tomogram could be refined, nothing was written; {_first(failures)}")
    return RunReport(results=results, failures=failures)


def open_folder(settings: AlignSettings, inputs: Sequence[Path], command: Sequence[str]) -> None:
    """Create the output folder and its note, once all inputs are known to be good.

    Raises
    ------
    InputError
        When the folder cannot be written, or a result would replace one of `inputs`.
    """
    folder = settings.run.output_folder
    results = {(folder / name).resolve() for name in _OUTPUT_NAMES}
    series_folder = (folder / "tilt_series").resolve()
    for path in inputs:
        found = path.resolve()
        if found in results or found.parent == series_folder:
            raise InputError(f"--o {folder} would replace the input {path}: name another folder")
    try:
        write_note(folder, command=command, started=datetime.now().astimezone())
    except RunError as error:
        raise InputError(f"--o {folder} cannot be used; {error}") from error


def show_closing(report: RunReport, folder: Path, reporter: Reporter) -> None:
    """Show the closing tables, where the results are, and which tomograms failed."""
    reporter.show(change_table(report.statistics))
    reporter.show(time_table(report.statistics))
    reporter.say(f"\nRefined sets: {folder / 'optimisation_set.star'}")
    for name, sentence in report.failures.items():
        reporter.say(f"{name} failed and keeps its input values: {sentence}")


_OUTPUT_NAMES = ("optimisation_set.star", "tomograms.star", "particles.star", "motion.star")


def _first(failures: Mapping[str, str]) -> str:
    return next((f"{name}: {sentence}" for name, sentence in failures.items()), "it holds no particles")
