"""A complete alignment run: from settings to refined sets and an exit status."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from tomopolish import pipeline
from tomopolish.dataset.species import Project
from tomopolish.errors import TomopolishError
from tomopolish.imaging.devices import cuda_devices
from tomopolish.output.summary import FILE_NAME as SUMMARY_NAME
from tomopolish.output.table import Table
from tomopolish.run.cluster.distributed import refine_on_cluster, run_on_cluster
from tomopolish.run.cluster.launch import Cluster, check_installed, job_script
from tomopolish.run.commands.report import report_run
from tomopolish.run.comparison import evaluate_maps
from tomopolish.run.facts import show_start
from tomopolish.run.inputs import checked_project, open_project, show_unusable
from tomopolish.run.invocation import Invocation
from tomopolish.run.job_files import write_job_files
from tomopolish.run.journal.recording import warnings_beside_reports
from tomopolish.run.local import Runner, RunReport, refine, runner_for, show_closing
from tomopolish.run.outputs import AlignmentFolder, alignment_folder, check_output
from tomopolish.run.parts import part_of
from tomopolish.run.plan import Plan, TomogramSizes, plan_run, show_finished, show_plan
from tomopolish.run.relion_job import PipelineControl, WatchedReporter
from tomopolish.run.reporter import Reporter, reporter_for
from tomopolish.run.streams import lost_messages
from tomopolish.run.work import Stages
from tomopolish.settings.alignment import AlignSettings

STAGES = Stages(prepare=pipeline.prepare_species, align_tomogram=pipeline.align_tomogram)
"""The computation of a run."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AlignOutcome:
    """All that a run yields.

    Attributes
    ----------
    project
        The project that was refined.
    report
        Results and failures; None after a dry run.
    unusable
        Tomograms that a check found impossible to refine, with the reason.
    plan
        Estimates of a dry run; None after a run that refined.
    sets
        Refined optimisation sets, one for each species; none after a dry run.
    page
        The report, where there is one.
    """

    project: Project
    report: RunReport | None = None
    unusable: Mapping[str, str] = field(default_factory=dict)
    plan: Plan | None = None
    sets: tuple[Path, ...] = ()
    page: Path | None = None

    @property
    def exit_status(self) -> int:
        """Return 1 when a tomogram failed, or would fail, else 0."""
        return 1 if self.unusable or (self.report is not None and self.report.failures) else 0


def run_align(
    settings: AlignSettings,
    invocation: Invocation,
    *,
    stages: Stages[Any] = STAGES,
) -> int:
    """Carry out a run and return its exit status, 1 when a tomogram failed; raises as `align_project`."""
    return align_project(settings, invocation, reporter_for(sys.stdout), stages=stages).exit_status


def align_project(
    settings: AlignSettings,
    invocation: Invocation,
    reporter: Reporter,
    *,
    project: Project | None = None,
    stages: Stages[Any] = STAGES,
    control: PipelineControl | None = None,
    cluster: Cluster | None = None,
) -> AlignOutcome:
    """Carry out a run and return its results.

    Parameters
    ----------
    project
        The project that the settings name, with a box for each species, where it has been opened before.
    control
        Job of RELION's pipeline whose part this run is; None: that of the settings.
    cluster
        Open cluster of the settings, which lasts longer than this run; None: the run opens and closes it.

    Raises
    ------
    TomopolishError
        When the inputs cannot be used, no tomogram could be refined, or the results cannot be written.
    """
    control = control or PipelineControl(folder=settings.run.pipeline_folder)
    reporter = watched = WatchedReporter(reporter, control)
    runner = _runner(settings, control, cluster, debug=invocation.debug)
    if settings.run.only:
        project, settings = part_of(project or open_project(settings), settings)
    sizes = TomogramSizes(settings=settings) if settings.run.dry_run else None
    look = None if sizes is None else sizes.add
    project, unusable = checked_project(settings, reporter, project, look=look)
    lines = [*_species_lines(project, settings), *project.conventions]
    check_output(project, settings)
    if sizes is not None:
        return _show_plan(project, sizes, stages, unusable, reporter)
    with alignment_folder(project, settings, invocation, lines, reporter) as folder:
        show_start(project, settings, reporter)
        report = refine(
            project,
            settings,
            stages,
            reporter,
            store=folder.store,
            runner=runner,
            unusable=unusable,
        )
        if settings.run.only:
            return _stored_part(project, settings, report, reporter)
        written = folder.write_sets(report)
        folder.store.add_to_run(warnings=[*warnings_beside_reports(), *watched.warnings])
        report, page = _write_the_rest(folder, report, written, reporter)
        if not project.is_single:
            reporter.show(_species_table(project, report))
        sets = [settings.run.output_folder / name for name in folder.sets]
        show_closing(report, sets, reporter, page, settings.run.output_folder / SUMMARY_NAME)
        _keep_lost_messages(folder)
    return AlignOutcome(project=project, report=report, unusable=unusable, sets=tuple(sets), page=page)


def _stored_part(
    project: Project, settings: AlignSettings, report: RunReport, reporter: Reporter
) -> AlignOutcome:
    """Show the results of a run over some tomograms, which writes no sets."""
    show_closing(report, [], reporter)
    whole = settings.run.output_folder.parents[1]
    reporter.say(
        f"\nStored in {settings.run.output_folder}. The same command with --only_do_unfinished instead of "
        f"--only joins the finished tomograms, and writes the refined sets into {whole}"
    )
    return AlignOutcome(project=project, report=report)


def _species_lines(project: Project, settings: AlignSettings) -> list[str]:
    """Return the species of a run as lines for its note; none for a single one."""
    if project.is_single:
        return []
    return [
        f"species: {s.name} from {paths.optimisation_set}, box {s.box_px} px"
        for s, paths in zip(project.species, settings.inputs.species, strict=True)
    ]


def _species_table(project: Project, report: RunReport) -> Table:
    """Return a table of each species' refined particles."""
    rows = []
    for number, species in enumerate(project.species):
        counts = [len(result.alignments[number].rows) for result in report.results.values()]
        held = sum(count > 0 for count in counts)
        rows.append((species.name, f"{species.box_px}", f"{held}", f"{sum(counts)}"))
    return Table(
        title="Species (all determine the same projections)",
        columns=("species", "box\n(px)", "tomograms", "particles"),
        rows=rows,
    )


def align_in_memory(
    settings: AlignSettings, reporter: Reporter, project: Project, *, stages: Stages[Any] = STAGES
) -> AlignOutcome:
    """Refine an open project without writing anything; raises what `align_project` raises."""
    runner = runner_for(settings.run.device)
    project, unusable = checked_project(settings, reporter, project)
    show_start(project, settings, reporter, writes=False)
    report = refine(project, settings, stages, reporter, runner=runner, unusable=unusable)
    return AlignOutcome(project=project, report=report, unusable=unusable)


def _runner(
    settings: AlignSettings, control: PipelineControl, opened: Cluster | None, *, debug: bool
) -> Runner:
    """Return how the tomograms are carried out; raises TomopolishError where that is impossible here."""
    cluster = settings.run.cluster
    if cluster is None:
        return runner_for(settings.run.device, debug=debug)
    check_installed(cluster)
    if cluster.is_local:
        cuda_devices(settings.run.device)  # refuses one that this machine does not have
    if opened is not None:
        return partial(refine_on_cluster, opened, look=control.look, debug=debug)
    return partial(run_on_cluster, look=control.look, debug=debug)


def _show_plan(
    project: Project,
    sizes: TomogramSizes,
    stages: Stages[Any],
    unusable: Mapping[str, str],
    reporter: Reporter,
) -> AlignOutcome:
    """Show the plan of a run, and return it with the tomograms that are known to fail."""
    settings, plan = sizes.settings, plan_run(project, sizes, unusable)
    show_unusable({name: plan.unusable[name] for name in plan.unusable if name not in unusable}, reporter)
    show_plan(plan, reporter)
    cluster = settings.run.cluster
    if cluster is not None and cluster.slurm is not None:
        script = job_script(cluster, settings.run.threads, settings.run.output_folder)
        reporter.say(f"\nScript of each of the {cluster.workers} Slurm jobs:\n\n{script}")
    if settings.run.only_do_unfinished:
        show_finished(project, settings, stages, reporter)
    return AlignOutcome(project=project, unusable=plan.unusable, plan=plan)


def _write_the_rest(
    folder: AlignmentFolder, report: RunReport, refined: Sequence[Path], reporter: Reporter
) -> tuple[RunReport, Path | None]:
    """Write the comparison of maps, RELION's job files and the page; returns the results with the maps."""
    settings, debug = folder.settings, folder.debug
    if settings.run.evaluate:
        maps = evaluate_maps(folder.project, refined, settings, folder.out, reporter, debug=debug)
        report = replace(report, maps=maps)
    if settings.run.pipeline_folder is not None:
        write_job_files(folder, report, settings.run.pipeline_folder)
    return report, report_run(folder, report, reporter, debug=debug)


def _keep_lost_messages(folder: AlignmentFolder) -> None:
    """Add to the note that messages could not be shown, which does not fail a run whose sets are written."""
    lost = lost_messages()
    if lost:
        with contextlib.suppress(TomopolishError):
            folder.add_to_note(lost)
