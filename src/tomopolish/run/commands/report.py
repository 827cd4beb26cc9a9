"""The report of a run: one file for few tomograms; for many, an overview and a page for each.

Tomograms are read from the store one at a time, so that a thousand need no more memory than one.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

from tomopolish.dataset.files import unique_file_names
from tomopolish.dataset.opening import read_small
from tomopolish.errors import InputError, RunError
from tomopolish.output.note import NOTE_NAMES
from tomopolish.output.report.data import RunSummary, TomogramDetails, TomogramSummary, standing
from tomopolish.output.report.gather import tomogram_details, tomogram_summary
from tomopolish.output.report.page import (
    check_installed,
    write_overview,
    write_plotly,
    write_tomogram,
)
from tomopolish.plain_text import counted
from tomopolish.results.tomogram import MapComparison, TomogramResult
from tomopolish.results.verdict import Verdict, sentence, verdict
from tomopolish.run.comparison import read_comparison
from tomopolish.run.failures import Failure
from tomopolish.run.folder.guard import Guard
from tomopolish.run.folder.output import own_folder
from tomopolish.run.invocation import Invocation
from tomopolish.run.local import RunReport
from tomopolish.run.outputs import COMMAND, REPORT_NAME, AlignmentFolder
from tomopolish.run.reporter import Reporter
from tomopolish.run.store import FOLDER_NAME, DamagedResultError, ResultsStore, StoredResults

PAGES_NAME = "report"
UNFINISHED = "This run has not ended: the report shows its finished tomograms, not the sets in the folder."

ALL_IN_ONE = 8
"""Maximum number of tomograms whose details are in ``report.html``; if more, each has a separate page."""

LARGEST_NOTE_BYTES = 1 << 20


def write_report(
    folder: Path,
    results: Mapping[str, TomogramResult],
    failures: Mapping[str, str],
    maps: MapComparison | None = None,
    note: Sequence[str] = (),
) -> Path:
    """Write ``report.html``, and ``report/`` with a page per tomogram where they are many.

    Parameters
    ----------
    results
        Tomogram → result; each is looked up twice, so that the mapping may read it from disk.
    note
        Lines on the command, version and time of the run.

    Returns
    -------
    Path of the report.

    Raises
    ------
    RunError
        When a library is missing, or a file cannot be written.
    """
    check_installed()
    evidence = {name: results[name].statistics.evidence for name in results}
    outcome = verdict({name: e for name, e in evidence.items() if e is not None}, maps)
    summaries: list[TomogramSummary] = []
    details: list[TomogramDetails] = []
    pages: dict[str, str] = {}
    paged = len(results) > ALL_IN_ONE
    if paged:
        write_plotly(folder / PAGES_NAME)
    stems = unique_file_names(list(results))
    for name, result in results.items():
        summaries.append(tomogram_summary(name, result))
        shown = tomogram_details(name, result, standing(outcome, name))
        if shown is None:
            continue
        if paged:
            pages[name] = f"{PAGES_NAME}/{stems[name]}.html"
            write_tomogram(folder / pages[name], shown, f"../{REPORT_NAME}")
        else:
            details.append(shown)
    run = RunSummary(
        sentence=_sentence(outcome, summaries, maps),
        verdict=outcome,
        tomograms=summaries,
        failures=failures,
        note=note,
        maps=maps,
    )
    write_overview(folder / REPORT_NAME, run, details, pages)
    return folder / REPORT_NAME


def report_run(
    folder: AlignmentFolder, report: RunReport, reporter: Reporter, *, debug: bool = False
) -> Path | None:
    """Write the report of a run whose sets are written; a fault gives a warning and does not fail the run.

    Returns the path of the report; None where there is none.
    """
    if not folder.output.settings.run.report:
        return None
    if len(report.results) > ALL_IN_ONE:
        reporter.say(f"Writing the report of {len(report.results)} tomograms")
    try:
        with folder.out.new_files() as new:
            note = folder.store.run().get("note", [])
            write_report(new, report.results, report.failures, read_comparison(folder.out.folder), note)
    except Exception as error:
        if debug:
            traceback.print_exc()
        sentence = Failure.of(error).recorded(folder.out.folder, "report")
        reporter.warn(f"{REPORT_NAME} was left out: {sentence}")
        return None
    return folder.output.settings.run.output_folder / REPORT_NAME


def report_of_folder(
    folder: Path, invocation: Invocation, reporter: Reporter, *, overwrite: bool = False
) -> tuple[Path, Mapping[str, str]]:
    """Write the report of an output folder; for a run that has not ended, of its finished tomograms.

    A damaged stored result is left out, with a warning.

    Returns
    -------
    Path of the report, and the tomograms whose results are damaged: name → reason.

    Raises
    ------
    InputError
        When the folder holds no results, or is in use.
    RunError
        When a library is missing, or a file cannot be written.
    """
    store = ResultsStore(folder=folder / FOLDER_NAME)
    if not store.names():
        raise InputError(f"{folder} contains no results: give the output folder of tomopolish align")
    guard = Guard(folder=folder, shown=str(folder), command=COMMAND, overwrite=overwrite)
    with own_folder(guard, invocation.command, [REPORT_NAME]) as out:
        names, failures, note = _latest_run(store, out.folder)
        damaged = {name: sentence for name in names if (sentence := _damage(store, name)) is not None}
        for sentence in damaged.values():
            reporter.warn(sentence)
        results = StoredResults(store=store, names=[name for name in names if name not in damaged])
        if not results:
            raise InputError(f"{folder} contains no results that can be read: run tomopolish align again")
        with out.new_files(obsolete=is_page) as new:
            write_report(new, results, {**failures, **damaged}, read_comparison(out.folder), note)
    return folder / REPORT_NAME, damaged


def _latest_run(store: ResultsStore, folder: Path) -> tuple[list[str], dict[str, str], list[str]]:
    """Return the tomograms that the latest run refined, those that failed, and its note.

    For a run that has not ended, these are the results whose fingerprint matches its record; if there is no
    record, all results.
    """
    match store.run():
        case {"tomograms": list(names), "failures": dict(failures), "note": list(note)}:
            return list(names), failures, note
        case {"common": dict(common), "note": list(note)}:
            return [name for name in store.names() if _is_of(store, name, common)], {}, [*note, UNFINISHED]
        case {"note": list(note)}:
            return [], {}, note
    return store.names(), {}, _note(folder)


def _is_of(store: ResultsStore, name: str, common: Mapping[str, str]) -> bool:
    try:
        stored = store.read(name)
    except DamagedResultError:
        return True
    return stored is not None and common.items() <= stored.fingerprint.items()


def _damage(store: ResultsStore, name: str) -> str | None:
    """Return why a result cannot be read; None where it can."""
    try:
        store.load(name)
    except RunError as problem:
        return f"{problem}; tomopolish align with --only_do_unfinished refines it again"
    return None


def is_page(name: str) -> bool:
    """Return whether a file of an output folder belongs to its report."""
    return name == REPORT_NAME or name.startswith(f"{PAGES_NAME}/")


def _sentence(verdict: Verdict | None, summaries: list[TomogramSummary], maps: MapComparison | None) -> str:
    if verdict is not None or maps is not None:
        return sentence(verdict, maps)
    gain = sum(t.statistics.log_likelihood_gain for t in summaries)
    pairs = sum(t.statistics.visible_pairs for t in summaries)
    return (
        f"{sentence(None)} The log-likelihood per fitted particle image rose by {gain / max(pairs, 1):.3g} "
        f"({pairs} pairs in {counted(len(summaries), 'tomogram')}), which a fit "
        "to noise also achieves."
    )


def _note(folder: Path) -> list[str]:
    for name in reversed(NOTE_NAMES):
        with contextlib.suppress(OSError):
            return read_small(folder / name, LARGEST_NOTE_BYTES).decode("utf-8", "replace").splitlines()
    return []
