"""The maps of all species in a round, each with its half sets in one frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tomopolish.dataset.species import Project, Species
from tomopolish.imaging.registration import Registration
from tomopolish.rounds.frames import between_halves, write_in_one_frame
from tomopolish.rounds.maps import SpeciesMaps, make_maps, write_set
from tomopolish.rounds.references import reopened
from tomopolish.run.cluster.maps import BackProjector
from tomopolish.run.reporter import Reporter


@dataclass(frozen=True, kw_only=True)
class MapTarget:
    """Where the maps of one species are written, and how.

    Attributes
    ----------
    size_px
        Edge of the maps.
    mask
        The mask; None: see `make_maps`.
    """

    folder: Path
    size_px: int
    mask: Path | None


def maps_of_round(
    project: Project,
    targets: Sequence[MapTarget],
    frame: Path | None,
    symmetry: str,
    back_project: BackProjector,
    reporter: Reporter,
) -> list[SpeciesMaps]:
    """Reconstruct the maps of all species; again where the half sets first have to be brought into one frame.

    Parameters
    ----------
    project
        The sets of the round.
    targets
        Place and size of each species' maps.
    frame
        Folder of sets whose half sets were brought into one frame; None: they are in one frame.
    symmetry
        Point group of species that have none of their own.

    Raises
    ------
    RunError
        When no tomogram of a species can be used, or a file cannot be written.
    """

    def made(species: Species, target: MapTarget) -> SpeciesMaps:
        projected = back_project(species.dataset, species.box_px, species.symmetry or symmetry)
        for sentence in projected.remark_sentences():
            reporter.warn(project.named(species, sentence))
        return make_maps(species, projected, target.folder, target.size_px, target.mask)

    maps = [made(*each) for each in zip(project.species, targets, strict=True)]
    turns = [None if frame is None else between_halves(each) for each in maps]
    if frame is None or not any(turns):
        return maps
    for species, turn, each in zip(project.species, turns, maps, strict=True):
        if turn is not None:
            reporter.say(project.named(species, _how_far_apart(turn, each.pixel_size_angstrom)))
    in_frame = reopened(project, write_in_one_frame(project, turns, frame))
    for i, (species, target) in enumerate(zip(in_frame.species, targets, strict=True)):
        if turns[i] is None:  # its half sets stay as they are, and so do its maps
            write_set(species.dataset, maps[i])
        else:
            maps[i] = made(species, target)
    return maps


def _how_far_apart(turn: Registration, pixel_size_angstrom: float) -> str:
    return (
        f"Half maps are {turn.angle_degrees:.2f}° and "
        f"{np.linalg.norm(turn.shift_px) * pixel_size_angstrom:.2f} Å apart: half set 2 is brought into the "
        "frame of half set 1"
    )
