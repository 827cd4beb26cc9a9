"""Meshes of the refined trajectories of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tomopolish.dataset.files import unique_file_names
from tomopolish.dataset.model import Alignment
from tomopolish.dataset.project import Dataset
from tomopolish.output.meshes import write_trajectory_meshes


def write_meshes(folder: Path, dataset: Dataset, alignments: Mapping[str, Alignment]) -> None:
    """Write the meshes of each tomogram with refined motion; raises RunError when that fails."""
    names = unique_file_names(dataset.tomogram_names)
    for name, alignment in alignments.items():
        if alignment.trajectories_px is None:
            continue
        write_trajectory_meshes(
            folder,
            name,
            alignment.positions_px,
            alignment.trajectories_px,
            dataset.tomograms.load(name).pre_exposure,
            file_names=names,
        )
