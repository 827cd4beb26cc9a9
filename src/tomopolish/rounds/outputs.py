"""The files of a polishing run in its own folder: the best round's sets and maps, tables and pages."""

from __future__ import annotations

import shutil
import traceback
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from tomopolish.dataset.mrc import read_header
from tomopolish.dataset.relion.pipeline_nodes import FILE_NAME as NODES_NAME
from tomopolish.dataset.relion.pipeline_nodes import write_output_nodes
from tomopolish.dataset.species import Project
from tomopolish.errors import RunStopped
from tomopolish.output.exports.chimerax import write_map_comparison
from tomopolish.output.note import NOTE_NAMES, note_lines, write_note
from tomopolish.output.rounds import FILE_NAME as TABLE_NAME
from tomopolish.output.rounds import write_rounds
from tomopolish.output.rounds_page import ComparedSlices, RoundsPage, write_page
from tomopolish.results.rounds import Round, best_round
from tomopolish.rounds.maps import FSC, SET, SHARPENED, SHARPENED_MASKED
from tomopolish.rounds.references import reopened
from tomopolish.run.failures import Failure
from tomopolish.run.folder.guard import Guard
from tomopolish.run.folder.output import OutputFolder, own_folder
from tomopolish.run.invocation import Invocation
from tomopolish.run.reporter import Reporter
from tomopolish.settings.polish import PolishSettings

COMMAND = "polish"
PAGE, COMPARISON = "report.html", "before_after.cxc"
COPIES = (FSC, SHARPENED, SHARPENED_MASKED)
"""Files of the best round that are copied into the run's folder, of several species into their folders."""


def planned_files(project: Project, settings: PolishSettings) -> list[str]:
    """Return the names of the files that a run may write into its folder, beside the rounds' folders."""
    names = [f"{folder}{name}" for folder in project.folders for name in (SET, *COPIES, COMPARISON)]
    names += [TABLE_NAME]
    names += [PAGE] if settings.align.run.report else []
    job = settings.align.run.pipeline_folder
    return [*names, NODES_NAME] if job is not None and _is_same(job, settings) else names


def _is_same(job_folder: Path, settings: PolishSettings) -> bool:
    return job_folder.resolve() == settings.align.run.output_folder.resolve()


def write_outputs(
    out: OutputFolder,
    rounds: Sequence[Round],
    project: Project,
    settings: PolishSettings,
    invocation: Invocation,
    reporter: Reporter,
    reason: str = "",
) -> Path | None:
    """Write what the run has reached so far: it names the best round; returns the report's path, if any.

    Raises RunError when a file cannot be written; a report that cannot be made only gives a warning.
    """
    best = best_round(rounds)
    note = note_lines(invocation.command, datetime.now().astimezone())
    job_folder, page = settings.align.run.pipeline_folder, None
    sets = [f"{name}{SET}" for name in project.folders]
    with out.new_files(joining=sets, obsolete=lambda _: True) as new:
        for name, before, after in zip(project.folders, *_map_folders(rounds), strict=True):
            (new / name).mkdir(exist_ok=True)
            for copied in (SET, *COPIES):
                shutil.copyfile(after / copied, new / name / copied)
            write_map_comparison(
                new / name / COMPARISON, (before / SHARPENED).absolute(), (after / SHARPENED).absolute()
            )
        write_rounds(new / TABLE_NAME, rounds)
        write_note(new / out.free_name(NOTE_NAMES), note)
        if settings.align.run.report:
            page = _write_page(new / PAGE, rounds, reason, note, out, reporter, invocation)
        if job_folder is not None and _is_same(job_folder, settings):
            write_output_nodes(new, _results(best, project, out), working_directory=Path.cwd())
    if job_folder is not None and not _is_same(job_folder, settings):
        guard = Guard(folder=job_folder, shown=f"--pipeline_control {job_folder}", command=COMMAND)
        with own_folder(guard, [COMMAND]) as job, job.new_files() as new:
            write_output_nodes(new, _results(best, project, out), working_directory=Path.cwd())
    return None if page is None else settings.align.run.output_folder / PAGE


def remove_outputs(out: OutputFolder, project: Project) -> None:
    """Remove what the run's folder names of its rounds, the optimisation sets first.

    Raises RunError when a file cannot be removed.
    """
    with out.new_files(joining=[f"{name}{SET}" for name in project.folders], obsolete=lambda _: True):
        pass


def _write_page(
    path: Path,
    rounds: Sequence[Round],
    reason: str,
    note: Sequence[str],
    out: OutputFolder,
    reporter: Reporter,
    invocation: Invocation,
) -> Path | None:
    try:
        folders = list(zip(*_map_folders(rounds), strict=True))
        content = RoundsPage(
            rounds=rounds,
            reason=reason,
            slices=[
                ComparedSlices.of(*[read_header(folder / SHARPENED).read_volume() for folder in pair])
                for pair in folders
            ],
            pixel_size_angstrom=read_header(folders[0][0] / SHARPENED).pixel_size_angstrom,
            note=note,
        )
        write_page(path, content)
    except RunStopped:
        raise
    except Exception as error:
        if invocation.debug:
            traceback.print_exc()
        path.unlink(missing_ok=True)
        reporter.warn(f"{PAGE} was left out: {Failure.of(error).recorded(out.folder, 'report')}")
        return None
    return path


def _map_folders(rounds: Sequence[Round]) -> tuple[list[Path], list[Path]]:
    """Return the folders of each species' maps, of the input and of the best round."""
    before, after = (
        [Path(maps.optimisation_set).parent for maps in each.species]
        for each in (rounds[0], best_round(rounds))
    )
    return before, after


def _results(best: Round, project: Project, out: OutputFolder) -> list[Path]:
    """Return the files that RELION's pipeline lists: sets, half maps, mask, maps and FSC."""
    parts = ("tomograms", "particles", "trajectories", "half map 1", "half map 2", "mask")
    refined = reopened(project, [Path(maps.optimisation_set) for maps in best.species])
    results: dict[Path, None] = {}  # in order, and the tomograms once for all species
    for name, species in refined.folders.items():
        paths = species.dataset.files.paths
        files = [paths[part] for part in parts if part in paths]
        results |= dict.fromkeys(
            [out.folder / name / SET, *files, *(out.folder / name / copied for copied in COPIES)]
        )
    return list(results)
