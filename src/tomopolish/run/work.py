"""The work on one tomogram: the unit that is distributed, repeated and resumed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar

from tomopolish.dataset.model import TiltSeries, Tomogram
from tomopolish.errors import RunError
from tomopolish.output.diagnostics import write_diagnostics
from tomopolish.progress import Progress
from tomopolish.results.tomogram import TomogramResult
from tomopolish.run.fingerprint import Fingerprint, differences, tomogram_fingerprint
from tomopolish.run.reporter import Reporter
from tomopolish.run.store import ResultsStore
from tomopolish.settings.alignment import AlignSettings

Prepared = TypeVar("Prepared")


class Project(Protocol):
    """The data set as a run sees it."""

    @property
    def tomogram_names(self) -> Sequence[str]:
        """Tomograms that hold particles, in the order of the tomogram set."""

    def references(self, *, keep: bool = False) -> Any:
        """Return what the particles are compared with: `References`, or those of each species.

        With `keep` the next call returns the same ones without reading them again.
        """

    def load(self, name: str) -> tuple[TiltSeries, Any]:
        """Return one tilt series and its particles: `Particles`, or those of each species."""


@dataclass(frozen=True, kw_only=True)
class Stages(Generic[Prepared]):
    """The computation: references once, then one tomogram at a time."""

    prepare: Callable[[Any, AlignSettings], Prepared]
    align_tomogram: Callable[[Tomogram, Prepared, AlignSettings, Progress], TomogramResult]


@dataclass(frozen=True, kw_only=True, eq=False)
class Work(Generic[Prepared]):
    """All that it takes to refine any tomogram of a run; small, and fit for sending to another process.

    Attributes
    ----------
    store
        Where finished tomograms go; None: the caller keeps them.
    common
        What the results of all tomograms depend on; needed with a store.
    """

    project: Project
    settings: AlignSettings
    stages: Stages[Prepared]
    store: ResultsStore | None = None
    common: Fingerprint = field(default_factory=dict)

    def prepare(self) -> Prepared:
        """Make the references ready; once for all tomograms of a process."""
        return self.stages.prepare(self.project.references(), self.settings)

    def compute(self, name: str, prepared: Prepared, progress: Progress) -> TomogramResult:
        """Refine one tomogram and store the result; doing it twice changes nothing."""
        series, particles = self.project.load(name)
        species = particles if isinstance(particles, tuple) else (particles,)
        tomogram = Tomogram(series=series, species=species)
        result = self.stages.align_tomogram(tomogram, prepared, self.settings, progress)
        if result.diagnostics:
            write_diagnostics(self.settings.run.output_folder, name, result.diagnostics)
            result = replace(result, diagnostics=())
        if self.store is not None:
            self.store.save(name, result, tomogram_fingerprint(self.common, series, particles))
        return result

    def finished(self, reporter: Reporter) -> tuple[str, ...]:
        """Names of tomograms whose stored result still holds; says which do not, and why."""
        kept = []
        for name in self.project.tomogram_names:
            stored = None if self.store is None else self.store.fingerprint(name)
            if stored is None:
                continue
            try:
                series, particles = self.project.load(name)
                changed = differences(stored, tomogram_fingerprint(self.common, series, particles))
            except Exception:  # the attempt to refine it will say what is wrong
                continue
            if changed:
                reporter.say(f"{name} is refined again, for these have changed: {', '.join(changed)}")
            else:
                kept.append(name)
        return tuple(kept)


def report_failure(name: str, sentence: str, settings: AlignSettings, reporter: Reporter) -> None:
    """Say that a tomogram failed; with `--strict` that ends the run, in a RunError."""
    if settings.run.strict:
        raise RunError(f"{name} failed: {sentence}; finished tomograms are kept for --only_do_unfinished")
    reporter.warn(f"{name} failed: {sentence}")


def report_warnings(name: str, sentences: Sequence[str], reporter: Reporter) -> None:
    """Pass the warnings of a tomogram on; each names it."""
    for sentence in sentences:
        reporter.warn(sentence if name in sentence else f"{name}: {sentence}")
