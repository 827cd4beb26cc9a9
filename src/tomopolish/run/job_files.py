"""Files that RELION's GUI expects in a job's folder beside the refined sets."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from tomopolish.dataset.project import Dataset
from tomopolish.dataset.relion.pipeline_nodes import NODE_TYPES, write_output_nodes
from tomopolish.dataset.species import Project
from tomopolish.output.logfile import FILE_NAME, TomogramPage, write_logfile
from tomopolish.physics.geometry import rotation_vector, tomogram_centre_px
from tomopolish.run.folder.guard import Guard
from tomopolish.run.folder.output import OutputFolder, own_folder
from tomopolish.run.local import RunReport

MOST_PAGES = 200
"""Maximum number of tomograms with a page each: a PDF of thousands is of no use."""


def write_job_files(project: Project, report: RunReport, out: OutputFolder, job_folder: Path) -> None:
    """Write ``logfile.pdf`` and the list of results; raises TomopolishError when a file cannot be written."""
    beside = job_folder.resolve() == out.folder.resolve()
    with out.new_files() as new:
        pages = islice(_pages(project.first, report), MOST_PAGES)
        write_logfile(new / FILE_NAME, report.statistics, pages, report.failures, report.verdict)
        known = {*out.written.files, FILE_NAME}
        places = dict.fromkeys(["", *project.folders])
        results = [out.folder / f"{p}{name}" for p in places for name in NODE_TYPES if f"{p}{name}" in known]
        if beside:
            write_output_nodes(new, results, working_directory=Path.cwd())
    if not beside:
        guard = Guard(folder=job_folder, shown=f"--pipeline_control {job_folder}", command=out.guard.command)
        with own_folder(guard, [guard.command]) as job, job.new_files() as new:
            write_output_nodes(new, results, working_directory=Path.cwd())


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
