"""Runs with several species in the same tomograms: the steps that differ from those with one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tomopolish import pipeline
from tomopolish.dataset.check import check_output_folder
from tomopolish.dataset.files import remove_leftovers
from tomopolish.dataset.model import Alignment
from tomopolish.dataset.project import open_dataset
from tomopolish.dataset.species import (
    SpeciesDataset,
    SpeciesReferences,
    SpeciesSet,
    check_species,
    join_species,
)
from tomopolish.errors import InputError
from tomopolish.output.table import Table
from tomopolish.results.tomogram import TomogramResult
from tomopolish.run.commands.meshes import write_meshes
from tomopolish.run.local import RunReport
from tomopolish.run.reporter import Reporter
from tomopolish.run.work import Stages
from tomopolish.settings.alignment import AlignSettings

SpeciesPrepared = tuple[pipeline.PreparedReferences, ...]


def prepare_species(references: Sequence[SpeciesReferences], settings: AlignSettings) -> SpeciesPrepared:
    """Make the references of each species ready, in its own box."""
    return tuple(
        pipeline.prepare(r.references, replace(settings, windows=replace(settings.windows, box_px=r.box_px)))
        for r in references
    )


SPECIES_STAGES = Stages(prepare=prepare_species, align_tomogram=pipeline.align_tomogram)


def open_species(settings: AlignSettings) -> SpeciesSet:
    """Open the data sets of all species; raises InputError when one cannot be used, or they disagree."""
    found = []
    for species in settings.inputs.species:
        replace(settings.windows, box_px=species.box_px)  # refuses a box that does not fit the range
        dataset = open_dataset(
            species.optimisation_set,
            tomograms=settings.inputs.tomograms,
            relion_version=settings.inputs.relion_version,
            selection=settings.inputs.tilts,
        )
        found.append(SpeciesDataset(name=species.name, dataset=dataset, box_px=species.box_px))
    return join_species(found)


def checked_species(settings: AlignSettings, reporter: Reporter) -> tuple[SpeciesSet, dict[str, str]]:
    """Open and check all species before anything is computed; raises InputError.

    Returns them with the tomograms that cannot be refined, and why; with `strict` settings there are none.
    """
    project = open_species(settings)
    for species in project.species:
        for sentence in species.dataset.conventions:
            reporter.say(f"{species.name}: {sentence}")
    unusable: dict[str, str] = {}
    for sentence in check_species(project, unusable=None if settings.run.strict else unusable):
        reporter.warn(sentence)
    _check_output(project, settings)
    return project, unusable


def species_files(project: SpeciesSet, settings: AlignSettings) -> list[Path]:
    """Return the files of all species."""
    tomograms = project.first.tomograms
    files = [s.optimisation_set for s in settings.inputs.species]
    files += [path for s in project.species for path in s.dataset.files.paths.values()]
    return [*files, *map(tomograms.series_file, tomograms.names)]


def _check_output(project: SpeciesSet, settings: AlignSettings) -> None:
    """Refuse an output in which results would replace inputs of any species; raises InputError."""
    for species in project.species:
        check_output_folder(species.dataset, settings.run.output_folder)
    folders = {(settings.run.output_folder / s.name).resolve(): s.name for s in project.species}
    for path in species_files(project, settings):
        name = folders.get(path.resolve().parent)
        if name is not None:
            raise InputError(
                f"--o {settings.run.output_folder}: the results of {name} would lie "
                f"beside or replace the input {path}; name another folder"
            )


def species_lines(project: SpeciesSet, settings: AlignSettings) -> list[str]:
    """Say which species take part, for the run's note."""
    return [
        f"species: {s.name} from {paths.optimisation_set}, box {s.box_px} px"
        for s, paths in zip(project.species, settings.inputs.species, strict=True)
    ]


@dataclass(frozen=True, kw_only=True, eq=False)
class SpeciesAlignments(Mapping[str, Alignment]):
    """Tomogram → alignment of one species; looked up one at a time."""

    results: Mapping[str, TomogramResult]
    number: int

    def __getitem__(self, name: str) -> Alignment:
        return self.results[name].alignments[self.number]

    def __iter__(self) -> Iterator[str]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)


def write_species(project: SpeciesSet, report: RunReport, folder: Path) -> tuple[Path, ...]:
    """Write the refined sets and meshes of all species; returns the optimisation sets.

    Raises RunError when a file cannot be written.
    """
    found = [SpeciesAlignments(results=report.results, number=n) for n in range(len(project.species))]
    moving = any(a.trajectories_px is not None for alignments in found for a in alignments.values())
    for species in project.species:
        remove_leftovers(folder / species.name)
    written = project.write(folder, found, motion=moving)
    for species, alignments in zip(project.species, found, strict=True):
        write_meshes(folder / species.name, species.dataset, alignments)
    return written


def species_table(project: SpeciesSet, report: RunReport) -> Table:
    """Return how much of each species was refined."""
    rows = []
    for number, species in enumerate(project.species):
        counts = [len(result.alignments[number].rows) for result in report.results.values()]
        held = sum(count > 0 for count in counts)
        rows.append((species.name, f"{species.box_px}", f"{held}", f"{sum(counts)}"))
    return Table(
        title="Species (all pull on the same projections)",
        columns=("species", "box\n(px)", "tomograms", "particles"),
        rows=rows,
    )
