"""The report of a run: one file for a few tomograms; for many, an overview with a page for each.

Tomograms are read from the store one at a time, so that a thousand need no more memory than one.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping
from pathlib import Path

from tomopolish.dataset.files import atomic_write, remove_leftovers
from tomopolish.errors import InputError, RunError
from tomopolish.output.meshes import mesh_file_names
from tomopolish.output.note import NOTE_NAME
from tomopolish.output.report.data import RunSummary, TomogramDetails, TomogramSummary, standing
from tomopolish.output.report.gather import tomogram_details, tomogram_summary
from tomopolish.output.report.page import (
    GENERATOR,
    check_installed,
    write_overview,
    write_plotly,
    write_tomogram,
)
from tomopolish.results.tomogram import MapComparison, TomogramResult
from tomopolish.results.verdict import Verdict, sentence, verdict
from tomopolish.run.comparison import read_comparison
from tomopolish.run.failures import Failure
from tomopolish.run.local import RunReport
from tomopolish.run.reporter import Reporter
from tomopolish.run.store import FOLDER_NAME, ResultsStore, StoredResults

REPORT_NAME = "report.html"
PAGES_NAME = "report"
LIST_NAME = "run.json"
"""Which tomograms a finished run holds, and which failed: kept beside the results of single tomograms."""

ALL_IN_ONE = 8
"""Tomograms whose details are part of ``report.html`` itself; of more, each has a page of its own."""


def write_report(
    folder: Path,
    results: Mapping[str, TomogramResult],
    failures: Mapping[str, str],
    maps: MapComparison | None = None,
) -> Path:
    """Write ``report.html``, and ``report/`` with a page per tomogram where they are many.

    Parameters
    ----------
    results
        Tomogram → result; each is looked up twice, so that a mapping may load them from disk.

    Returns
    -------
    Path of the report.

    Raises
    ------
    RunError
        When a library is missing, or a file cannot be written.
    """
    check_installed()
    remove_earlier(folder)
    evidence = {name: results[name].statistics.evidence for name in results}
    found = verdict({name: e for name, e in evidence.items() if e is not None})
    summaries: list[TomogramSummary] = []
    details: list[TomogramDetails] = []
    pages: dict[str, str] = {}
    paged = len(results) > ALL_IN_ONE
    if paged:
        remove_leftovers(folder / PAGES_NAME)
        write_plotly(folder / PAGES_NAME)
    stems = mesh_file_names(list(results))
    for name, result in results.items():
        summaries.append(tomogram_summary(name, result))
        one = tomogram_details(name, result, standing(found, name))
        if one is None:
            continue
        if paged:
            pages[name] = f"{PAGES_NAME}/{stems[name]}.html"
            write_tomogram(folder / pages[name], one, f"../{REPORT_NAME}")
        else:
            details.append(one)
    run = RunSummary(
        sentence=_sentence(found, summaries, maps),
        verdict=found,
        tomograms=summaries,
        failures=failures,
        note=_note(folder),
        maps=maps,
    )
    write_overview(folder / REPORT_NAME, run, details, pages)
    return folder / REPORT_NAME


def report_run(
    folder: Path, report: RunReport, reporter: Reporter, *, wanted: bool = True, debug: bool = False
) -> Path | None:
    """Write the report of a run that has written its sets; a fault in it costs a warning, not the run.

    Returns the path of the report, if there is one.
    """
    try:
        write_list(folder, report)
        remove_earlier(folder)
        if not wanted:
            return None
        if len(report.results) > ALL_IN_ONE:
            reporter.say(f"Writing the report of {len(report.results)} tomograms")
        return write_report(folder, report.results, report.failures, read_comparison(folder))
    except Exception as error:
        if debug:
            traceback.print_exc()
        sentence = Failure.of(error).recorded(folder, "report")
        reporter.warn(f"{REPORT_NAME} was left out: {sentence}")
        return None


def remove_earlier(folder: Path) -> None:
    """Remove the pages of an earlier report, which would contradict new results; other files stay."""
    for path in (folder / REPORT_NAME, *(folder / PAGES_NAME).glob("*.html")):
        try:
            with path.open("rb") as stream:
                ours = GENERATOR.encode() in stream.read(2000)
        except OSError:
            continue
        if ours:
            path.unlink(missing_ok=True)


def write_list(folder: Path, report: RunReport) -> None:
    """Leave what `report_of_folder` needs to know of a run; raises RunError when that is impossible."""
    with atomic_write(folder / FOLDER_NAME / LIST_NAME) as stream:
        json.dump({"tomograms": list(report.results), "failures": dict(report.failures)}, stream)


def report_of_folder(folder: Path) -> Path:
    """Write the report of an output folder from what it holds; of a run that did not end, as far as it came.

    Raises
    ------
    InputError
        When the folder holds no results.
    RunError
        When a library is missing, or a file cannot be read or written.
    """
    store = ResultsStore(folder=folder / FOLDER_NAME)
    try:
        listed = json.loads((store.folder / LIST_NAME).read_text(encoding="utf-8"))
        names, failures = list(listed["tomograms"]), dict(listed["failures"])
    except FileNotFoundError:
        names, failures = store.names(), {}
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise RunError(f"{store.folder / LIST_NAME} cannot be read ({problem}); run align again") from problem
    if not names:
        raise InputError(f"{folder} holds no results: name the output folder of tomopolish align")
    results = StoredResults(store=store, names=names)
    return write_report(folder, results, failures, read_comparison(folder))


def _sentence(found: Verdict | None, summaries: list[TomogramSummary], maps: MapComparison | None) -> str:
    if found is not None or maps is not None:
        return sentence(found, maps)
    gain = sum(t.statistics.log_likelihood_gain for t in summaries)
    pairs = sum(t.statistics.visible_pairs for t in summaries)
    return (
        f"{sentence(None)} The fitted particle images gained {gain / max(pairs, 1):.3g} in log-likelihood "
        f"each ({pairs} pairs in {len(summaries)} tomogram{'' if len(summaries) == 1 else 's'}), which a fit "
        "to noise also does."
    )


def _note(folder: Path) -> list[str]:
    try:
        return (folder / NOTE_NAME).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
