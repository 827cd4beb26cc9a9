"""A polishing run: rounds of alignment, reconstruction and FSC until nothing gains."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from tomopolish.dataset.files import remove_leftovers
from tomopolish.dataset.species import Project, join_species
from tomopolish.errors import InputError
from tomopolish.output.rounds import gain_sentence, rounds_table
from tomopolish.physics.symmetry import point_group
from tomopolish.plain_text import listed
from tomopolish.results.rounds import LEAST_GAIN, Round, best_round, mean_fsc, reason_to_stop
from tomopolish.rounds import wording
from tomopolish.rounds.align import (
    changes,
    kept_groups,
    next_range_px,
    round_evidence,
    round_inputs,
    round_settings,
    turned_particles,
)
from tomopolish.rounds.earlier import refuse_other_run, start_again
from tomopolish.rounds.half_maps import MapTarget, maps_of_round
from tomopolish.rounds.journal import Journal, RunBasis, run_basis
from tomopolish.rounds.maps import FOLDER, SET, SpeciesMaps, are_complete, map_sizes
from tomopolish.rounds.outputs import COMMAND, planned_files, write_outputs
from tomopolish.rounds.plan import show_plan
from tomopolish.rounds.references import check_half_maps, has_references, reopened
from tomopolish.run.align import STAGES, AlignOutcome, align_project
from tomopolish.run.cluster.launch import Cluster, cluster_of_run
from tomopolish.run.cluster.maps import back_projector
from tomopolish.run.folder.guard import Guard
from tomopolish.run.folder.output import OutputFolder, check_folder, own_folder
from tomopolish.run.inputs import checked_project, open_project
from tomopolish.run.invocation import Invocation
from tomopolish.run.outputs import inputs_of
from tomopolish.run.plan import TomogramSizes
from tomopolish.run.relion_job import PipelineControl, WatchedReporter
from tomopolish.run.reporter import Reporter, reporter_for
from tomopolish.run.rounds_folder import round_name
from tomopolish.run.signals import say_at_the_end
from tomopolish.run.work import Stages
from tomopolish.settings.polish import PolishSettings

RESUME = "the same command with --only_do_unfinished continues with the round that is not finished"
FRAME = "one_frame"
"""Folder of a round's sets whose half sets were brought into one frame."""
ROUNDS_KEPT = 2
"""Rounds of another run that `--only_do_unfinished` keeps: their finished tomograms may be reused."""
LARGE_GAIN = 10 * LEAST_GAIN
"""Gain in FSC that held-out pairs must confirm where the references come from elsewhere."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PolishOutcome:
    """All that a polishing run yields.

    Attributes
    ----------
    rounds
        Every round, the input first; empty after a dry run.
    reason
        Why the run ended.
    optimisation_sets
        The best round's, one for each species; empty after a dry run.
    page
        The report, where there is one.
    """

    rounds: tuple[Round, ...] = ()
    reason: str = ""
    optimisation_sets: tuple[Path, ...] = ()
    page: Path | None = None
    unusable: dict[str, str] = field(default_factory=dict)

    @property
    def exit_status(self) -> int:
        """Return 1 when a tomogram failed in any round, or would fail, else 0."""
        return 1 if self.unusable or any(each.failures for each in self.rounds) else 0


def run_polish(settings: PolishSettings, invocation: Invocation, *, stages: Stages[Any] = STAGES) -> int:
    """Carry out a run and return its exit status; raises as `polish_project`."""
    return polish_project(settings, invocation, reporter_for(sys.stdout), stages=stages).exit_status


def polish_project(
    settings: PolishSettings,
    invocation: Invocation,
    reporter: Reporter,
    *,
    project: Project | None = None,
    stages: Stages[Any] = STAGES,
) -> PolishOutcome:
    """Carry out the rounds of a run, each of which is kept, and return what they gained.

    Parameters
    ----------
    project
        The project that the settings name, with a box for each species, where it has been opened before.

    Raises
    ------
    TomopolishError
        When the inputs cannot be used, a round cannot be computed, or its results cannot be written.
    """
    run = settings.align.run
    control = PipelineControl(folder=run.pipeline_folder)
    reporter = WatchedReporter(reporter, control)
    project = project or open_project(settings.align)
    for species in project.species:
        point_group(species.symmetry or settings.symmetry)  # refuses a symmetry that does not exist
        check_half_maps(species.dataset, settings)
    sizes_px = map_sizes(project, settings)
    uses_references = partial(has_references, settings=settings)
    sizes = TomogramSizes(settings=settings.align) if run.dry_run else None
    look = None if sizes is None else sizes.add
    project, unusable = checked_project(settings.align, reporter, project, uses_references, look)
    planned = planned_files(project, settings)
    guard = Guard(
        folder=run.output_folder,
        shown=f"--o {run.output_folder}",
        command=COMMAND,
        inputs=inputs_of(project, [named.optimisation_set for named in settings.align.inputs.species]),
        overwrite=run.overwrite,
    )
    guard.check(planned)
    check_folder(guard)
    basis = run_basis(project, settings)
    refuse_other_run(guard, basis, run)
    if sizes is not None:
        return PolishOutcome(unusable=show_plan(project, settings, sizes, sizes_px, unusable, reporter))
    with own_folder(guard, invocation.command, planned) as out:
        polisher = _Polisher(
            project=project,
            settings=settings,
            invocation=invocation,
            reporter=reporter,
            control=control,
            stages=stages,
            out=out,
            basis=basis,
            sizes_px=sizes_px,
        )
        return polisher.run()


@dataclass(kw_only=True, eq=False)
class _Polisher:
    """The rounds of one run in its folder."""

    project: Project
    settings: PolishSettings
    invocation: Invocation
    reporter: Reporter
    control: PipelineControl
    stages: Stages[Any]
    out: OutputFolder
    basis: RunBasis
    sizes_px: tuple[int, ...]
    rounds: list[Round] = field(default_factory=list)
    page: Path | None = None
    cluster: Cluster | None = None

    def run(self) -> PolishOutcome:
        """Carry out what is not finished yet."""
        resume = self.settings.align.run.only_do_unfinished
        journal = Journal(folder=self.out.folder)
        kept = self._take_up(journal) if resume else 0
        if not self.rounds:
            self._say_how_to_resume(0)
            start_again(self.out, self.project, kept)
        reason = reason_to_stop(self.rounds, self.settings.max_rounds) if self.rounds else None
        if reason is not None:
            self._report(reason)
        if reason is None:
            reason = self._remaining_rounds(journal, resume=resume)
        best = best_round(self.rounds)
        self.reporter.show(rounds_table(self.rounds))
        self.reporter.say(f"\n{reason} {gain_sentence(self.rounds)}")
        shown = [str(self.settings.align.run.output_folder / name / SET) for name in self.project.folders]
        self.reporter.say(f"Best: {round_name(best.number)}, named by {listed(shown)}")
        if self.page is not None:
            self.reporter.say(f"Report: {self.page}")
        for sentence in wording.failures(self.rounds):
            self.reporter.say(sentence)
        sets = tuple(self.out.folder / name / SET for name in self.project.folders)
        return PolishOutcome(rounds=tuple(self.rounds), reason=reason, optimisation_sets=sets, page=self.page)

    def _remaining_rounds(self, journal: Journal, *, resume: bool) -> str:
        """Carry out rounds until there is a reason to stop, and return it."""
        reason: str | None = None
        with cluster_of_run(self.settings.align.run, self.reporter, self.control.look) as self.cluster:
            while reason is None:
                number = len(self.rounds)
                self.out.claim(round_name(number), [])
                self._say_how_to_resume(number)
                try:
                    self.rounds.append(self._round(number, resume=resume))
                finally:  # the alignment within it speaks of itself
                    self._say_how_to_resume(number)
                journal.write(self.basis, self.rounds)
                reason = reason_to_stop(self.rounds, self.settings.max_rounds)
                self._report(reason or "")
        return reason

    def _take_up(self, journal: Journal) -> int:
        """Continue after the finished rounds of an earlier run; returns how many rounds' folders may stay."""
        changes = journal.changes(self.basis) if journal.exists() else ""
        if changes:
            self.reporter.say(f"All rounds of the earlier run are made again, because {changes}")
        earlier = journal.rounds(self.basis)
        for each in earlier:
            if not all(map(are_complete, self._map_folders(each.number), self.project.species)):
                self.reporter.say(
                    f"Files of {round_name(each.number)} are missing: it and all later rounds are made again"
                )
                break
            self.rounds.append(each)
        if self.rounds:
            done = [round_name(each.number) for each in self.rounds]
            self.reporter.say(f"Finished earlier: {', '.join(done)}")
            if len(done) < len(earlier):
                self._report()
                journal.write(self.basis, self.rounds)
        return max(len(earlier), ROUNDS_KEPT)

    def _say_how_to_resume(self, number: int) -> None:
        state = f"{round_name(number - 1)} is the last finished round" if number else "no round is finished"
        say_at_the_end(f"{state}; {RESUME}")

    def _round(self, number: int, *, resume: bool) -> Round:
        """Carry out one round and return it."""
        start = time.perf_counter()
        if number == 0:
            self.reporter.say("Round 0: half maps of the input")
            maps = self._maps(number, self.project, turned=False)
            return self._finished(Round(number=0, **_figures(maps)), start)
        range_px = next_range_px(self.rounds, self.settings, self.project.first.pixel_size_angstrom)
        outcome = self._align(number, range_px, resume=resume)
        report = outcome.report
        assert report is not None, "only a dry run has none"
        refined = reopened(self.project, outcome.sets)
        self.reporter.say(f"Round {number}: half maps")
        turned = turned_particles(self.settings.align, report.statistics)
        figures = _figures(self._maps(number, refined, turned=turned))
        failures = {**report.failures, **dict(figures["failures"])}
        result = Round(
            number=number,
            range_px=range_px,
            evidence=round_evidence(report.verdict),
            groups=kept_groups(report.statistics),
            tomograms=len(report.results),
            **{**figures, **changes(report.statistics), "failures": tuple(failures.items())},
        )
        return self._finished(result, start)

    def _maps(self, number: int, refined: Project, *, turned: bool) -> list[SpeciesMaps]:
        """Reconstruct a round's maps; half sets whose particles have turned are brought into one frame."""
        frame = self._folder(number) / FRAME
        for folder in (*self._map_folders(number), frame, *(frame / name for name in self.project.folders)):
            remove_leftovers(folder)
        masks: list[Path | None] = [None] * len(refined.species)
        if number:
            masks = [species.dataset.files.require("mask") for species in self._after(0).species]
        targets = [
            MapTarget(folder=folder, size_px=size_px, mask=mask)
            for folder, size_px, mask in zip(self._map_folders(number), self.sizes_px, masks, strict=True)
        ]
        return maps_of_round(
            refined,
            targets,
            frame if turned else None,
            self.settings.symmetry,
            back_projector(self.settings.align.run, self.cluster, self.reporter, self.control.look),
            self.reporter,
        )

    def _align(self, number: int, range_px: int, *, resume: bool) -> AlignOutcome:
        """Refine against the maps of the round before, or against the input's references."""
        before, from_input = self.rounds[-1], self._uses_input(number)
        lacking = [
            each.name
            for each, is_own in zip(before.species, from_input, strict=True)
            if not (is_own or each.resolves)
        ]
        if lacking:
            which = "" if before.is_single else f" of {listed(lacking)}"
            raise InputError(
                f"the half maps of the input{which} agree at no resolution, so that nothing can be refined "
                "against them: check orientations and positions, or give references (--ref1, --ref2)"
            )
        latest = self._after(before.number)
        species = [
            own if is_own else new
            for own, new, is_own in zip(self.project.species, latest.species, from_input, strict=True)
        ]
        sets = [
            None if is_own else Path(each.optimisation_set)
            for each, is_own in zip(before.species, from_input, strict=True)
        ]
        self.reporter.say(
            f"Round {number}: alignment within {range_px} px, against "
            f"{wording.references(before, from_input)}"
        )
        return align_project(
            round_settings(
                self.settings,
                self.settings.align.run.output_folder / round_name(number),
                round_inputs(self.settings.align.inputs, sets),
                range_px,
                resume=resume,
                first=number == 1,
            ),
            self.invocation,
            self.reporter,
            project=join_species(species),
            stages=self.stages,
            control=self.control,
            cluster=self.cluster,
        )

    def _uses_input(self, number: int) -> list[bool]:
        """Return for each species whether a round refines it against the input's references."""
        return [number == 1 and has_references(s.dataset, self.settings) for s in self.project.species]

    def _finished(self, result: Round, start: float) -> Round:
        """Complete a round, and say what it gained."""
        result = replace(result, seconds=time.perf_counter() - start)
        if result.number == 0:
            self.reporter.say(f"Round 0: {wording.resolution(result)}, before any refinement")
            return result
        rounds = [*self.rounds, result]
        if result.number == 1:
            values, evidence = mean_fsc(rounds), result.evidence
            unconfirmed = evidence is not None and (
                evidence.gain_per_pair <= evidence.standard_error_per_pair
            )
            rose = (values[1] > values[0] + LARGE_GAIN) & self._uses_input(1)
            if unconfirmed and rose.any():
                result = replace(result, model_bias=True)
                rounds[-1] = result
        self.reporter.say(wording.gain(rounds))
        return result

    def _report(self, reason: str = "") -> None:
        self.page = write_outputs(
            self.out, self.rounds, self.project, self.settings, self.invocation, self.reporter, reason
        )

    def _after(self, number: int) -> Project:
        """Return the project of a finished round, with its maps as references."""
        return reopened(self.project, [Path(s.optimisation_set) for s in self.rounds[number].species])

    def _folder(self, number: int) -> Path:
        return self.out.folder / round_name(number)

    def _map_folders(self, number: int) -> list[Path]:
        return [self._folder(number) / name / FOLDER for name in self.project.folders]


def _figures(maps: Sequence[SpeciesMaps]) -> dict[str, Any]:
    """Return the fields of `Round` that describe its maps."""
    failures = {name: reason for each in maps for name, reason in each.failures.items()}
    return {"species": tuple(each.figures() for each in maps), "failures": tuple(failures.items())}
