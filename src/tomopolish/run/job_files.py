"""Files that RELION's GUI expects in a job's folder beside the refined sets."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from tomopolish.dataset.project import Dataset
from tomopolish.dataset.relion.pipeline_nodes import NODE_TYPES, write_output_nodes
from tomopolish.output.logfile import FILE_NAME, RunPages, TomogramPage, write_logfile
from tomopolish.output.next_steps import next_steps
from tomopolish.physics.geometry import rotation_vector, tomogram_centre_px
from tomopolish.results.tomogram import all_warnings
from tomopolish.run.folder.guard import Guard
from tomopolish.run.folder.output import own_folder
from tomopolish.run.local import RunReport
from tomopolish.run.outputs import REPORT_NAME, AlignmentFolder

MOST_PAGES = 200
"""Maximum number of tomograms with a page each: a PDF of thousands is of no use."""


def write_job_files(folder: AlignmentFolder, report: RunReport, job_folder: Path) -> None:
    """Write ``logfile.pdf`` and the list of results; raises TomopolishError when a file cannot be written."""
    project, out = folder.project, folder.out
    beside = job_folder.resolve() == out.folder.resolve()
    with out.new_files() as new:
        pages = islice(_pages(project.first, report), MOST_PAGES)
        write_logfile(new / FILE_NAME, _run_pages(folder, report), pages)
        known = {*out.written.files, FILE_NAME}
        places = dict.fromkeys(["", *project.folders])
        results = [out.folder / f"{p}{name}" for p in places for name in NODE_TYPES if f"{p}{name}" in known]
        if beside:
            write_output_nodes(new, results, working_directory=Path.cwd())
    if not beside:
        guard = Guard(folder=job_folder, shown=f"--pipeline_control {job_folder}", command=out.guard.command)
        with own_folder(guard, [guard.command]) as job, job.new_files() as new:
            write_output_nodes(new, results, working_directory=Path.cwd())


def _run_pages(folder: AlignmentFolder, report: RunReport) -> RunPages:
    """Return what the pages on all tomograms show."""
    settings = folder.settings.run
    page = settings.output_folder / REPORT_NAME
    return RunPages(
        statistics=report.statistics,
        failures=report.failures,
        outcome=report.verdict,
        warnings=all_warnings(folder.store.run().get("warnings", []), report.statistics),
        steps=next_steps(report.verdict, report.statistics, report.failures, folder.place),
        report=str(page) if settings.report else "",
    )


def _pages(dataset: Dataset, report: RunReport) -> Iterator[TomogramPage]:
    for name, result in report.results.items():
        series = dataset.tomograms.load(name)
        refined = result.alignment.projections_px
        centre = np.append(tomogram_centre_px(series.tomogram_size_px), 1.0)
        moved = (refined - series.projections_px)[:, :2] @ centre * series.pixel_size_angstrom
        turned = refined[:, :3, :3] @ np.swapaxes(series.projections_px[:, :3, :3], 1, 2)
        order = series.chronological
        yield TomogramPage(
            name=name,
            statistics=result.statistics,
            shifts_angstrom=moved[order],
            angles_degrees=np.rad2deg(np.linalg.norm(rotation_vector(turned), axis=1))[order],
        )
