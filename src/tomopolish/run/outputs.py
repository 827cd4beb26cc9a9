"""The output folder of an alignment and its files, from the first note to the refined sets."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePath

from tomopolish.dataset.files import safe_file_name, unique_file_names
from tomopolish.dataset.model import Alignment
from tomopolish.dataset.relion.pipeline_nodes import FILE_NAME as NODES_NAME
from tomopolish.dataset.relion.tomogram_writer import projections_file
from tomopolish.dataset.relion.tomograms import Dialect
from tomopolish.dataset.species import Project
from tomopolish.output.logfile import FILE_NAME as LOGFILE_NAME
from tomopolish.output.meshes import FOLDER_NAME as MESHES_FOLDER
from tomopolish.output.meshes import MAGNIFICATIONS, write_meshes
from tomopolish.output.next_steps import Place
from tomopolish.output.note import NOTE_NAMES, note_lines, write_note
from tomopolish.output.summary import FILE_NAME as SUMMARY_NAME
from tomopolish.output.summary import write_summary
from tomopolish.results.tomogram import TomogramResult
from tomopolish.run.comparison import FOLDER_NAME as COMPARISON_FOLDER
from tomopolish.run.comparison import MAPS, SLICES
from tomopolish.run.failures import RESUME
from tomopolish.run.folder.guard import Guard, Inputs
from tomopolish.run.folder.output import OutputFolder, check_folder, own_folder
from tomopolish.run.invocation import Invocation
from tomopolish.run.local import RunReport
from tomopolish.run.reporter import Reporter
from tomopolish.run.signals import say_at_the_end
from tomopolish.run.store import FOLDER_NAME, RUN_NAME, ResultsStore
from tomopolish.settings.alignment import AlignSettings

COMMAND = "align"
OPTIMISATION_SET = "optimisation_set.star"
REPORT_NAME = "report.html"

_DIAGNOSTICS = ("CCsum_*.mrc", "diag_*_frq_weight.mrc")


@dataclass(frozen=True, kw_only=True, eq=False)
class SpeciesAlignments(Mapping[str, Alignment]):
    """Tomogram → alignment of one species; read one at a time."""

    results: Mapping[str, TomogramResult]
    number: int

    def __getitem__(self, name: str) -> Alignment:
        return self.results[name].alignments[self.number]

    def __iter__(self) -> Iterator[str]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)


def write_refined_sets(
    project: Project, results: Mapping[str, TomogramResult], folder: Path, place: Path
) -> None:
    """Write the refined sets of all species into `place`; they name each other by their final `folder`.

    Raises RunError when a file cannot be written.
    """
    of_species = species_alignments(project, results)
    moving = any(a.trajectories_px is not None for alignments in of_species for a in alignments.values())
    project.write(folder, of_species, motion=moving, place=place, projections_in=FOLDER_NAME)


def species_alignments(project: Project, results: Mapping[str, TomogramResult]) -> list[SpeciesAlignments]:
    """Return the alignments of each species, in the project's order."""
    return [SpeciesAlignments(results=results, number=number) for number in range(len(project.species))]


def optimisation_sets(project: Project) -> list[str]:
    """Return the names of the optimisation sets of all species, within the output folder."""
    return [f"{name}{OPTIMISATION_SET}" for name in project.folders]


def inputs_of(project: Project, listed: Sequence[Path] = ()) -> Inputs:
    """Return the input files of a project, and the further files in `listed`."""
    datasets = [species.dataset for species in project.species]
    return Inputs(
        sets=lambda: [*listed, *(path for dataset in datasets for path in dataset.input_files())],
        images=lambda: [path for dataset in datasets for path in dataset.image_files()],
    )


def planned_files(project: Project, settings: AlignSettings) -> list[str]:
    """Return the names of the files that a run may write into its output folder."""
    tomograms = project.first.tomograms
    names, stems_of = ["tomograms.star", SUMMARY_NAME], unique_file_names(tomograms.names)
    if tomograms.dialect is Dialect.RELION_5:
        names += [f"tilt_series/{stem}.star" for stem in stems_of.values()]
    names += [f"{FOLDER_NAME}/{projections_file(stems_of[name])}" for name in project.tomogram_names]
    for folder, species in project.folders.items():
        dataset = species.dataset
        names += [
            f"{folder}{name}"
            for name in (OPTIMISATION_SET, "particles.star", "uncertainty.star", "scores.star")
        ]
        if settings.motion is None and dataset.trajectories is None:
            continue
        stems = unique_file_names(dataset.tomogram_names).values()
        meshes = [f"{MESHES_FOLDER}/{stem}_x{factor}.ply" for stem in stems for factor in MAGNIFICATIONS]
        names += [f"{folder}{name}" for name in ("motion.star", *meshes)]
    if settings.run.diagnostics:
        numbers = [""] if project.is_single else [f"_{n + 1}" for n in range(len(project.species))]
        shown = [safe_file_name(name) + number for name in project.tomogram_names for number in numbers]
        names += [pattern.replace("*", name) for name in shown for pattern in _DIAGNOSTICS]
    if settings.run.report:
        names.append(REPORT_NAME)
    if settings.run.evaluate:
        suffixes = ["", *(f"_{s.name}" for s in project.species[1:])]
        maps = [name for names in MAPS.values() for name in names]
        kinds = (*SLICES, *SLICES.values(), *maps)
        curves = [kind.format(suffix) for suffix in suffixes for kind in kinds]
        names += [f"{COMPARISON_FOLDER}/{curve}" for curve in curves]
    if settings.run.pipeline_folder is not None:
        names.append(LOGFILE_NAME)
        if settings.run.pipeline_folder.resolve() == settings.run.output_folder.resolve():
            names.append(NODES_NAME)
    return names


def check_output(project: Project, settings: AlignSettings) -> None:
    """Refuse a folder that cannot be used, or in which results would replace files that they must not.

    Nothing is changed there. Raises InputError, which names the file.
    """
    guard = _guard(project, settings)
    guard.check(planned_files(project, settings))
    check_folder(guard)


def _guard(project: Project, settings: AlignSettings) -> Guard:
    run = settings.run
    return Guard(
        folder=run.output_folder,
        shown=f"--o {run.output_folder}",
        command=COMMAND,
        inputs=inputs_of(project, [s.optimisation_set for s in settings.inputs.species]),
        overwrite=run.overwrite,
    )


@contextlib.contextmanager
def alignment_folder(
    project: Project,
    settings: AlignSettings,
    invocation: Invocation,
    lines: Sequence[str],
    reporter: Reporter,
) -> Iterator[AlignmentFolder]:
    """Own the output folder of a run within the block, and write a note there, which ends with `lines`.

    Raises InputError when the folder cannot be written, is in use, or a result would replace a file that
    it must not.
    """
    planned, run = planned_files(project, settings), settings.run
    with own_folder(_guard(project, settings), invocation.command, planned) as out:
        store = ResultsStore(folder=out.folder / FOLDER_NAME)
        out.claim(FOLDER_NAME, [*(store.path(name).name for name in project.tomogram_names), RUN_NAME])
        note = note_lines(invocation.command, datetime.now().astimezone(), lines)
        started = AlignmentFolder(
            project=project, settings=settings, debug=invocation.debug, out=out, store=store, note=note
        )
        if out.was_completed:
            reporter.say(f"{run.output_folder}: the files of an interrupted run are now all in place")
        out.standing = started.standing
        if started.has_earlier_sets() and not run.only_do_unfinished:
            reporter.say(
                f"{run.output_folder} has the result of an earlier run: it is replaced when this run has "
                "its own"
            )
        started.begin()
        say_at_the_end(started.standing())
        yield started


@dataclass(frozen=True, kw_only=True, eq=False)
class AlignmentFolder:
    """The output folder while it is owned by a run, with the store of the results of single tomograms."""

    project: Project
    settings: AlignSettings
    debug: bool
    out: OutputFolder
    store: ResultsStore
    note: Sequence[str]

    @property
    def sets(self) -> list[str]:
        """Optimisation sets of all species, within the folder."""
        return optimisation_sets(self.project)

    @property
    def place(self) -> Place:
        """Paths of the results, as the user named the folder."""
        folder, project = self.settings.run.output_folder, self.project
        return Place(
            folder=str(folder),
            sets=tuple(str(folder / name) for name in self.sets),
            boxes_px=tuple(species.box_px for species in project.species),
        )

    def begin(self) -> None:
        """Write this run's note; into the folder itself only if it has no refined sets of another run."""
        self.store.start_run(self.note)
        if not self.settings.run.only_do_unfinished:
            for path in self._diagnostics():
                path.unlink(missing_ok=True)
        if not self.has_earlier_sets():
            with self.out.new_files() as new:
                write_note(new / self.out.free_name(NOTE_NAMES), self.note)

    def write_sets(self, report: RunReport) -> list[Path]:
        """Move the refined sets into the folder, replacing all files of an earlier run; returns their paths.

        Raises RunError when a file cannot be written; the folder then is unchanged, or is completed by the
        next command.
        """
        run = self.settings.run
        shown = {path.name: f"{FOLDER_NAME}/{path.name}" for path in self._diagnostics() if run.diagnostics}
        with self.out.new_files(joining=self.sets, obsolete=self._is_obsolete, ready=shown) as new:
            project = self.project
            write_refined_sets(project, report.results, run.output_folder, new)
            alignments = species_alignments(project, report.results)
            for (name, species), of_species in zip(project.folders.items(), alignments, strict=True):
                write_meshes(new / name, species.dataset, of_species)
            write_summary(new / SUMMARY_NAME, report.statistics, report.failures, report.verdict)
            write_note(new / self.out.free_name(NOTE_NAMES), self.note)
        boxes = {name: s.box_px for name, s in zip(self.sets, project.species, strict=True)}
        self.store.add_to_run(tomograms=list(report.results), failures=dict(report.failures), boxes_px=boxes)
        return [self.out.folder / name for name in self.sets]

    def add_to_note(self, lines: Sequence[str]) -> None:
        """Append lines to the note; raises TomopolishError when it cannot be written."""
        name = self.out.free_name(NOTE_NAMES)
        with self.out.new_files() as new:
            write_note(new / name, [*self.note, *lines])

    def standing(self) -> str:
        """Return a sentence on what the folder contains and how to resume, for a run that is asked to end."""
        folder = self.settings.run.output_folder
        if self.out.put_in_place.issuperset(self.sets):
            return f"the refined sets in {folder} are complete, but a report or comparison may be missing"
        earlier = f"; those of an earlier run in {folder} are unchanged" if self.has_earlier_sets() else ""
        return f"no refined set was written{earlier}; {RESUME}"

    def has_earlier_sets(self) -> bool:
        """Return whether the folder has refined sets of an earlier run."""
        written = self.out.written.files
        return any(
            PurePath(name).name == OPTIMISATION_SET and (self.out.folder / name).exists() for name in written
        )

    def _is_obsolete(self, name: str) -> bool:
        kept = self.settings.run.only_do_unfinished and any(PurePath(name).match(p) for p in _DIAGNOSTICS)
        return not kept

    def _diagnostics(self) -> list[Path]:
        return [path for pattern in _DIAGNOSTICS for path in self.store.folder.glob(pattern)]
