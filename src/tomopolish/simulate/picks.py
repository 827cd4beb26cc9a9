"""The particles in the files of a simulation: true ones, wrong ones, and duplicates of true ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tomopolish.dataset.model import Particles
from tomopolish.physics.geometry import rotation_from_vector
from tomopolish.settings.simulation import SimulationSettings
from tomopolish.shapes import Array, Float, Int
from tomopolish.simulate.acquisition import optics_groups
from tomopolish.simulate.scene import Scene, random_stream
from tomopolish.simulate.specimen import random_directions, random_positions_px, random_rotations
from tomopolish.simulate.truth import PickKind


@dataclass(frozen=True, kw_only=True, eq=False)
class Picks:
    """The picks of one tomogram, in the order of the files, and what is true of them.

    Attributes
    ----------
    particles
        As the files state them.
    scene
        The true geometry of every pick; where nothing is, the pick's own.
    kinds
        Of each pick; empty where all are good.
    originals
        Index of the pick that shows the same particle and came first, −1 for most; None where all are good.
    """

    particles: Particles
    scene: Scene
    kinds: tuple[PickKind, ...] = ()
    originals: Int[Array, "P"] | None = None


def draw_picks(
    settings: SimulationSettings,
    index: int,
    scene: Scene,
    particles: Particles,
    others: Sequence[Scene],
    *,
    box_px: int,
    diameter_px: float,
) -> Picks:
    """Draw the picks of tomogram `index` from its true particles.

    The true particles keep their order; the other picks are at random places of the list.

    Parameters
    ----------
    particles
        The true particles as the input states them.
    others
        Scenes of further species, which false particles keep away from, too.
    box_px, diameter_px
        Edge of the map and diameter of the molecule.

    Raises
    ------
    InputError
        When the false particles do not fit.
    """
    count, dirt = len(particles), settings.dirt
    mixed = random_stream(settings.seed, "misoriented", index).permutation(count)
    turned = np.sort(mixed[: round(dirt.misoriented * count)])
    upright = np.setdiff1d(np.arange(count), turned)
    doubles_rng = random_stream(settings.seed, "picked twice", index)
    twice = np.sort(doubles_rng.permutation(upright)[: round(dirt.picked_twice * count)])
    false = round(dirt.false_particles * count)
    if not (len(turned) or len(twice) or false):
        return Picks(particles=particles, scene=scene)
    doubled = _with_duplicates(settings, scene, twice, doubles_rng)
    everything = _with_false(settings, index, doubled, false, others, box_px=box_px, diameter_px=diameter_px)
    rotations = everything.rotations.copy()
    axes = random_directions(len(turned), random_stream(settings.seed, "misoriented", index, 1))
    turns = rotation_from_vector(np.deg2rad(dirt.misoriented_turn_degrees) * axes)
    rotations[turned] = rotations[turned] @ turns
    kinds = [PickKind.GOOD] * count + [PickKind.DUPLICATE] * len(twice) + [PickKind.FALSE] * false
    for turned_particle in turned:
        kinds[turned_particle] = PickKind.MISORIENTED
    original = np.full(len(kinds), -1)
    original[count : count + len(twice)] = twice
    return _in_order(settings, index, count, everything, rotations, kinds, original)


def input_particles(settings: SimulationSettings, index: int, scene: Scene) -> Particles:
    """Return the particles of a scene in tomogram `index` as the files state them, in their order."""
    groups, number = optics_groups(settings.acquisition), np.arange(len(scene.positions_px))
    return Particles(
        rows=index * len(number) + number,
        names=tuple(f"{settings.tomogram_name(index)}/{i + 1}" for i in number),
        positions_px=scene.input_positions_px,
        rotations=scene.rotations,
        half_set=number % 2,
        optics_group=number % len(groups),
        optics_groups=groups,
    )


def _with_duplicates(
    settings: SimulationSettings, scene: Scene, twice: Int[Array, "n"], rng: np.random.Generator
) -> Scene:
    """Add the second picks of some particles, with position errors of their own."""
    errors = scene.error_factor * settings.errors.position_px * rng.normal(size=(len(twice), 3))
    return replace(
        scene.of_particles(np.concatenate([np.arange(len(scene.positions_px)), twice])),
        input_positions_px=np.concatenate([scene.input_positions_px, scene.positions_px[twice] + errors]),
    )


def _with_false(
    settings: SimulationSettings,
    index: int,
    scene: Scene,
    count: int,
    others: Sequence[Scene],
    *,
    box_px: int,
    diameter_px: float,
) -> Scene:
    """Add picks where nothing is, which do not move; what the files state of them is true."""
    if not count:
        return scene
    acquisition, specimen = settings.acquisition, settings.specimen
    rng = random_stream(settings.seed, "false particles", index)
    usual = diameter_px if specimen.min_distance_px is None else specimen.min_distance_px
    positions = random_positions_px(
        replace(specimen, particles=count),
        scene.tomogram_size_px,
        box_px=box_px,
        min_distance_px=max(usual, diameter_px / 2),
        pixel_size_angstrom=acquisition.pixel_size_angstrom,
        rng=rng,
        occupied_px=np.concatenate([scene.positions_px, *[other.positions_px for other in others]]),
    )
    still = np.zeros((count, len(scene.projections_px), 3))
    return replace(
        scene,
        positions_px=np.concatenate([scene.positions_px, positions]),
        input_positions_px=np.concatenate([scene.input_positions_px, positions]),
        rotations=np.concatenate([scene.rotations, random_rotations(count, rng)]),
        trajectories_px=np.concatenate([scene.trajectories_px, still]),
    )


def _in_order(
    settings: SimulationSettings,
    index: int,
    count: int,
    scene: Scene,
    rotations: Float[Array, "P 3 3"],
    kinds: Sequence[PickKind],
    original: Int[Array, "P"],
) -> Picks:
    """Put the picks, of which `count` are true, into the files' order; half sets are dealt out before."""
    total = len(kinds)
    places = np.sort(
        random_stream(settings.seed, "order of picks", index).permutation(total)[: total - count]
    )
    order = np.empty(total, dtype=np.int64)
    order[places] = np.arange(count, total)
    order[np.setdiff1d(np.arange(total), places)] = np.arange(count)
    place_of = np.argsort(order)
    dealt = input_particles(settings, index, replace(scene, rotations=rotations))
    return Picks(
        particles=replace(dealt.subset(order), rows=dealt.rows, names=dealt.names),
        scene=scene.of_particles(order),
        kinds=tuple(kinds[int(i)] for i in order),
        originals=np.where(original[order] >= 0, place_of[original[order]], -1),
    )
