"""The inputs of a run: opened, and checked before anything is computed."""

from __future__ import annotations

from dataclasses import replace

from tomopolish.dataset.check import check_project
from tomopolish.dataset.project import Dataset, open_dataset
from tomopolish.dataset.species import Project, Species, join_species
from tomopolish.run.reporter import Reporter
from tomopolish.settings.alignment import AlignSettings, InputPaths


def open_inputs(paths: InputPaths) -> Dataset:
    """Open the data set of one structure; raises InputError when it is missing or malformed."""
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


def open_project(settings: AlignSettings) -> Project:
    """Open all that the options name; raises InputError when a part cannot be used, or species disagree."""
    inputs = settings.inputs
    if not inputs.species:
        return Project.of(open_inputs(inputs), settings.windows.box_px)
    species = []
    for one in inputs.species:
        replace(settings.windows, box_px=one.box_px)  # refuses a box that does not fit the range
        dataset = open_dataset(
            one.optimisation_set,
            tomograms=inputs.tomograms,
            relion_version=inputs.relion_version,
            selection=inputs.tilts,
        )
        species.append(Species(name=one.name, dataset=dataset, box_px=one.box_px))
    return join_species(species)


def checked_project(settings: AlignSettings, reporter: Reporter) -> tuple[Project, dict[str, str]]:
    """Open the project and check all of it before anything is computed; raises InputError.

    Returns it with the tomograms that cannot be refined, and why; with `strict` settings there are none.
    """
    project = open_project(settings)
    for sentence in project.conventions:
        reporter.say(sentence)
    unusable: dict[str, str] = {}
    for sentence in check_project(project, unusable=None if settings.run.strict else unusable):
        reporter.warn(sentence)
    return project, unusable
