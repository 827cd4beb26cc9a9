"""Cleaned sets: without particles and tilt images that show nothing of what the references predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tomopolish.dataset.cleaning import Choice, Criteria, choose, listed_counts
from tomopolish.dataset.files import shown_path
from tomopolish.dataset.project import Dataset, open_dataset
from tomopolish.dataset.relion.scores import FILE_NAME as SCORES
from tomopolish.dataset.relion.scores import read_scores
from tomopolish.dataset.selected import check_tilts, has_image_stacks, selected_files, write_selected
from tomopolish.dataset.species import Project, Species, join_species
from tomopolish.errors import InputError
from tomopolish.output.note import NOTE_NAMES, note_lines, write_note
from tomopolish.plain_text import first_names
from tomopolish.run.folder.guard import Guard
from tomopolish.run.folder.output import own_folder
from tomopolish.run.invocation import Invocation
from tomopolish.run.outputs import OPTIMISATION_SET, inputs_of, optimisation_sets
from tomopolish.run.reporter import Reporter
from tomopolish.run.rounds_folder import best_alignment, is_of_rounds
from tomopolish.settings.inputs import InputPaths, SpeciesPaths, species_name
from tomopolish.settings.refuse import refuse, refuse_unwritable

COMMAND = "select"
USUAL_PROBABILITY = 0.5
"""Probability below which particles are left out, unless an option says otherwise."""


@dataclass(frozen=True, kw_only=True)
class SelectSettings:
    """Options of a selection.

    Attributes
    ----------
    min_probability
        `--min_probability`: particles of a lower probability are left out.
    drop_flagged
        `--drop_flagged`: flagged particles are left out. With neither option, both apply, with a probability
        of 0.5.
    drop_tilts
        `--drop_tilts`: flagged tilt images are left out.
    overwrite
        Whether files that no earlier selection wrote may be replaced.
    """

    output_folder: Path
    min_probability: float | None = None
    drop_flagged: bool = False
    drop_tilts: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        refuse_unwritable("--o", self.output_folder)
        least = self.min_probability
        refuse(
            least is not None and not 0 <= least <= 1,
            f"--min_probability {least} must lie between 0 and 1; give such a probability",
        )

    @property
    def criteria(self) -> Criteria:
        """Which scores cost an item its place."""
        neither = self.min_probability is None and not self.drop_flagged
        return Criteria(
            min_probability=USUAL_PROBABILITY if neither else self.min_probability,
            flagged=self.drop_flagged or neither,
            tilts=self.drop_tilts,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Selection:
    """A selection that was written, with the new optimisation set of each species."""

    project: Project
    choice: Choice
    optimisation_sets: dict[str, Path]

    def sentences(self) -> list[str]:
        """Say how many particles and tilt images remain, why the others do not, and where the sets are."""
        choice, said = self.choice, []
        for species, chosen in zip(self.project.species, choice.particles, strict=True):
            total, left_out = len(chosen.reasons), listed_counts(chosen.counts())
            sentence = f"{chosen.reasons.count('')} of {total} particles remain"
            said.append(self.project.named(species, f"{sentence}{_after(left_out)}."))
            if chosen.emptied:
                said.append(
                    self.project.named(
                        species,
                        f"No particle of {first_names(chosen.emptied)} remains, so that particles.star does "
                        "not list any there.",
                    )
                )
        total = sum(map(len, choice.tilts.values()))
        counts, flagged, hint = choice.tilt_counts(), choice.flagged_tilts, ""
        if flagged and not counts:
            hint = f"; {flagged} {'is' if flagged == 1 else 'are'} flagged, which --drop_tilts leaves out"
        said.append(
            f"{total - sum(counts.values())} of {total} tilt images remain"
            f"{_after(listed_counts(counts))}{hint}."
        )
        sets = ", ".join(map(str, self.optimisation_sets.values()))
        return [*said, f"Optimisation set{'s' if len(self.optimisation_sets) > 1 else ''}: {sets}"]


def _after(left_out: str) -> str:
    return f"; left out: {left_out}" if left_out else ""


def sets_in(path: Path) -> list[Path]:
    """Return the optimisation sets of an output folder, or the one that a path is.

    Raises InputError when the folder has none.
    """
    if not path.is_dir():
        return [path]
    own = path / OPTIMISATION_SET
    found = [own] if own.exists() else sorted(path.glob(f"*/{OPTIMISATION_SET}"))
    if not found:
        raise InputError(
            f"--i {path}: there is no {OPTIMISATION_SET} in this folder; give the output folder of "
            "tomopolish align, or an optimisation set"
        )
    return found


def open_sets(paths: Sequence[Path], working_directory: Path | None = None) -> Project:
    """Open output folders and optimisation sets; several are species of the same tomograms.

    The working directory is that of `open_dataset`. Raises InputError when a set is missing or malformed, or
    two do not belong together.
    """
    sets = [found for path in paths for found in sets_in(path)]
    if len(sets) == 1:
        return Project.of(open_dataset(sets[0], working_directory=working_directory))
    named = [SpeciesPaths(name=species_name(path), optimisation_set=path, box_px=0) for path in sets]
    InputPaths(species=tuple(named))  # refuses species of the same name
    return join_species(
        [
            Species(
                name=one.name,
                dataset=open_dataset(one.optimisation_set, working_directory=working_directory),
                box_px=0,
            )
            for one in named
        ]
    )


def select_project(
    project: Project,
    scores: Sequence[Path],
    settings: SelectSettings,
    reporter: Reporter,
    invocation: Invocation,
) -> Selection:
    """Write the sets without the particles and tilt images that their scores leave out.

    Parameters
    ----------
    scores
        Files of scores, one for each species; none: those beside the optimisation sets.

    Raises
    ------
    InputError
        When scores are missing or belong to another set, nothing would remain, tilt images cannot be left
        out of a table, or a file would replace a file that it must not.
    RunError
        When a file cannot be written.
    """
    paths = _scores_of(project, scores)
    choice = choose(project, [read_scores(path) for path in paths], settings.criteria)
    remaining = choice.lost_tilts if settings.drop_tilts else None
    check_tilts(project.first.tomograms, remaining or {})
    folder = settings.output_folder
    guard = Guard(
        folder=project.first.files.working_directory / folder,
        shown=f"--o {folder}",
        command=COMMAND,
        inputs=inputs_of(project, paths),
        overwrite=settings.overwrite,
    )
    sets = optimisation_sets(project)
    started = datetime.now().astimezone()
    planned = selected_files(project, with_tomograms=remaining is not None)
    with (
        own_folder(guard, invocation.command, planned) as out,
        out.new_files(joining=sets, obsolete=lambda _: True) as new,
    ):
        remains = [chosen.remains for chosen in choice.particles]
        write_selected(project, remains, remaining, folder, new)
        selection = Selection(
            project=project,
            choice=choice,
            optimisation_sets={s.name: folder / name for s, name in zip(project.species, sets, strict=True)},
        )
        write_note(
            new / out.free_name(NOTE_NAMES), note_lines(invocation.command, started, selection.sentences())
        )
    for sentence in _warnings(selection):
        reporter.warn(sentence)
    return selection


def _scores_of(project: Project, stated: Sequence[Path]) -> list[Path]:
    """Return the file of scores of each species."""
    count = len(project.species)
    if stated:
        if len(stated) != count:
            times = "once" if count == 1 else f"once for each of the {count} species, in their order"
            raise InputError(f"--scores is given {len(stated)} times; give it {times}")
        return [project.first.files.working_directory / path for path in stated]
    return [_scores_beside(species.dataset) for species in project.species]


def _scores_beside(dataset: Dataset) -> Path:
    remedy = "name the file with --scores, or run tomopolish align (without --no_outliers), which writes it"
    source = dataset.files.source
    if source is None:
        raise InputError(f"there is no optimisation set beside which {SCORES} could be: {remedy}")
    path = (dataset.files.working_directory / source).with_name(SCORES)
    if not path.exists():
        remedy = _best_scores(path) or remedy
        raise InputError(f"{Path(source).with_name(SCORES)}: file not found; {remedy}")
    return path


def _best_scores(path: Path) -> str:
    """Return a remedy where scores are missing in the output of a polishing run; "" elsewhere."""
    folder = next((each for each in path.parents[:2] if is_of_rounds(each)), None)
    if folder is None:
        return ""
    best = best_alignment(folder)
    if best is None:
        return "its best round is the input, which has no scores: run tomopolish align, which writes them"
    shown = shown_path(best, Path.cwd())
    return f"the scores of tomopolish polish are in its rounds: give the best of them, --i {shown}"


def _warnings(selection: Selection) -> list[str]:
    project, choice = selection.project, selection.choice
    said = []
    for species, chosen in zip(project.species, choice.particles, strict=True):
        if chosen.unscored:
            said.append(
                project.named(
                    species,
                    f"all particles of {first_names(chosen.unscored)} remain, since they have no scores, as "
                    "where a tomogram failed",
                )
            )
        if choice.lost_tilts and has_image_stacks(species.dataset):
            said.append(
                project.named(
                    species,
                    "the particles' image stacks still have the tilt images that are left out: extract "
                    "the subtomograms again before another job reads them",
                )
            )
    if choice.without_tilts:
        said.append(
            f"no tilt image of {first_names(choice.without_tilts)} would remain: the particles there are "
            "left out instead"
        )
    return said
