"""References of a round: those of the input, if they can be used, or reconstructions of the round before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tomopolish.dataset.mrc import read_header
from tomopolish.dataset.project import Dataset, open_dataset
from tomopolish.dataset.species import Project, join_species
from tomopolish.errors import InputError
from tomopolish.pipeline.references import SAME
from tomopolish.settings.polish import PolishSettings


def has_references(dataset: Dataset, settings: PolishSettings) -> bool:
    """Return whether the first round uses half maps of the input, and not its own reconstructions."""
    return not settings.own_references and {"half map 1", "half map 2"} <= dataset.files.paths.keys()


def check_half_maps(dataset: Dataset, settings: PolishSettings) -> None:
    """Raise InputError where both half maps are the same map, unless `--ini_high` limits their use."""
    if not has_references(dataset, settings) or settings.initial_resolution_angstrom is not None:
        return
    one, two = (
        read_header(dataset.files.require(f"half map {number}")).read_volume().ravel() for number in (1, 2)
    )
    if one.shape == two.shape and one.any() and float(np.corrcoef(one, two)[0, 1]) > SAME:
        raise InputError(
            f"{dataset.files.shown('half map 1')} and {dataset.files.shown('half map 2')} are the same map, "
            "so that the half sets would agree on its errors: give --ini_high 40, which uses it at low "
            "resolution only, or --own_references, which starts from half maps of the input"
        )


def reopened_dataset(dataset: Dataset, optimisation_set: Path) -> Dataset:
    """Return the data set of another optimisation set, opened as this one was; raises as `open_dataset`."""
    return open_dataset(
        optimisation_set.absolute(),
        working_directory=dataset.files.working_directory,
        relion_version=dataset.relion_version,
        selection=dataset.selection,
    )


def reopened(project: Project, sets: Sequence[Path]) -> Project:
    """Return the project with another optimisation set for each species, opened as its own was."""
    species = [
        replace(each, dataset=reopened_dataset(each.dataset, path))
        for each, path in zip(project.species, sets, strict=True)
    ]
    return join_species(species)
