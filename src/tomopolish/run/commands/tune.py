"""A complete tuning run: from settings to the motion prior and its plot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tomopolish import pipeline
from tomopolish.dataset.files import atomic_write
from tomopolish.dataset.project import Dataset
from tomopolish.dataset.screening import screening_warnings
from tomopolish.dataset.species import Project
from tomopolish.errors import RunError
from tomopolish.output.note import NOTE_NAMES, note_lines, write_note
from tomopolish.output.tuning import (
    candidates_table,
    distance_table,
    tuning_json,
    verdict,
    write_surface,
)
from tomopolish.pipeline.tuned import open_tomogram
from tomopolish.run.failures import Failure
from tomopolish.run.folder.guard import Guard
from tomopolish.run.folder.output import own_folder
from tomopolish.run.inputs import checked_project
from tomopolish.run.invocation import Invocation
from tomopolish.run.reporter import Reporter
from tomopolish.settings.alignment import AlignSettings, MotionSettings
from tomopolish.settings.refuse import refuse
from tomopolish.tune.tomogram import TunedTomogram
from tomopolish.tune.tuning import Tuning, distance_scales, tune

JSON_NAME, PLOT_NAME = "tune.json", "tune.svg"

EVALUATIONS_OF_A_PROFILE, EVALUATIONS_BESIDES = 5, 70
"""Evaluations of the evidence in one of usually two rounds, for the progress bar."""


@dataclass(frozen=True, kw_only=True)
class TuneSettings:
    """Options of a tuning.

    Attributes
    ----------
    align
        Settings of the alignment; the search starts at its motion prior.
    tomograms
        `--tomograms`: number of tomograms; those with most particles are used.
    max_particles
        `--max_particles`: maximum number of particles used in each tomogram.
    search_distance, search_kernel
        Whether `--s_div` and the kernel are also searched.
    """

    align: AlignSettings
    tomograms: int = 5
    max_particles: int = 100
    search_distance: bool = True
    search_kernel: bool = True

    def __post_init__(self) -> None:
        refuse(self.tomograms < 1, f"--tomograms {self.tomograms} leaves no tomogram: give 1 or more")
        refuse(
            self.max_particles < 5,
            f"--max_particles {self.max_particles} is too few: give 5 or more",
        )
        refuse(bool(self.align.inputs.species), "tune works on one species: give one --i and one --b")

    @property
    def motion(self) -> MotionSettings:
        """The motion prior at which the search starts."""
        return self.align.motion or MotionSettings()


@dataclass(frozen=True, kw_only=True, eq=False)
class TuneOutcome:
    """Result of a tuning run.

    Attributes
    ----------
    motion
        The prior for alignments; None where the images show no motion that neighbours share.
    tomograms
        Those that were used, in the order of `tuning.noises`.
    ready
        What the caller's `align_call` made of the prior.
    failures
        Tomogram → why it was left out.
    """

    tuning: Tuning
    motion: MotionSettings | None
    tomograms: tuple[str, ...]
    ready: str
    failures: Mapping[str, str]


def run_tune(
    settings: TuneSettings,
    invocation: Invocation,
    align_call: Callable[[MotionSettings | None], str],
    reporter: Reporter,
    *,
    project: Project | None = None,
) -> TuneOutcome:
    """Find the motion prior with the greatest evidence, and write it with its plot into the output folder.

    Parameters
    ----------
    align_call
        Writes down an alignment with a motion prior, or without motion (None).
    project
        The project that the settings name, with its box, where it has been opened before.

    Raises
    ------
    TomopolishError
        When the inputs cannot be used, no tomogram could be aligned, or the results cannot be written.
    """
    project, unusable = checked_project(settings.align, reporter, project)
    dataset = project.first
    names = most_particles(dataset, settings.tomograms, unusable)
    folder = settings.align.run.output_folder
    guard = Guard.of(dataset, folder, "tune", overwrite=settings.align.run.overwrite)
    with own_folder(guard, invocation.command, [JSON_NAME, PLOT_NAME]) as out:
        note = note_lines(invocation.command, datetime.now().astimezone())
        tuning, used, failures = _tuned(dataset, names, settings, reporter)
        motion = None if tuning.is_still else tuning.chosen.prior.settings
        ready = align_call(motion)
        with out.new_files() as new:
            with atomic_write(new / JSON_NAME) as stream:
                stream.write(tuning_json(tuning, used, ready))
            write_surface(new / PLOT_NAME, tuning)
            write_note(new / out.free_name(NOTE_NAMES), note)
        _show(folder, tuning, reporter, ready)
    return TuneOutcome(
        tuning=tuning,
        motion=motion,
        tomograms=tuple(used),
        ready=ready,
        failures={**unusable, **failures},
    )


def _tuned(
    dataset: Dataset, names: Sequence[str], settings: TuneSettings, reporter: Reporter
) -> tuple[Tuning, list[str], dict[str, str]]:
    """Return the tuning on the named tomograms, those that were used, and why others failed."""
    with reporter.open(len(names) + 1):
        tomograms, failures = _opened(dataset, names, settings, reporter)
        kernels = (False, True) if settings.search_kernel else (settings.motion.squared_exponential,)
        distances = [settings.motion.distance_scale]
        if settings.search_distance:
            distances = distance_scales(tomograms, settings.motion)
        about = 2 * (len(kernels) * len(distances) * EVALUATIONS_OF_A_PROFILE + EVALUATIONS_BESIDES)
        with reporter.tomogram("motion prior") as progress, progress.stage("evidence", about) as stage:
            tuning = tune(
                tomograms,
                settings.motion,
                distances,
                kernels,
                threads=settings.align.run.threads,
                advance=stage.advance,
            )
    return tuning, [t.series.name for t in tomograms], failures


def most_particles(dataset: Dataset, count: int, unusable: Mapping[str, str]) -> list[str]:
    """Return the names of the usable tomograms with most particles, in the order of the tomogram set."""
    usable = [name for name in dataset.tomogram_names if name not in unusable]
    rows = dataset.particles.rows_by_tomogram
    chosen = set(sorted(usable, key=lambda name: -len(rows[name]))[:count])
    return [name for name in usable if name in chosen]


def _opened(
    dataset: Dataset, names: Sequence[str], settings: TuneSettings, reporter: Reporter
) -> tuple[list[TunedTomogram], dict[str, str]]:
    prepared = pipeline.prepare(dataset.references(), settings.align)
    tomograms: list[TunedTomogram] = []
    failures: dict[str, str] = {}
    for name in names:
        try:
            with reporter.tomogram(name) as progress:
                series, particles = dataset.load(name)
                tomograms.append(
                    open_tomogram(
                        series,
                        particles,
                        prepared,
                        settings.align,
                        progress,
                        max_particles=settings.max_particles,
                    )
                )
            for sentence in screening_warnings(tomograms[-1].series):
                reporter.warn(sentence)
        except Exception as error:
            sentence = Failure.of(error).recorded(settings.align.run.output_folder, name)
            if settings.align.run.strict:
                raise RunError(f"{name} failed: {sentence}") from error
            failures[name] = sentence
            reporter.warn(f"{name} is left out: {sentence}")
    if not tomograms:
        first = next((f"{name}: {sentence}" for name, sentence in failures.items()), "none is usable")
        raise RunError(f"no tomogram could be aligned; {first}")
    return tomograms, failures


def _show(folder: Path, tuning: Tuning, reporter: Reporter, command: str) -> None:
    reporter.show(distance_table(tuning))
    reporter.show(candidates_table(tuning))
    reporter.say("")
    for sentence in verdict(tuning):
        reporter.say(sentence)
    reporter.say(f"Plot and figures: {folder / PLOT_NAME}, {folder / JSON_NAME}")
    reporter.say(f"\nAlign with\n\n{command}")
