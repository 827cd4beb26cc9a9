"""The work on one tomogram: the unit that is distributed, repeated and resumed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from tomopolish.dataset.files import atomic_path
from tomopolish.dataset.model import Tomogram
from tomopolish.dataset.species import Project, SpeciesReferences
from tomopolish.errors import RunError
from tomopolish.output.diagnostics import write_diagnostics
from tomopolish.plain_text import listed
from tomopolish.progress import Progress
from tomopolish.results.tomogram import TomogramResult
from tomopolish.run.basis import basis_of, changes_in_words
from tomopolish.run.failures import reason
from tomopolish.run.fingerprint import (
    REFERENCES,
    Fingerprint,
    changed_images,
    differences,
    digest,
    tomogram_fingerprint,
)
from tomopolish.run.needs import refuse_beyond_memory, take_memory_of_products
from tomopolish.run.parts import PARTS_FOLDER, results_of_parts
from tomopolish.run.reporter import Reporter
from tomopolish.run.store import DamagedResultError, ResultsStore
from tomopolish.settings.alignment import AlignSettings

Prepared = TypeVar("Prepared")

REFINE_AGAIN = "--only_do_unfinished refines it again"


@dataclass(frozen=True, kw_only=True)
class Stages(Generic[Prepared]):
    """The steps of the computation: references once, then one tomogram at a time."""

    prepare: Callable[[Sequence[SpeciesReferences], AlignSettings], Prepared]
    align_tomogram: Callable[[Tomogram, Prepared, AlignSettings, Progress], TomogramResult]


@dataclass(frozen=True, kw_only=True, eq=False)
class Work(Generic[Prepared]):
    """Everything that refines any tomogram of a run; small, and can be sent to another process.

    Attributes
    ----------
    store
        Store of finished tomograms; None: the caller stores them.
    common
        Fingerprint of what the results of all tomograms depend on; needed with a store.
    """

    project: Project
    settings: AlignSettings
    stages: Stages[Prepared]
    store: ResultsStore | None = None
    common: Fingerprint = field(default_factory=dict)

    def prepare(self, *, in_worker: bool = False) -> Prepared:
        """Return the prepared references; called once for all tomograms of a process.

        Raises RunError in a worker if the references have changed since the run began.
        """
        take_memory_of_products(self.settings.run.threads)
        references = self.project.references()
        if in_worker and self.common and digest(references) != self.common[REFERENCES]:
            raise RunError("the references have changed since the run began: run it again")
        return self.stages.prepare(references, self.settings)

    def compute(self, name: str, prepared: Prepared, progress: Progress) -> TomogramResult:
        """Refine one tomogram, and store and return the result; a repetition changes nothing.

        Raises RunError when its tilt images changed meanwhile; the stored result then is out of date.
        """
        tomogram = self.project.tomogram(name)
        fingerprint = {} if self.store is None else tomogram_fingerprint(self.common, tomogram)
        basis = {} if self.store is None else basis_of(self.project, self.settings, tomogram)
        refuse_beyond_memory(tomogram.series, sum(map(len, tomogram.species)), self.settings)
        result = self.stages.align_tomogram(tomogram, prepared, self.settings, progress)
        if result.diagnostics:
            folder = self.settings.run.output_folder if self.store is None else self.store.folder
            write_diagnostics(folder, name, result.diagnostics)
            result = replace(result, diagnostics=())
        if self.store is not None:
            self.store.save(name, result, fingerprint, basis)
        for path in changed_images(tomogram.series):
            raise RunError(f"{path} changed while the tomogram was refined; {REFINE_AGAIN}")
        return result

    def finished(self, reporter: Reporter, *, writes: bool = True) -> tuple[str, ...]:
        """Return the tomograms whose stored result is still valid; shows which are not, and why.

        Valid results of runs over some tomograms count, too; with `writes` they are copied into the store.
        """
        valid = []
        for name in self.project.tomogram_names:
            changed: str | None = None
            try:
                changed = self._changed(name)
                if changed != "" and self._takes_over(name, writes=writes):
                    changed = ""
            except DamagedResultError as problem:
                reporter.warn(f"{problem}; the tomogram is refined again")
            except Exception:  # the attempt to refine it will report the error
                continue
            if changed is None:
                continue
            if changed:
                reporter.say(f"{name} will be refined again, because {changed}")
            else:
                valid.append(name)
        return tuple(valid)

    def _takes_over(self, name: str, *, writes: bool) -> bool:
        """Take over a valid result of a run over some tomograms; returns whether there is one."""
        if self.store is None or not (self.store.folder.parent / PARTS_FOLDER).is_dir():
            return False
        tomogram = self.project.tomogram(name)
        fingerprint = tomogram_fingerprint(self.common, tomogram)
        for path, stored in results_of_parts(self.store, name):
            if differences(stored.fingerprint, fingerprint) or _misfits(stored.result, tomogram):
                continue
            if writes:
                with atomic_path(self.store.path(name), durable=True) as temporary:
                    shutil.copyfile(path, temporary)
            return True
        return False

    def fault(self, name: str) -> str | None:
        """Return why a stored result cannot be part of this run; None where it can.

        Another process may have written it, its inputs may have changed since, or the disk may have failed.
        """
        try:
            changed = self._changed(name)
        except DamagedResultError as problem:
            return f"{problem}; {REFINE_AGAIN}"
        except Exception as error:
            return reason(error)
        if changed is None:
            return f"its stored result is missing; {REFINE_AGAIN}"
        if changed:
            return f"its stored result does not belong to this run, because {changed}; {REFINE_AGAIN}"
        return None

    def _changed(self, name: str) -> str | None:
        """Return a clause on what has changed since a result was stored; "" if nothing, None without result.

        Raises DamagedResultError where it cannot be read, and any error of loading the tomogram.
        """
        stored = None if self.store is None else self.store.read(name)
        if stored is None:
            return None
        tomogram = self.project.tomogram(name)
        fingerprint = tomogram_fingerprint(self.common, tomogram)
        changed = differences(stored.fingerprint, fingerprint)
        if not changed:
            misfits = _misfits(stored.result, tomogram)
            return f"its {listed(misfits)} changed" if misfits else ""
        basis = basis_of(self.project, self.settings, tomogram)
        return changes_in_words(changed, stored.fingerprint, stored.basis, fingerprint, basis)


def _misfits(result: TomogramResult, tomogram: Tomogram) -> list[str]:
    """Return the parts whose number differs between a result and its tomogram, whatever its fingerprint."""
    rows = [alignment.rows.tolist() for alignment in result.alignments]
    parts = [] if rows == [particles.rows.tolist() for particles in tomogram.species] else ["particles"]
    same = len(result.alignment.projections_px) == len(tomogram.series)
    return parts if same else [*parts, "tilt series"]


def report_failure(name: str, sentence: str, settings: AlignSettings, reporter: Reporter) -> None:
    """Show that a tomogram failed; with `--strict`, raise RunError, which ends the run."""
    if settings.run.strict:
        raise RunError(f"{name} failed: {sentence}; --only_do_unfinished reuses the finished tomograms")
    reporter.warn(f"{name} failed: {sentence}")


def report_warnings(name: str, sentences: Sequence[str], reporter: Reporter) -> None:
    """Show the warnings of a tomogram, each with its name."""
    for sentence in sentences:
        reporter.warn(sentence if name in sentence else f"{name}: {sentence}")
