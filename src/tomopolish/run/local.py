"""A run on this machine: check everything, then tomogram after tomogram, then write the sets.

The steps come in from outside (`Stages`), so that the loop can be tested, or run elsewhere, without them.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from tomopolish.dataset.model import Alignment
from tomopolish.dataset.species import Project
from tomopolish.errors import RunError, RunStopped
from tomopolish.output.table import change_table, evidence_table, maps_table, time_table
from tomopolish.results.tomogram import MapComparison, TomogramResult, TomogramStatistics
from tomopolish.results.verdict import Verdict, verdict
from tomopolish.results.verdict import sentence as in_words
from tomopolish.run.failures import Failure, forget
from tomopolish.run.fingerprint import common_fingerprint
from tomopolish.run.reporter import Reporter
from tomopolish.run.store import ResultsStore, StoredResults
from tomopolish.run.work import Prepared, Stages, Work, report_failure, report_warnings
from tomopolish.settings.alignment import AlignSettings

Outcomes = tuple[Mapping[str, TomogramResult], Mapping[str, str]]
"""Results that no store keeps, and the reasons of failures."""

Runner = Callable[[Work[Any], Sequence[str], Reporter], Outcomes]


@dataclass(frozen=True, kw_only=True, eq=False)
class RunReport:
    """What became of each tomogram: a result, or the reason why there is none."""

    results: Mapping[str, TomogramResult]
    failures: Mapping[str, str]

    @cached_property
    def statistics(self) -> dict[str, TomogramStatistics]:
        """The figures of the tomograms that were refined."""
        return {name: result.statistics for name, result in self.results.items()}

    @cached_property
    def verdict(self) -> Verdict | None:
        """What the evidence of all tomograms comes to; None where there is none."""
        evidence = {name: s.evidence for name, s in self.statistics.items()}
        return verdict({name: e for name, e in evidence.items() if e is not None})

    @property
    def alignments(self) -> Mapping[str, Alignment]:
        """The geometry of the tomograms that were refined; looked up one at a time."""
        return _Alignments(self.results)


class _Alignments(Mapping[str, Alignment]):
    def __init__(self, results: Mapping[str, TomogramResult]) -> None:
        self._results = results

    def __getitem__(self, name: str) -> Alignment:
        return self._results[name].alignment

    def __iter__(self) -> Iterator[str]:
        return iter(self._results)

    def __len__(self) -> int:
        return len(self._results)


def refine(
    project: Project,
    settings: AlignSettings,
    stages: Stages[Prepared],
    reporter: Reporter,
    *,
    debug: bool = False,
    store: ResultsStore | None = None,
    runner: Runner | None = None,
    unusable: Mapping[str, str] | None = None,
) -> RunReport:
    """Refine every tomogram of a checked project; one that fails does not stop the others.

    Parameters
    ----------
    debug
        Print the traceback of each failure.
    store
        Where finished tomograms are kept, and where an earlier run's are found; None: in memory, all anew.
    runner
        Carries out the tomograms that are to be done; None: one after the other, in this process.
    unusable
        Tomograms that cannot be refined, with the reason: they count as failed.

    Raises
    ------
    TomopolishError
        When the references cannot be prepared, and with `strict` settings when a tomogram fails.
    RunError
        When no tomogram could be refined.
    RunStopped
        When somebody asked the run to end.
    """
    names = project.tomogram_names
    here = settings.run.cluster is None  # workers read the references themselves
    common = {} if store is None else common_fingerprint(settings, project.references(keep=here))
    work = Work(project=project, settings=settings, stages=stages, store=store, common=common)
    if store is not None:
        store.add_to_run(common=dict(common))
    with reporter.open(len(names)):
        stored = work.finished(reporter) if settings.run.only_do_unfinished else ()
        finished = [name for name in stored if name not in (unusable or {})]
        for name in finished:
            reporter.passed(name, "finished earlier")
        failures = dict(unusable or {})
        for name, sentence in failures.items():
            reporter.passed(name, "cannot be refined")
            reporter.warn(f"{name} failed: {sentence}")
        todo = [name for name in names if name not in failures and name not in set(finished)]
        held, failed = (runner or partial(one_after_another, debug=debug))(work, todo, reporter)
        failures.update(failed)
        if store is not None:
            failures.update(_check_stored(work, [name for name in names if name not in failures], reporter))
    done = [name for name in names if name not in failures]
    if not done:
        raise RunError(f"no tomogram could be refined, nothing was written; {_first(failures)}")
    results = held if store is None else StoredResults(store=store, names=done)
    return RunReport(results=results, failures={name: failures[name] for name in names if name in failures})


def _check_stored(work: Work[Any], names: Sequence[str], reporter: Reporter) -> dict[str, str]:
    """Return the tomograms whose stored results cannot be part of this run after all, and why."""
    faults = {name: work.fault(name) for name in names}
    failures = {name: sentence for name, sentence in faults.items() if sentence is not None}
    for name, sentence in failures.items():
        report_failure(name, sentence, work.settings, reporter)
    return failures


def one_after_another(
    work: Work[Any], names: Sequence[str], reporter: Reporter, *, debug: bool = False
) -> Outcomes:
    """Refine tomograms in this process; returns the results that no store keeps, and the failures."""
    results: dict[str, TomogramResult] = {}
    failures: dict[str, str] = {}
    if not names:
        return results, failures
    prepared = work.prepare()
    for name in names:
        outcome = refine_one(work, name, prepared, reporter, debug=debug)
        if isinstance(outcome, str):
            failures[name] = outcome
        elif work.store is None:
            results[name] = outcome
    return results, failures


def refine_one(
    work: Work[Prepared], name: str, prepared: Prepared, reporter: Reporter, *, debug: bool = False
) -> TomogramResult | str:
    """Refine and report one tomogram; returns its result, or the reason why there is none.

    Raises
    ------
    RunError
        When it fails and the settings are strict.
    RunStopped
        When somebody asked the run to end.
    """
    try:
        with reporter.tomogram(name) as progress:
            result = work.compute(name, prepared, progress)
    except RunStopped:
        raise
    except Exception as error:
        if debug:
            traceback.print_exc()
        sentence = Failure.of(error).recorded(work.settings.run.output_folder, name)
        report_failure(name, sentence, work.settings, reporter)
        return sentence
    forget(work.settings.run.output_folder, name)
    report_warnings(name, result.statistics.warnings, reporter)
    return result


def show_closing(
    report: RunReport,
    sets: Sequence[Path],
    reporter: Reporter,
    maps: Mapping[str, MapComparison] | None = None,
    page: Path | None = None,
) -> None:
    """Show the closing tables, whether it helped, where the results are, and what failed.

    Parameters
    ----------
    sets
        Refined optimisation sets.
    maps
        Structure → comparison of maps; the sentence speaks of the first.
    page
        The report, where there is one.
    """
    reporter.show(change_table(report.statistics))
    if report.verdict is not None:
        reporter.show(evidence_table(report.statistics, report.verdict))
    if maps:
        reporter.show(maps_table(maps))
    reporter.show(time_table(report.statistics))
    reporter.say(f"\n{in_words(report.verdict, next(iter((maps or {}).values()), None))}")
    reporter.say(f"\nRefined sets: {', '.join(map(str, sets))}")
    if page is not None:
        reporter.say(f"Report: {page}")
    for name, sentence in report.failures.items():
        reporter.say(f"{name} failed and keeps its input values: {sentence}")


def _first(failures: Mapping[str, str]) -> str:
    return next((f"{name}: {sentence}" for name, sentence in failures.items()), "it holds no particles")
