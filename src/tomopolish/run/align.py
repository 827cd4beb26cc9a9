"""A whole alignment run: from settings to refined sets and an exit status."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tomopolish import pipeline
from tomopolish.dataset.check import check_dataset
from tomopolish.dataset.model import References
from tomopolish.dataset.project import Dataset, open_dataset
from tomopolish.errors import TomopolishError
from tomopolish.imaging.devices import cuda_devices
from tomopolish.results.tomogram import MapComparison
from tomopolish.run.cluster.distributed import run_on_cluster
from tomopolish.run.cluster.launch import check_installed
from tomopolish.run.commands.report import report_run
from tomopolish.run.comparison import Structure, evaluate_maps
from tomopolish.run.devices import runner_for
from tomopolish.run.invocation import Invocation
from tomopolish.run.job_files import write_job_files
from tomopolish.run.local import Runner, RunReport, refine, show_closing
from tomopolish.run.outputs import AlignmentFolder, AlignmentOutput, species_folders
from tomopolish.run.plan import plan_run, plan_summary, plan_table
from tomopolish.run.relion_job import PipelineControl, WatchedReporter
from tomopolish.run.reporter import Reporter, reporter_for
from tomopolish.run.species import SPECIES_STAGES, checked_species, species_lines, species_table
from tomopolish.run.streams import lost_messages
from tomopolish.run.work import Project, Stages
from tomopolish.settings.alignment import AlignSettings, InputPaths


def _prepare_one(references: References, settings: AlignSettings) -> tuple[pipeline.PreparedReferences]:
    """Make the references of one structure ready."""
    return (pipeline.prepare(references, settings),)


STAGES = Stages(prepare=_prepare_one, align_tomogram=pipeline.align_tomogram)
"""The stages of a run with one structure."""


def open_inputs(paths: InputPaths) -> Dataset:
    """Open the data set that the options name; raises InputError when it is missing or malformed."""
    return open_dataset(
        paths.optimisation_set,
        tomograms=paths.tomograms,
        particles=paths.particles,
        trajectories=paths.trajectories,
        ref1=paths.half_map1,
        ref2=paths.half_map2,
        mask=paths.mask,
        fsc=paths.fsc,
        relion_version=paths.relion_version,
        selection=paths.tilts,
    )


def checked_inputs(settings: AlignSettings, reporter: Reporter) -> tuple[Dataset, dict[str, str]]:
    """Open the data set and check all of it before anything is computed; raises InputError.

    Returns it with the tomograms that cannot be refined, and why; with `strict` settings there are none.
    """
    dataset = open_inputs(settings.inputs)
    for sentence in dataset.conventions:
        reporter.say(sentence)
    unusable: dict[str, str] = {}
    for sentence in check_dataset(
        dataset, settings.windows.box_px, unusable=None if settings.run.strict else unusable
    ):
        reporter.warn(sentence)
    return dataset, unusable


def run_align(
    settings: AlignSettings,
    invocation: Invocation,
    *,
    reporter: Reporter | None = None,
    stages: Stages[Any] = STAGES,
) -> int:
    """Carry out a run; returns the exit status: 1 when a tomogram failed, else 0.

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
            cuda_devices(settings.run.device)  # refuses one that this machine does not have
        runner: Runner = partial(
            run_on_cluster, cluster=settings.run.cluster, look=control.look, debug=invocation.debug
        )
    else:
        runner = runner_for(settings.run.device, debug=invocation.debug)
    if settings.inputs.species:
        return _run_species(settings, invocation, reporter, runner)
    dataset, unusable = checked_inputs(settings, reporter)
    output = AlignmentOutput(
        project=dataset, settings=settings, invocation=invocation, lines=dataset.conventions
    )
    output.check()
    if settings.run.dry_run:
        return _show_plan(dataset, settings, reporter)
    with output.folder(reporter) as folder:
        report = refine(
            dataset,
            settings,
            stages,
            reporter,
            debug=invocation.debug,
            store=folder.store,
            runner=runner,
            unusable=unusable,
        )
        written = folder.write_sets(report)
        structures = [
            Structure(name="particles", before=dataset, after=written[0], box_px=settings.windows.box_px)
        ]
        maps, page = _write_the_rest(folder, report, structures, reporter)
        show_closing(report, settings.run.output_folder, reporter, maps=maps, page=page)
        _keep_lost_messages(folder)
    return 1 if report.failures else 0


def _run_species(
    settings: AlignSettings,
    invocation: Invocation,
    reporter: Reporter,
    runner: Runner,
) -> int:
    """Carry out a run with several species in the same tomograms; see `run_align`."""
    project, unusable = checked_species(settings, reporter)
    lines = species_lines(project, settings)
    output = AlignmentOutput(project=project, settings=settings, invocation=invocation, lines=lines)
    output.check()
    if settings.run.dry_run:
        return _show_plan(project, settings, reporter, project.boxes_px)
    with output.folder(reporter) as folder:
        report = refine(
            project,
            settings,
            SPECIES_STAGES,
            reporter,
            debug=invocation.debug,
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
        reporter.show(species_table(project, report))
        sets = [settings.run.output_folder / name for name in folder.sets]
        show_closing(report, settings.run.output_folder, reporter, sets, maps, page)
        _keep_lost_messages(folder)
    return 1 if report.failures else 0


def _write_the_rest(
    folder: AlignmentFolder, report: RunReport, structures: Sequence[Structure], reporter: Reporter
) -> tuple[Mapping[str, MapComparison], Path | None]:
    """Write what follows the refined sets: comparison of maps, RELION's job files, report."""
    settings, debug = folder.output.settings, folder.output.invocation.debug
    maps = evaluate_maps(structures, settings, folder.out, reporter, debug=debug)
    if settings.run.pipeline_folder is not None:
        species = list(species_folders(folder.output.project))
        write_job_files(structures[0].before, report, folder.out, settings.run.pipeline_folder, species)
    return maps, report_run(folder, report, reporter, debug=debug)


def _keep_lost_messages(folder: AlignmentFolder) -> None:
    """Add to the note what could not be shown; a run whose sets are written does not fail by that."""
    lost = lost_messages()
    if lost:
        with contextlib.suppress(TomopolishError):
            folder.add_to_note(lost)


def _show_plan(
    project: Project, settings: AlignSettings, reporter: Reporter, boxes_px: Sequence[int] | None = None
) -> int:
    """Show what a run would do, and what it would need; returns the exit status."""
    plans = plan_run(project, settings, boxes_px)
    reporter.show(plan_table(plans))
    reporter.say(f"\n{plan_summary(plans)}")
    return 0
