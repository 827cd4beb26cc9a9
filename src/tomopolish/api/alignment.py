"""`align` and `plan`: the refinement of a project, and what it would take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomopolish.api.keywords import AlignOptions, AnyPath, public
from tomopolish.api.plotting import Plots
from tomopolish.api.projects import project_of, python_call, with_boxes
from tomopolish.api.requests import align_request
from tomopolish.api.showing import Result, data_frame, named_table, reporter_of
from tomopolish.plain_text import counted
from tomopolish.run.invocation import Invocation
from tomopolish.settings.wording import in_python

if TYPE_CHECKING:
    import pandas
    from typing_extensions import Unpack

    from tomopolish.dataset.species import Project
    from tomopolish.output.table import Table
    from tomopolish.results.tomogram import MapComparison, TomogramResult
    from tomopolish.results.verdict import Verdict
    from tomopolish.run.plan import Plan

OUTCOMES = {
    "doubtful": "cannot be judged",
    "settled": "nothing left to gain",
    "helped": "helped",
    "harmed": "may have done harm",
    "open": "no evidence that it helped",
}
"""Kind of verdict → the words for it in a short description."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class AlignmentRun(Plots, Result):
    """A project after refinement.

    Attributes
    ----------
    project
        The project that was refined; it still has the input values. Each result has an alignment for each of
        its species, in their order.
    results
        Tomogram → refined geometry (`alignment`) and figures (`statistics`). With an output folder, a result
        is read from disk each time it is looked up.
    failures
        Tomogram → why it could not be refined.
    verdict
        Whether the refinement helped, judged by pairs held out of a first fit; None without evidence.
    warnings
        One sentence each.
    output_folder
        Where the results are; None: in memory only.
    optimisation_sets
        Species → its refined optimisation set.
    maps
        Species → comparison of half maps before and after; empty without `evaluate`.
    report_path
        ``report.html``, where there is one.
    """

    project: Project
    results: Mapping[str, TomogramResult]
    failures: Mapping[str, str]
    verdict: Verdict | None
    warnings: tuple[str, ...] = ()
    output_folder: Path | None = None
    optimisation_sets: Mapping[str, Path] = field(default_factory=dict)
    maps: Mapping[str, MapComparison] = field(default_factory=dict)
    report_path: Path | None = None

    @property
    def optimisation_set(self) -> Path | None:
        """The refined optimisation set of the first, usually the only, species; None in memory."""
        return next(iter(self.optimisation_sets.values()), None)

    def facts(self) -> list[str]:
        """Return the number of tomograms, the verdict, and where the results are."""
        failed = [f"{len(self.failures)} failed"] if self.failures else []
        place = "in memory" if self.output_folder is None else f"{self.output_folder}/"
        outcome = "not tested" if self.verdict is None else OUTCOMES[self.verdict.outcome]
        return [counted(len(self.results), "tomogram"), *failed, outcome, place]

    def sentence(self) -> str:
        """Say whether the refinement helped, by how much, and which tomograms got worse, as the command."""
        from tomopolish.results.verdict import sentence

        return sentence(self.verdict, next(iter(self.maps.values()), None))

    @property
    def tables(self) -> tuple[Table, ...]:
        """The command's closing tables: changes, evidence, maps, times."""
        from tomopolish.output.table import change_table, evidence_table, maps_table, time_table

        evidence = [] if self.verdict is None else [evidence_table(self._statistics, self.verdict)]
        maps = [maps_table(self.maps)] if self.maps else []
        return (change_table(self._statistics), *evidence, *maps, time_table(self._statistics))

    def remarks(self) -> tuple[str, ...]:
        """Return the warnings, which a notebook shows below the sentence."""
        return self.warnings

    def to_dataframe(self, table: str = "tomograms") -> pandas.DataFrame:
        """Return a table as a pandas DataFrame, whose columns have their units in their names.

        Parameters
        ----------
        table
            ``"tomograms"``: a row for each, including those that failed; ``"tilts"``: a row for each tilt
            image; ``"particles"``: a row for each particle.

        Raises
        ------
        InputError
            When there is no such table.
        RunError
            When pandas is not installed.
        """
        from tomopolish.output.rows import particle_rows, tilt_rows
        from tomopolish.output.summary import tomogram_rows

        species = [one.name for one in self.project.species]
        return named_table(
            table,
            {
                "tomograms": lambda: tomogram_rows(self._statistics, self.failures, self.verdict),
                "tilts": lambda: tilt_rows(self.results),
                "particles": lambda: particle_rows(self.results, species),
            },
        )

    @public()
    def write(self, folder: AnyPath, *, overwrite: bool = False) -> Path:
        """Write the refined sets and return the new optimisation set's path.

        Of several species, each has its set in a folder of its name; the first path is returned.
        A relative `folder` begins where the project's paths begin. Sets of an earlier refinement there are
        replaced.

        Raises
        ------
        InputError
            When another process writes into the folder, or files would be replaced that no refinement wrote:
            with `overwrite`, all but the inputs may be.
        RunError
            When a file cannot be written.
        """
        from tomopolish.run.folder.output import own_folder
        from tomopolish.run.outputs import optimisation_sets, write_refined_sets

        sets = optimisation_sets(self.project)
        command = python_call("align", self.project).command
        with own_folder(self._guard(folder, overwrite), command, sets) as out:
            with out.new_files(joining=sets, obsolete=lambda _: True) as new:
                write_refined_sets(self.project, self.results, Path(folder), new)
            return out.folder / sets[0]

    @public()
    def write_report(self, folder: AnyPath, *, overwrite: bool = False) -> Path:
        """Write ``report.html`` into a folder and return its path; see docs/report.md.

        A relative `folder` begins where the project's paths begin. Raises what `write` raises, and RunError
        when a library is missing.
        """
        from tomopolish.run.commands.report import is_page, write_report
        from tomopolish.run.folder.output import own_folder
        from tomopolish.run.outputs import REPORT_NAME

        command = python_call("align", self.project).command
        with own_folder(self._guard(folder, overwrite), command, [REPORT_NAME]) as out:
            with out.new_files(obsolete=is_page) as new:
                maps = next(iter(self.maps.values()), None)
                write_report(new, self.results, self.failures, maps, warnings=self._run_warnings())
            return out.folder / REPORT_NAME

    def _run_warnings(self) -> list[str]:
        """Return the warnings that belong to no single tomogram's result."""
        from tomopolish.results.tomogram import tomogram_warnings

        known = {in_python(sentence) for sentence in tomogram_warnings(self._statistics)}
        return [sentence for sentence in self.warnings if sentence not in known]

    def _guard(self, folder: AnyPath, overwrite: bool) -> Any:
        from tomopolish.run.folder.guard import Guard
        from tomopolish.run.outputs import COMMAND, inputs_of

        return Guard(
            folder=self.project.first.files.working_directory / folder,
            shown=str(folder),
            command=COMMAND,
            inputs=inputs_of(self.project),
            overwrite=overwrite,
        )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class AlignmentPlan(Result):
    """Plan and needs of a refinement whose inputs have been checked.

    Attributes
    ----------
    unusable
        Tomogram → why it could not be refined.
    notes
        What would be used, as sentences: resolution, mask, processors, memory, disk.
    warnings
        One sentence each.
    memory_bytes, seconds
        Estimates: memory of the largest tomogram, and time of all.
    """

    unusable: Mapping[str, str]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    memory_bytes: int
    seconds: float
    _plan: Plan

    def facts(self) -> list[str]:
        """Return the number of tomograms, memory and time."""
        number = counted(len(self._plan.tomograms), "tomogram")
        unusable = [f"{len(self.unusable)} unusable"] if self.unusable else []
        return [number, *unusable, f"{self.memory_bytes / 1e6:.0f} MB", f"{self.seconds:.0f} s"]

    def sentence(self) -> str:
        """Sum the plan up."""
        from tomopolish.run.plan import plan_summary

        return plan_summary(self._plan.tomograms, self.unusable)

    @property
    def tables(self) -> tuple[Table, ...]:
        """The command's table of tomograms."""
        from tomopolish.run.plan import plan_table

        return (plan_table(self._plan.tomograms),)

    def to_dataframe(self) -> pandas.DataFrame:
        """Return estimates as a pandas DataFrame, a row for each tomogram; raises RunError without pandas."""
        from dataclasses import asdict

        return data_frame([asdict(one) for one in self._plan.tomograms])


@public(AlignOptions)
def align(
    project: Project | AnyPath | Mapping[str, Project | AnyPath],
    output_folder: AnyPath | None = None,
    *,
    box_px: int | Mapping[str, int],
    range_px: int = 20,
    threads: int = 1,
    show_progress: bool = False,
    **options: Unpack[AlignOptions],
) -> AlignmentRun:
    """Refine all tomograms of a project, as `tomopolish align` does, and return the results.

    Parameters
    ----------
    project
        What `load` returns, or the path of an optimisation set; or species' name → one of these, for several
        species in the same tomograms, which then pull on the same projections.
    output_folder
        Receives all that the command writes: refined sets, stored results, note, report. Relative paths begin
        where the project's paths begin. None: the results are in memory only, until `AlignmentRun.write`.
    box_px, range_px
        Box around each particle (one, or species → box), and the largest displacement that is searched.
    threads
        Number of threads.
    show_progress
        Report on stdout as the command does, with warnings on stderr.
    **options
        Fields of `WindowSettings`, `WeightSettings` and `FitSettings`; ``device``, ``overwrite``, ``strict``,
        ``only_do_unfinished``, ``diagnostics``, ``evaluate``, ``report``, ``pipeline_folder`` and ``cluster``
        as in `RunSettings`; ``motion`` and ``deformation``: their settings, None to refine none;
        ``only``: tomograms that are refined and stored, without sets, for a later run over all
        (``only_do_unfinished=True``); ``exclude_tilts``: tomogram → numbers of the tilt images to leave out,
        from 1 in file order; ``max_tilt_angle_degrees``, ``max_dose`` (e⁻/Å² before an image): the largest
        that are used.

    Returns
    -------
    The results, tomogram by tomogram, and where they are. A tomogram that fails is among its `failures`.

    Raises
    ------
    InputError
        When arguments or data cannot work; nothing has been computed then.
    RunError
        When no tomogram could be refined, or the results cannot be written.
    """
    from tomopolish.run.align import align_in_memory, align_project

    chosen = with_boxes(project_of(project), box_px)
    keywords = {"box_px": box_px, "range_px": range_px, "threads": threads, **options}
    invocation = python_call("align", chosen, output_folder, **keywords)
    chosen, settings = align_request(chosen, output_folder, keywords)
    reporter = reporter_of(show_progress)
    if output_folder is None:
        outcome = align_in_memory(settings, reporter, chosen)
    else:
        outcome = align_project(settings, invocation, reporter, project=chosen)
    report = outcome.report
    assert report is not None, "only a dry run has none"
    names = [species.name for species in chosen.species]
    return AlignmentRun(
        project=chosen,
        results=report.results,
        failures={name: in_python(reason) for name, reason in report.failures.items()},
        verdict=report.verdict,
        warnings=reporter.warnings,
        output_folder=None if output_folder is None else settings.run.output_folder,
        optimisation_sets=dict(zip(names, outcome.sets, strict=False)),
        maps=report.maps,
        report_path=outcome.page,
    )


@public(AlignOptions)
def plan(
    project: Project | AnyPath | Mapping[str, Project | AnyPath],
    output_folder: AnyPath,
    *,
    box_px: int | Mapping[str, int],
    range_px: int = 20,
    threads: int = 1,
    show_progress: bool = False,
    **options: Unpack[AlignOptions],
) -> AlignmentPlan:
    """Check everything that `align` with these arguments would read, and return what it would do and need.

    It writes nothing, as `tomopolish align --dry_run`. Parameters and errors are those of `align`.
    """
    from tomopolish.run.align import align_project

    chosen = with_boxes(project_of(project), box_px)
    keywords = {"box_px": box_px, "range_px": range_px, "threads": threads, **options}
    chosen, settings = align_request(chosen, output_folder, keywords)
    settings = replace(settings, run=replace(settings.run, dry_run=True))
    reporter = reporter_of(show_progress)
    outcome = align_project(settings, Invocation(), reporter, project=chosen)
    planned = outcome.plan
    assert planned is not None, "each dry run has one"
    return AlignmentPlan(
        unusable={name: in_python(reason) for name, reason in outcome.unusable.items()},
        notes=tuple(in_python(fact) for fact in planned.facts),
        warnings=reporter.warnings,
        memory_bytes=max((one.memory_bytes for one in planned.tomograms), default=0),
        seconds=sum(one.seconds for one in planned.tomograms),
        _plan=planned,
    )
