"""A run on this machine: refine tomogram after tomogram, or several at once, and show the closing tables.

The computation is passed in (`Stages`), so that the loop can be tested, or run elsewhere, without it.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from tomopolish.dataset.relion.scores import FILE_NAME as SCORES_NAME
from tomopolish.dataset.species import Project
from tomopolish.errors import RunError, RunStopped
from tomopolish.imaging.devices import tomograms_at_once
from tomopolish.output.motion import motion_table, tried
from tomopolish.output.table import (
    change_table,
    evidence_table,
    flagged_words,
    maps_table,
    time_table,
    times_of_all,
)
from tomopolish.results.tomogram import MapComparison, TomogramResult, TomogramStatistics
from tomopolish.results.verdict import Verdict, verdict, worst_first
from tomopolish.results.verdict import sentence as in_words
from tomopolish.run.failures import Failure, forget
from tomopolish.run.fingerprint import common_fingerprint
from tomopolish.run.reporter import Reporter
from tomopolish.run.store import ResultsStore, StoredResults
from tomopolish.run.work import Prepared, Stages, Work, report_failure, report_warnings
from tomopolish.settings.alignment import AlignSettings

Outcomes = tuple[Mapping[str, TomogramResult], Mapping[str, str]]
"""Results that are in no store, and the reasons of failures."""

MOST_SHOWN = 10
"""Maximum number of tomograms in the closing tables."""

Runner = Callable[[Work[Any], Sequence[str], Reporter], Outcomes]


@dataclass(frozen=True, kw_only=True, eq=False)
class RunReport:
    """Result of each tomogram, or the reason why there is none.

    Attributes
    ----------
    maps
        Structure → comparison of half maps before and after; the verdict regards the first.
    """

    results: Mapping[str, TomogramResult]
    failures: Mapping[str, str]
    maps: Mapping[str, MapComparison] = field(default_factory=dict)

    @cached_property
    def statistics(self) -> dict[str, TomogramStatistics]:
        """The statistics of the tomograms that were refined."""
        return {name: result.statistics for name, result in self.results.items()}

    @cached_property
    def verdict(self) -> Verdict | None:
        """The verdict on the evidence of all tomograms; None where there is none."""
        evidence = {name: s.evidence for name, s in self.statistics.items()}
        return verdict({name: e for name, e in evidence.items() if e is not None}, self.first_maps)

    @property
    def first_maps(self) -> MapComparison | None:
        """The comparison of the first structure's maps; None where there is none."""
        return next(iter(self.maps.values()), None)


def refine(
    project: Project,
    settings: AlignSettings,
    stages: Stages[Prepared],
    reporter: Reporter,
    *,
    store: ResultsStore | None = None,
    runner: Runner | None = None,
    unusable: Mapping[str, str] | None = None,
) -> RunReport:
    """Refine every tomogram of a checked project; a failed tomogram does not stop the others.

    Parameters
    ----------
    store
        Store of finished tomograms, also of an earlier run; None: refine all, and keep results in memory.
    runner
        Function that refines the tomograms; None: one after the other, in this process.
    unusable
        Tomograms that cannot be refined, with the reason; they count as failed.

    Raises
    ------
    TomopolishError
        When the references cannot be prepared, and with `strict` settings when a tomogram fails.
    RunError
        When no tomogram could be refined.
    RunStopped
        When the run was asked to end.
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
        unstored, failed = (runner or one_after_another)(work, todo, reporter)
        failures.update(failed)
        if store is not None:
            failures.update(_check_stored(work, [name for name in names if name not in failures], reporter))
    done = [name for name in names if name not in failures]
    if not done:
        reasons = (f"{name}: {sentence}" for name, sentence in failures.items())
        first = next(reasons, "it contains no particles")
        raise RunError(f"no tomogram could be refined, nothing was written; {first}")
    results = unstored if store is None else StoredResults(store=store, names=done)
    return RunReport(results=results, failures={name: failures[name] for name in names if name in failures})


def _check_stored(work: Work[Any], names: Sequence[str], reporter: Reporter) -> dict[str, str]:
    """Return the tomograms whose stored results cannot be part of this run, and why."""
    faults = {name: work.fault(name) for name in names}
    failures = {name: sentence for name, sentence in faults.items() if sentence is not None}
    for name, sentence in failures.items():
        report_failure(name, sentence, work.settings, reporter)
    return failures


def runner_for(device: str, *, debug: bool = False) -> Runner:
    """Return the function that refines the tomograms of a run on this machine.

    Raises InputError when `device` names a CUDA device that cannot be used.
    """
    count = tomograms_at_once(device)
    if count == 1:
        return partial(one_after_another, debug=debug)
    return partial(several_at_once, count=count, debug=debug)


def one_after_another(
    work: Work[Any], names: Sequence[str], reporter: Reporter, *, debug: bool = False
) -> Outcomes:
    """Refine tomograms in this process; returns the results that are in no store, and the failures."""
    if not names:
        return {}, {}
    prepared = work.prepare()
    return _collected(
        work, ((name, refine_one(work, name, prepared, reporter, debug=debug)) for name in names)
    )


def several_at_once(
    work: Work[Any], names: Sequence[str], reporter: Reporter, *, count: int, debug: bool = False
) -> Outcomes:
    """Refine up to `count` tomograms at a time, each in a thread; otherwise like `one_after_another`.

    Each thread reserves a device while it computes windows. When an error ends the run, tomograms that are
    being refined finish, and no others begin.
    """
    if not names:
        return {}, {}
    prepared = work.prepare()
    with ThreadPoolExecutor(count) as pool:
        futures = {
            name: pool.submit(refine_one, work, name, prepared, reporter, debug=debug) for name in names
        }
        try:
            return _collected(work, ((name, future.result()) for name, future in futures.items()))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _collected(work: Work[Any], outcomes: Iterable[tuple[str, TomogramResult | str]]) -> Outcomes:
    """Return the results that are in no store, and the failures."""
    results: dict[str, TomogramResult] = {}
    failures: dict[str, str] = {}
    for name, outcome in outcomes:
        if isinstance(outcome, str):
            failures[name] = outcome
        elif work.store is None:
            results[name] = outcome
    return results, failures


def refine_one(
    work: Work[Prepared], name: str, prepared: Prepared, reporter: Reporter, *, debug: bool = False
) -> TomogramResult | str:
    """Refine and report one tomogram; returns its result, or the reason why there is none.

    Raises RunError when the tomogram fails and the settings are strict, and RunStopped when the run was asked
    to end.
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
    page: Path | None = None,
    summary: Path | None = None,
) -> None:
    """Show the closing tables, the verdict, what is flagged, the paths of the results, and the failures.

    Parameters
    ----------
    sets
        Refined optimisation sets; none where none were written.
    page, summary
        Paths of the report and of the table of all tomograms; None where there is none.
    """
    shown, count = _to_look_at(report), len(report.statistics)
    reporter.show(change_table(shown))
    if report.verdict is not None:
        reporter.show(evidence_table(shown, report.verdict))
    if trials := tried(shown):
        reporter.show(motion_table(trials))
    if report.maps:
        reporter.show(maps_table(report.maps))
    reporter.show(time_table(shown) if len(shown) == count else times_of_all(report.statistics))
    if len(shown) < count:
        place = "" if summary is None else f"; {summary} has all"
        reporter.say(f"\nOf {count} tomograms, the tables show the {len(shown)} to look at first{place}")
    reporter.say(f"\n{in_words(report.verdict, report.first_maps)}")
    flagged = flagged_words(report.statistics.values())
    if flagged is not None and sets:
        files = ", ".join(str(path.parent / SCORES_NAME) for path in sets)
        remedy = "" if flagged.startswith("No ") else "; tomopolish select writes sets without them"
        reporter.say(f"\n{flagged}: {files}{remedy}.")
    if sets:
        reporter.say(f"\nRefined sets: {', '.join(map(str, sets))}")
    if page is not None:
        reporter.say(f"Report: {page}")
    for name, sentence in report.failures.items():
        reporter.say(f"{name} failed and keeps its input values: {sentence}")


def _to_look_at(report: RunReport) -> dict[str, TomogramStatistics]:
    """Return the statistics of all tomograms; where they are many, of the worst."""
    if len(report.statistics) <= MOST_SHOWN:
        return report.statistics
    names = worst_first(report.statistics, report.verdict)[:MOST_SHOWN]
    return {name: report.statistics[name] for name in names}
