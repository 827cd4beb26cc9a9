"""One frame for both half sets: the rotation between their maps is taken out of the orientations.

Each half set is refined against its own map alone, so that nothing keeps the two maps in one frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tomopolish.dataset.model import Alignment
from tomopolish.dataset.mrc import read_header
from tomopolish.dataset.project import Dataset
from tomopolish.dataset.species import Project
from tomopolish.errors import TomopolishError
from tomopolish.imaging.registration import Registration, register
from tomopolish.rounds.maps import HALF_MAPS, SET, SpeciesMaps

LEAST_SHARE = 0.02
"""Displacement between half maps, as a share of their resolution, below which they count as registered."""

LARGEST_SHARE, LARGEST_DEGREES = 0.5, 10.0
"""Larger displacements and rotations are those of maps that do not show the same."""


def between_halves(maps: SpeciesMaps) -> Registration | None:
    """Return the rotation and shift from half map 1 to half map 2; None where they matter little."""
    if maps.fsc.corrected[1] < 0.5:
        return None
    one, two = (read_header(maps.folder / name).read_volume() for name in HALF_MAPS)
    found = register(one, two, maps.fsc, read_header(maps.files["mask"]).read_volume())
    resolution = maps.fsc.resolution_angstrom(maps.pixel_size_angstrom)
    apart = found.moved_px * maps.pixel_size_angstrom
    is_small = found.angle_degrees < LARGEST_DEGREES and apart < LARGEST_SHARE * resolution
    return found if is_small and apart > LEAST_SHARE * resolution else None


def write_in_one_frame(
    project: Project, turns: Sequence[Registration | None], folder: Path
) -> tuple[Path, ...]:
    """Write sets in which the particles of half set 2 are in the frame of half map 1.

    A tomogram that cannot be read keeps its values, and so does a species without a registration.

    Returns
    -------
    The optimisation set of each species.

    Raises
    ------
    RunError
        When a file cannot be written.
    """
    alignments = [
        {} if found is None else _turned(species.dataset, found)
        for species, found in zip(project.species, turns, strict=True)
    ]
    project.write(folder, alignments, motion=False)
    return tuple(folder / name / SET for name in project.folders)


def _turned(dataset: Dataset, found: Registration) -> dict[str, Alignment]:
    """Return alignments that change half set 2 alone, in its rotations and positions."""
    alignments = {}
    for name in dataset.tomogram_names:
        try:
            series, particles = dataset.load(name, geometry_only=True)
        except TomopolishError:
            continue
        second = (particles.half_set == 1)[:, None, None]
        rotations = np.where(second, particles.rotations @ found.rotation, particles.rotations)
        shifts = np.where(second[..., 0], particles.rotations @ found.shift_px, 0.0)
        alignments[name] = Alignment(
            tomogram=name,
            projections_px=series.projections_px,
            rows=particles.rows,
            positions_px=particles.positions_px + shifts,
            rotations=rotations,
        )
    return alignments
