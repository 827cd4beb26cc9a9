"""Further species in a simulated tomogram, which share its projections, errors, motion and warp."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tomopolish.dataset.model import Particles, References
from tomopolish.settings.simulated_structure import CompanionSettings
from tomopolish.settings.simulation import SimulationSettings
from tomopolish.simulate.motion import random_trajectories
from tomopolish.simulate.scene import Scene, random_stream
from tomopolish.simulate.specimen import random_positions_px, random_rotations
from tomopolish.simulate.structure import Structure, build_structure
from tomopolish.simulate.truth import Truth

_SEED_STEP = 1_000_003  # so that the half maps of different species have different noise


@dataclass(frozen=True, kw_only=True, eq=False)
class SimulatedSpecies:
    """Particles of one structure in a tomogram, their references, and their truth.

    Attributes
    ----------
    name
        Name of the species; empty for the first.
    box_px
        Edge of the structure's map.
    """

    name: str = ""
    particles: Particles
    references: References
    truth: Truth
    box_px: int


def companion_structure(settings: SimulationSettings, companion: CompanionSettings, number: int) -> Structure:
    """Make the structure of further species `number` (from 1); raises the errors of `build_structure`."""
    noise = settings.noise
    return build_structure(
        replace(
            settings,
            seed=settings.seed + number * _SEED_STEP,
            molecule=companion.molecule,
            noise=noise if noise.is_silent else replace(noise, pair_snr=companion.pair_snr),
            companions=(),
        )
    )


def companion_scene(
    settings: SimulationSettings,
    companion: CompanionSettings,
    earlier: Sequence[Scene],
    *,
    streams: tuple[int, int],
    box_px: int,
    diameter_px: float,
) -> Scene:
    """Draw the geometry of a further species.

    Parameters
    ----------
    earlier
        Scenes of the species that are placed already, that of the first species first.
    streams
        Index of the tomogram and number of the species.
    diameter_px
        Diameter of the largest molecule so far: the smallest distance between particles, unless the settings
        state another.

    Raises
    ------
    InputError
        When the particles do not fit into the specimen.
    """
    first, acquisition, specimen = earlier[0], settings.acquisition, settings.specimen
    occupied = np.concatenate([scene.positions_px for scene in earlier])
    rng = random_stream(settings.seed, "particles", *streams)
    positions = random_positions_px(
        replace(specimen, particles=companion.particles),
        first.tomogram_size_px,
        box_px=box_px,
        min_distance_px=diameter_px if specimen.min_distance_px is None else specimen.min_distance_px,
        pixel_size_angstrom=acquisition.pixel_size_angstrom,
        rng=rng,
        occupied_px=occupied,
    )
    trajectories = random_trajectories(
        settings,
        positions,
        first.pre_exposure,
        random_stream(settings.seed, "motion", *streams),
        earlier=(occupied, np.concatenate([scene.trajectories_px for scene in earlier])),
    )
    errors = random_stream(settings.seed, "errors", *streams).normal(size=positions.shape)
    return replace(
        first,
        positions_px=positions,
        input_positions_px=positions + first.error_factor * settings.errors.position_px * errors,
        rotations=random_rotations(len(positions), rng),
        trajectories_px=trajectories,
    )
