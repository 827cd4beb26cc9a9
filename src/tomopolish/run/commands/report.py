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
from tomopolish.output.next_steps import Place, next_steps
from tomopolish.output.note import NOTE_NAMES
from tomopolish.output.report.data import RunSummary, TomogramSummary
from tomopolish.output.report.gather import tomogram_details, tomogram_summary
from tomopolish.output.report.page import (
    PageLinks,
    check_installed,
    write_overview,
    write_plotly,
    write_tomogram,
)
from tomopolish.plain_text import counted
from tomopolish.results.tomogram import MapComparison, TomogramResult, all_warnings
from tomopolish.results.verdict import Verdict, sentence, verdict, worst_first
from tomopolish.run.comparison import read_comparison
from tomopolish.run.failures import Failure
from tomopolish.run.folder.guard import Guard
from tomopolish.run.folder.output import own_folder
from tomopolish.run.invocation import Invocation
from tomopolish.run.local import RunReport
from tomopolish.run.outputs import COMMAND, OPTIMISATION_SET, REPORT_NAME, AlignmentFolder
from tomopolish.run.reporter import Reporter
from tomopolish.run.rounds_folder import best_alignment, is_of_rounds, round_name
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
    *,
    warnings: Sequence[str] = (),
    place: Place | None = None,
) -> Path:
    """Write ``report.html``, and ``report/`` with a page per tomogram where they are many.

    Parameters
    ----------
    results
        Tomogram → result; each is looked up twice, so that the mapping may read it from disk.
    note
        Lines on the command, version and time of the run.
    warnings
        Warnings of the run; those of single tomograms are added.
    place
        Where the run's results are, for the commands that continue with them; None: in memory.

    Returns
    -------
    Path of the report.

    Raises
    ------
    RunError
        When a library is missing, or a file cannot be written.
    """
    check_installed()
    summaries = {name: tomogram_summary(name, result) for name, result in results.items()}
    statistics = {name: summary.statistics for name, summary in summaries.items()}
    evidence = {name: s.evidence for name, s in statistics.items() if s.evidence is not None}
    outcome = verdict(evidence, maps)
    ranked = worst_first(statistics, outcome)
    run = RunSummary(
        sentence=_sentence(outcome, list(summaries.values()), maps),
        verdict=outcome,
        tomograms=[summaries[name] for name in ranked],
        failures=failures,
        note=note,
        maps=maps,
        warnings=all_warnings(warnings, statistics),
        next_steps=next_steps(outcome, statistics, failures, place),
    )
    if len(ranked) > ALL_IN_ONE:
        details, pages = [], _write_pages(folder, run, results)
    else:
        shown = [tomogram_details(name, results[name], run.verdict_on(name)) for name in ranked]
        details, pages = [d for d in shown if d is not None], {}
    write_overview(folder / REPORT_NAME, run, details, pages)
    return folder / REPORT_NAME


def _write_pages(folder: Path, run: RunSummary, results: Mapping[str, TomogramResult]) -> dict[str, str]:
    """Write a page for each tomogram that has details; returns their paths within the folder."""
    write_plotly(folder / PAGES_NAME)
    stems = unique_file_names(list(results))
    names = [summary.name for summary in run.tomograms if summary.has_details]
    for number, name in enumerate(names):
        shown = tomogram_details(name, results[name], run.verdict_on(name))
        assert shown is not None
        before, after = names[number - 1 : number], names[number + 1 : number + 2]
        ways = PageLinks(
            overview=f"../{REPORT_NAME}",
            previous=next((f"{stems[n]}.html" for n in before), None),
            following=next((f"{stems[n]}.html" for n in after), None),
            place=f"{number + 1} of {len(names)}",
        )
        write_tomogram(folder / PAGES_NAME / f"{stems[name]}.html", shown, ways)
    return {name: f"{PAGES_NAME}/{stems[name]}.html" for name in names}


def report_run(
    folder: AlignmentFolder, report: RunReport, reporter: Reporter, *, debug: bool = False
) -> Path | None:
    """Write the report of a run whose sets are written; a fault gives a warning and does not fail the run.

    Returns the path of the report; None where there is none.
    """
    if not folder.settings.run.report:
        return None
    if len(report.results) > ALL_IN_ONE:
        reporter.say(f"Writing the report of {len(report.results)} tomograms")
    try:
        with folder.out.new_files() as new:
            record = folder.store.run()
            write_report(
                new,
                report.results,
                report.failures,
                read_comparison(folder.out.folder),
                record.get("note", []),
                warnings=_texts(record.get("warnings")),
                place=folder.place,
            )
    except Exception as error:
        if debug:
            traceback.print_exc()
        sentence = Failure.of(error).recorded(folder.out.folder, "report")
        reporter.warn(f"{REPORT_NAME} was left out: {sentence}")
        return None
    return folder.settings.run.output_folder / REPORT_NAME


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
        raise InputError(f"{folder} contains no results: {_place_of_results(folder)}")
    guard = Guard(folder=folder, shown=str(folder), command=COMMAND, overwrite=overwrite)
    with own_folder(guard, invocation.command, [REPORT_NAME]) as out:
        names, failures, note, warnings = _latest_run(store, out.folder)
        damaged = {name: sentence for name in names if (sentence := _damage(store, name)) is not None}
        for sentence in damaged.values():
            reporter.warn(sentence)
        results = StoredResults(store=store, names=[name for name in names if name not in damaged])
        if not results:
            raise InputError(f"{folder} contains no results that can be read: run tomopolish align again")
        with out.new_files(obsolete=is_page) as new:
            write_report(
                new,
                results,
                {**failures, **damaged},
                read_comparison(out.folder),
                note,
                warnings=warnings,
                place=_place(folder, store.run()),
            )
    return folder / REPORT_NAME, damaged


def _place_of_results(folder: Path) -> str:
    """Return which folder to give where one has no results."""
    if is_of_rounds(folder):
        one_round = best_alignment(folder) or folder / round_name(1)
        return f"those of tomopolish polish are in its rounds; give one of them, such as {one_round}"
    return "give the output folder of tomopolish align"


def _latest_run(store: ResultsStore, folder: Path) -> tuple[list[str], dict[str, str], list[str], list[str]]:
    """Return the tomograms that the latest run refined, those that failed, its note, and its warnings.

    For a run that has not ended, these are the results whose fingerprint matches its record; if there is no
    record, all results.
    """
    record = store.run()
    warnings = _texts(record.get("warnings"))
    match record:
        case {"tomograms": list(names), "failures": dict(failures), "note": list(note)}:
            return list(names), failures, note, warnings
        case {"common": dict(common), "note": list(note)}:
            known = [name for name in store.names() if _is_of(store, name, common)]
            return known, {}, note, [UNFINISHED, *warnings]
        case {"note": list(note)}:
            return [], {}, note, warnings
    return store.names(), {}, _note(folder), warnings


def _texts(value: object) -> list[str]:
    """Return the texts in a list of a run's record, which may be that of another version."""
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def _place(folder: Path, record: Mapping[str, object]) -> Place:
    """Return the refined sets in an output folder, with the boxes that the run's record states."""
    sets = sorted(folder.glob(OPTIMISATION_SET)) or sorted(folder.glob(f"*/{OPTIMISATION_SET}"))
    boxes = record.get("boxes_px")
    known = boxes if isinstance(boxes, dict) else {}
    names = [str(path.relative_to(folder)) for path in sets]
    sizes = [known[name] for name in names if isinstance(known.get(name), int)]
    return Place(folder=str(folder), sets=tuple(map(str, sets)), boxes_px=tuple(sizes))


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
