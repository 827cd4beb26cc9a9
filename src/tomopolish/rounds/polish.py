"""A polishing run: rounds of alignment, reconstruction and FSC until nothing gains."""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tomopolish.dataset.check import check_particles
from tomopolish.dataset.left_out import check_selection
from tomopolish.dataset.project import Dataset, open_dataset
from tomopolish.dataset.species import Project
from tomopolish.errors import InputError
from tomopolish.imaging.fsc import THRESHOLD
from tomopolish.output.rounds import gain_sentence, rounds_table
from tomopolish.physics.symmetry import point_group
from tomopolish.results.rounds import LEAST_GAIN, Round, best_round, gained, mean_fsc, reason_to_stop
from tomopolish.rounds.align import changes, kept_groups, next_range_px, round_evidence, round_settings
from tomopolish.rounds.frames import between_halves, write_in_one_frame
from tomopolish.rounds.journal import Journal, run_key
from tomopolish.rounds.maps import FOLDER, SET, RoundMaps, are_complete, make_maps, map_size
from tomopolish.rounds.outputs import COMMAND, planned_files, write_outputs
from tomopolish.rounds.plan import show_plan
from tomopolish.rounds.references import check_half_maps, has_references
from tomopolish.run.align import STAGES, AlignOutcome, align_project
from tomopolish.run.folder.guard import Guard, Inputs
from tomopolish.run.folder.output import OutputFolder, check_folder, own_folder
from tomopolish.run.inputs import open_inputs
from tomopolish.run.invocation import Invocation
from tomopolish.run.relion_job import PipelineControl, WatchedReporter
from tomopolish.run.reporter import Reporter, reporter_for
from tomopolish.run.signals import say_at_the_end
from tomopolish.run.work import Stages
from tomopolish.settings.inputs import InputPaths
from tomopolish.settings.polish import PolishSettings

RESUME = "the same command with --only_do_unfinished continues with the round that is not finished"
FRAME = "one_frame"
"""Folder of a round's sets whose half sets were brought into one frame."""
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
    optimisation_set
        The best round's; None after a dry run.
    page
        The report, where there is one.
    """

    rounds: tuple[Round, ...] = ()
    reason: str = ""
    optimisation_set: Path | None = None
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
    dataset: Dataset | None = None,
    stages: Stages[Any] = STAGES,
) -> PolishOutcome:
    """Carry out the rounds of a run, each of which is kept, and return what they gained.

    Parameters
    ----------
    dataset
        The data set that the settings name, where it has been opened before.

    Raises
    ------
    TomopolishError
        When the inputs cannot be used, a round cannot be computed, or its results cannot be written.
    """
    run = settings.align.run
    control = PipelineControl(folder=run.pipeline_folder)
    reporter = WatchedReporter(reporter, control)
    dataset = dataset or open_inputs(settings.align.inputs)
    check_selection(dataset.tomograms, dataset.selection)
    check_particles(dataset)
    dataset.check_columns()
    point_group(settings.symmetry)  # refuses a symmetry that does not exist
    size_px = map_size(dataset, settings)
    check_half_maps(dataset, settings)
    inputs = Inputs(sets=dataset.input_files, images=dataset.image_files)
    guard = Guard(
        folder=run.output_folder,
        shown=f"--o {run.output_folder}",
        command=COMMAND,
        inputs=inputs,
        overwrite=run.overwrite,
    )
    guard.check(planned_files(settings))
    check_folder(guard)
    if run.dry_run:
        return PolishOutcome(unusable=show_plan(dataset, settings, size_px, reporter))
    with own_folder(guard, invocation.command, planned_files(settings)) as out:
        polisher = _Polisher(
            dataset=dataset,
            settings=settings,
            invocation=invocation,
            reporter=reporter,
            control=control,
            stages=stages,
            out=out,
            size_px=size_px,
        )
        return polisher.run()


@dataclass(kw_only=True, eq=False)
class _Polisher:
    """The rounds of one run in its folder."""

    dataset: Dataset
    settings: PolishSettings
    invocation: Invocation
    reporter: Reporter
    control: PipelineControl
    stages: Stages[Any]
    out: OutputFolder
    size_px: int
    rounds: list[Round] = field(default_factory=list)
    page: Path | None = None

    def run(self) -> PolishOutcome:
        """Carry out what is not finished yet."""
        resume = self.settings.align.run.only_do_unfinished
        journal, key = Journal(folder=self.out.folder), run_key(self.dataset, self.settings)
        if not (resume or self.settings.align.run.overwrite) and journal.exists():
            raise InputError(
                f"{self.out.guard.shown} has the rounds of an earlier run: give --only_do_unfinished to "
                "continue it, --overwrite to make all rounds again, or another folder"
            )
        if resume:
            self._take_up(journal, key)
        if not self.rounds:
            self._clear(keep_first=resume)
        reason = None
        while reason is None:
            number = len(self.rounds)
            if number == 0 or (reason := reason_to_stop(self.rounds, self.settings.max_rounds)) is None:
                self.out.claim(_name(number), [])
                self._say_how_to_resume(number)
                try:
                    self.rounds.append(self._round(number, resume=resume))
                finally:  # the alignment within it speaks of itself
                    self._say_how_to_resume(number)
                journal.write(key, self.rounds)
                self._report()
        best = best_round(self.rounds)
        self._report(reason)
        self.reporter.show(rounds_table(self.rounds))
        self.reporter.say(f"\n{reason} {gain_sentence(self.rounds)}")
        shown = self.settings.align.run.output_folder / SET
        self.reporter.say(f"Best: {_name(best.number)}, named by {shown}")
        if self.page is not None:
            self.reporter.say(f"Report: {self.page}")
        return PolishOutcome(
            rounds=tuple(self.rounds), reason=reason, optimisation_set=self.out.folder / SET, page=self.page
        )

    def _take_up(self, journal: Journal, key: str) -> None:
        """Continue after the rounds that an earlier run has finished with the same options and inputs."""
        earlier = journal.read(key)
        for each in earlier:
            if not are_complete(self._folder(each.number) / FOLDER):
                break
            self.rounds.append(each)
        if self.rounds:
            self.reporter.say(f"Finished earlier: {', '.join(_name(each.number) for each in self.rounds)}")
        elif journal.exists():
            self.reporter.say(
                "Options, inputs or the program have changed since the earlier run: all rounds are made again"
            )

    def _clear(self, *, keep_first: bool) -> None:
        """Remove the rounds of an earlier run; raises InputError where an input is among them.

        With `keep_first` the first two rounds stay, whose finished tomograms may be reused.
        """
        folder = self.out.folder
        own = [
            name
            for name, command in self.out.written.folders.items()
            if command == COMMAND and name.startswith("round")
        ]
        files = [path.resolve() for path in (*self.dataset.input_files(), *self.dataset.image_files())]
        for name in own:
            for path in files:
                if path.is_relative_to((folder / name).resolve()):
                    raise InputError(
                        f"{self.out.guard.shown} would replace the input {path}: give another folder"
                    )
        for name in own:
            if not keep_first or name not in (_name(0), _name(1)):
                shutil.rmtree(folder / name, ignore_errors=True)

    def _say_how_to_resume(self, number: int) -> None:
        state = f"{_name(number - 1)} is the last finished round" if number else "no round is finished"
        say_at_the_end(f"{state}; {RESUME}")

    def _round(self, number: int, *, resume: bool) -> Round:
        """Carry out one round and return it."""
        start = time.perf_counter()
        if number == 0:
            self.reporter.say("Round 0: half maps of the input")
            maps = make_maps(
                self.dataset,
                self._folder(0) / FOLDER,
                self.size_px,
                self.settings,
                self.reporter,
                look=self.control.look,
            )
            return self._finished(Round(number=0, **_figures(maps)), maps, start)
        range_px = next_range_px(self.rounds, self.settings, self.dataset.pixel_size_angstrom)
        outcome = self._align(number, range_px, resume=resume)
        report = outcome.report
        assert report is not None, "only a dry run has none"
        refined = self._open(outcome.sets[0])
        maps = self._maps(number, refined)
        failures = {**report.failures, **maps.failures}
        result = Round(
            number=number,
            range_px=range_px,
            evidence=round_evidence(report.verdict),
            groups=kept_groups(report.statistics),
            tomograms=len(report.results),
            **{**_figures(maps), **changes(report.statistics), "failures": tuple(failures.items())},
        )
        return self._finished(result, maps, start)

    def _maps(self, number: int, refined: Dataset) -> RoundMaps:
        """Reconstruct a round's maps; again where the half sets first have to be brought into one frame."""
        place, mask = self._folder(number) / FOLDER, self._mask()

        def made(dataset: Dataset) -> RoundMaps:
            look = self.control.look
            return make_maps(dataset, place, self.size_px, self.settings, self.reporter, mask, look)

        self.reporter.say(f"Round {number}: half maps")
        maps = made(refined)
        apart = between_halves(maps) if self.settings.align.joint.orientations else None
        if apart is None:
            return maps
        self.reporter.say(
            f"Round {number}: the half maps are {apart.angle_degrees:.2f}° and "
            f"{np.linalg.norm(apart.shift_px) * maps.pixel_size_angstrom:.2f} Å apart; half set 2 is brought "
            "into the frame of half set 1"
        )
        return made(self._open(write_in_one_frame(refined, apart, self._folder(number) / FRAME)))

    def _align(self, number: int, range_px: int, *, resume: bool) -> AlignOutcome:
        """Refine against the maps of the round before, or against the input's references."""
        box_px = self.settings.align.windows.box_px
        if number == 1 and has_references(self.dataset, self.settings):
            dataset, inputs = self.dataset, self.settings.align.inputs
        else:
            if not self.rounds[-1].resolves:
                raise InputError(
                    "the half maps of the input agree at no resolution, so that nothing can be refined "
                    "against them: check orientations and positions, or give references (--ref1, --ref2)"
                )
            source = Path(self.rounds[number - 1].optimisation_set)
            dataset = self._open(source)
            given = self.settings.align.inputs
            inputs = InputPaths(
                optimisation_set=source, relion_version=given.relion_version, tilts=given.tilts
            )
        self.reporter.say(
            f"Round {number}: alignment within {range_px} px, against {self._reference(number)}"
        )
        return align_project(
            round_settings(
                self.settings,
                self.settings.align.run.output_folder / _name(number),
                inputs,
                range_px,
                resume=resume,
                first=number == 1,
            ),
            self.invocation,
            self.reporter,
            project=Project.of(dataset, box_px),
            stages=self.stages,
            control=self.control,
        )

    def _reference(self, number: int) -> str:
        if number == 1 and has_references(self.dataset, self.settings):
            return "the input's references"
        return f"half maps of round {number - 1} ({self.rounds[-1].resolution_angstrom[0]:.2f} Å)"

    def _finished(self, result: Round, maps: RoundMaps, start: float) -> Round:
        """Complete a round, and say what it gained."""
        result = replace(result, seconds=time.perf_counter() - start)
        rounds = [*self.rounds, result]
        if result.number == 0:
            self.reporter.say(f"Round 0: {_resolution(result)}, before any refinement")
            return result
        if result.number == 1 and has_references(self.dataset, self.settings):
            values, evidence = mean_fsc(rounds), result.evidence
            unconfirmed = evidence is not None and (
                evidence.gain_per_pair <= evidence.standard_error_per_pair
            )
            if unconfirmed and values[1] > values[0] + LARGE_GAIN:
                result = replace(result, model_bias=True)
                rounds[-1] = result
        values = mean_fsc(rounds)
        how = "gained" if gained(rounds, len(rounds) - 1) else "did not gain"
        self.reporter.say(
            f"Round {result.number} {how}: {_resolution(result)}, {_resolution(rounds[-2])} before; mean FSC "
            f"{values[-2]:.3f} → {values[-1]:.3f}"
        )
        return result

    def _report(self, reason: str = "") -> None:
        self.page = write_outputs(
            self.out, self.rounds, self.dataset, self.settings, self.invocation, self.reporter, reason
        )

    def _mask(self) -> Path:
        first = self._open(Path(self.rounds[0].optimisation_set))
        return first.files.require("mask")

    def _folder(self, number: int) -> Path:
        return self.out.folder / _name(number)

    def _open(self, optimisation_set: Path) -> Dataset:
        return open_dataset(
            optimisation_set.absolute(),
            working_directory=self.dataset.files.working_directory,
            relion_version=self.dataset.relion_version,
            selection=self.dataset.selection,
        )


def _name(number: int) -> str:
    return f"round{number:02d}"


def _resolution(each: Round) -> str:
    if not each.resolves:
        return "half maps agree at no resolution"
    return f"FSC {THRESHOLD:g} at {each.resolution_angstrom[0]:.2f} Å"


def _figures(maps: RoundMaps) -> dict[str, Any]:
    """Return the fields of `Round` that describe its maps."""
    high, half = (maps.fsc.resolution_angstrom(maps.pixel_size_angstrom, t) for t in (THRESHOLD, 0.5))
    return {
        "optimisation_set": str(maps.optimisation_set),
        "fsc": tuple(float(value) for value in maps.fsc.corrected),
        "resolution_angstrom": (high, half),
        "bfactor_angstrom2": maps.bfactor_angstrom2,
        "failures": tuple(maps.failures.items()),
    }
