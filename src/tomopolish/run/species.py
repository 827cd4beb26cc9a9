"""Runs with several species in the same tomograms: the steps that differ from those with one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tomopolish import pipeline
from tomopolish.dataset.project import open_dataset
from tomopolish.dataset.species import (
    SpeciesDataset,
    SpeciesReferences,
    SpeciesSet,
    check_species,
    join_species,
)
from tomopolish.output.table import Table
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
    return project, unusable


def species_lines(project: SpeciesSet, settings: AlignSettings) -> list[str]:
    """Say which species take part, for the run's note."""
    return [
        f"species: {s.name} from {paths.optimisation_set}, box {s.box_px} px"
        for s, paths in zip(project.species, settings.inputs.species, strict=True)
    ]


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
