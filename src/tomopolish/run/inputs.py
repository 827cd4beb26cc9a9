"""Inputs of a run, opened and checked before anything is computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from tomopolish.dataset.check import check_project
from tomopolish.dataset.model import Particles, TiltSeries
from tomopolish.dataset.project import Dataset, open_dataset
from tomopolish.dataset.species import Project, Species, join_species
from tomopolish.errors import InputError
from tomopolish.pipeline import check_models
from tomopolish.run.needs import refuse_maps_beyond_memory
from tomopolish.run.reporter import Reporter
from tomopolish.settings.alignment import AlignSettings, InputPaths


def open_inputs(paths: InputPaths) -> Dataset:
    """Return the data set of one structure; raises InputError when it is missing or malformed."""
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
    """Return the project that the options name; raises InputError when it is unusable or species disagree."""
    inputs = settings.inputs
    if not inputs.species:
        return Project.of(open_inputs(inputs), settings.windows.box_px)
    species = []
    for named in inputs.species:
        replace(settings.windows, box_px=named.box_px)  # refuses a box that does not fit the range
        dataset = open_dataset(
            named.optimisation_set,
            tomograms=inputs.tomograms,
            relion_version=inputs.relion_version,
            selection=inputs.tilts,
        )
        species.append(
            Species(name=named.name, dataset=dataset, box_px=named.box_px, symmetry=named.symmetry)
        )
    return join_species(species)


def checked_project(
    settings: AlignSettings,
    reporter: Reporter,
    project: Project | None = None,
    uses_references: Callable[[Dataset], bool] = lambda dataset: True,
    look: Callable[[Species, TiltSeries, Particles], None] | None = None,
) -> tuple[Project, dict[str, str]]:
    """Open the project, unless it is open, and check it completely before anything is computed.

    A dry run shows all tomograms that cannot be refined before it raises an error for the first. Raises
    InputError.

    Parameters
    ----------
    uses_references
        Returns whether the references of a data set are used, and so are checked.
    look
        Called for each tomogram that is sound, with the particles of each species that it has.

    Returns
    -------
    The project, and the tomograms that cannot be refined, with the reason. With `strict` settings there are
    none, since they raise an error.
    """
    project = project or open_project(settings)
    for sentence in project.conventions:
        reporter.say(sentence)
    refuse_maps_beyond_memory(project, settings.run.threads)
    strict, dry_run = settings.run.strict, settings.run.dry_run
    unusable: dict[str, str] = {}

    def further(species: Species, series: TiltSeries, particles: Particles) -> None:
        check_models(series, settings)
        if look is not None:
            look(species, series, particles)

    try:
        for sentence in check_project(
            project,
            unusable=None if strict and not dry_run else unusable,
            further=further,
            uses_references=uses_references,
        ):
            reporter.warn(sentence)
    except InputError:
        if dry_run:
            show_unusable(unusable, reporter)
        raise
    unusable = {name: unusable[name] for name in project.tomogram_names if name in unusable}
    if dry_run:
        show_unusable(unusable, reporter)
    if strict and unusable:
        name, sentence = next(iter(unusable.items()))
        raise InputError(f"{name}: {sentence} (--strict ends a run at the first such tomogram)")
    return project, unusable


def show_unusable(unusable: Mapping[str, str], reporter: Reporter) -> None:
    """Show the tomograms that cannot be refined."""
    if unusable:
        reporter.say(f"Tomograms that cannot be refined: {len(unusable)}")
    for name, sentence in unusable.items():
        reporter.say(f"  {name}: {sentence}")
