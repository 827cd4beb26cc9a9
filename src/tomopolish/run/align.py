"""A complete alignment run: from settings to refined sets and an exit status."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tomopolish import pipeline
from tomopolish.dataset.species import Project
from tomopolish.errors import TomopolishError
from tomopolish.imaging.devices import cuda_devices
from tomopolish.results.tomogram import MapComparison
from tomopolish.run.cluster.distributed import run_on_cluster
from tomopolish.run.cluster.launch import check_installed
from tomopolish.run.commands.report import report_run
from tomopolish.run.comparison import Structure, evaluate_maps
from tomopolish.run.devices import runner_for
from tomopolish.run.inputs import checked_project, show_unusable
from tomopolish.run.invocation import Invocation
from tomopolish.run.job_files import write_job_files
from tomopolish.run.local import Runner, RunReport, refine, show_closing
from tomopolish.run.outputs import AlignmentFolder, AlignmentOutput
from tomopolish.run.plan import beyond_memory, plan_run, show_finished, show_plan
from tomopolish.run.relion_job import PipelineControl, WatchedReporter
from tomopolish.run.reporter import Reporter, reporter_for
from tomopolish.run.species import species_lines, species_table
from tomopolish.run.streams import lost_messages
from tomopolish.run.work import Stages
from tomopolish.settings.alignment import AlignSettings

STAGES = Stages(prepare=pipeline.prepare_species, align_tomogram=pipeline.align_tomogram)
"""The computation of a run."""


def run_align(
    settings: AlignSettings,
    invocation: Invocation,
    *,
    reporter: Reporter | None = None,
    stages: Stages[Any] = STAGES,
) -> int:
    """Carry out a run and return its exit status: 1 when a tomogram failed, else 0.

    Raises
    ------
    TomopolishError
        When the inputs cannot be used, no tomogram could be refined, or the results cannot be written.
    """
    reporter = reporter or reporter_for(sys.stdout)
    control = PipelineControl(folder=settings.run.pipeline_folder)
    reporter = WatchedReporter(reporter, control)
    if settings.run.cluster is not None:
        check_installed(settings.run.cluster)
        if settings.run.cluster.is_local:
            cuda_devices(settings.run.device)  # refuses a device that this machine does not have
        runner: Runner = partial(
            run_on_cluster, cluster=settings.run.cluster, look=control.look, debug=invocation.debug
        )
    else:
        runner = runner_for(settings.run.device, debug=invocation.debug)
    project, unusable = checked_project(settings, reporter)
    lines = [*([] if project.is_single else species_lines(project, settings)), *project.conventions]
    output = AlignmentOutput(project=project, settings=settings, invocation=invocation, lines=lines)
    output.check()
    if settings.run.dry_run:
        return _show_plan(project, settings, stages, unusable, reporter)
    with output.folder(reporter) as folder:
        report = refine(
            project,
            settings,
            stages,
            reporter,
            store=folder.store,
            runner=runner,
            unusable=unusable,
        )
        written = folder.write_sets(report)
        structures = [
            Structure(name=s.name, before=s.dataset, after=path, box_px=s.box_px)
            for s, path in zip(project.species, written, strict=True)
        ]
        maps, page = _write_the_rest(folder, report, structures, reporter)
        if not project.is_single:
            reporter.show(species_table(project, report))
        sets = [settings.run.output_folder / name for name in folder.sets]
        show_closing(report, sets, reporter, maps, page)
        _keep_lost_messages(folder)
    return 1 if report.failures else 0


def _show_plan(
    project: Project,
    settings: AlignSettings,
    stages: Stages[Any],
    unusable: Mapping[str, str],
    reporter: Reporter,
) -> int:
    """Show the plan of a run, and return the exit status that it would have as far as can be foreseen."""
    too_large = beyond_memory(project, settings, [n for n in project.tomogram_names if n not in unusable])
    show_unusable(too_large, reporter)
    unusable = {**unusable, **too_large}
    show_plan(plan_run(project, settings, unusable), unusable, reporter)
    if settings.run.only_do_unfinished:
        show_finished(project, settings, stages, reporter)
    return 1 if unusable else 0


def _write_the_rest(
    folder: AlignmentFolder, report: RunReport, structures: Sequence[Structure], reporter: Reporter
) -> tuple[Mapping[str, MapComparison], Path | None]:
    """Write the comparison of maps, RELION's job files and the report, which follow the refined sets."""
    settings, debug = folder.output.settings, folder.output.invocation.debug
    maps = evaluate_maps(structures, settings, folder.out, reporter, debug=debug)
    if settings.run.pipeline_folder is not None:
        project = folder.output.project
        write_job_files(project, report, folder.out, settings.run.pipeline_folder)
    return maps, report_run(folder, report, reporter, debug=debug)


def _keep_lost_messages(folder: AlignmentFolder) -> None:
    """Add to the note that messages could not be shown, which does not fail a run whose sets are written."""
    lost = lost_messages()
    if lost:
        with contextlib.suppress(TomopolishError):
            folder.add_to_note(lost)
