"""The geometry of one simulated tomogram, true and in the input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from tomopolish.dataset.model import Deformation
from tomopolish.errors import InputError
from tomopolish.physics.geometry import (
    project,
    relion5_projections,
    tomogram_centre_px,
    turned_projections,
)
from tomopolish.settings.simulation import PlantedErrors, SimulationSettings
from tomopolish.shapes import Array, Float, Int
from tomopolish.simulate.acquisition import file_rows, pre_exposures, tilt_angles_degrees
from tomopolish.simulate.motion import random_trajectories
from tomopolish.simulate.specimen import random_positions_px, random_rotations, tomogram_size_px
from tomopolish.simulate.truth import TiltKind, visible_pairs
from tomopolish.simulate.warp import positions_in_images_px, random_warp

# Each purpose has its own random stream, so that a change for one purpose does not affect the others. A
# stream is known by its place here: new ones are added at the end.
STREAMS = (
    *("tilts", "particles", "errors", "motion", "warp", "optics", "noise", "reference"),
    *("false particles", "misoriented", "picked twice", "order of picks", "beads", "hot pixels"),
    *("gradients", "blank images", "covered images", "defocus errors", "displaced images"),
)


def random_stream(seed: int, purpose: str, *indices: int) -> np.random.Generator:
    """Return the generator for one purpose; `indices` (tomogram, tilt) select its streams."""
    return np.random.default_rng([seed, STREAMS.index(purpose), *indices])


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """Geometry of one tomogram, px; tilt axes in file order. See `Truth` for the fields' meaning."""

    angles_degrees: Float[Array, "F"]
    pre_exposure: Float[Array, "F"]
    tomogram_size_px: tuple[int, int, int]
    image_size_px: tuple[int, int]
    projections_px: Float[Array, "F 4 4"]
    input_projections_px: Float[Array, "F 4 4"]
    positions_px: Float[Array, "P 3"]
    input_positions_px: Float[Array, "P 3"]
    rotations: Float[Array, "P 3 3"]
    trajectories_px: Float[Array, "P F 3"]
    deformation: Deformation | None
    tilt_kinds: tuple[TiltKind, ...] = ()
    error_factor: float = 1.0

    @cached_property
    def positions_2d_px(self) -> Float[Array, "F P 2"]:
        """2D positions of the particles in the images, trajectories and warp included."""
        moving = self.positions_px + np.swapaxes(self.trajectories_px, 0, 1)
        return positions_in_images_px(self.projections_px, moving, self.deformation, self.image_size_px)

    def of_particles(self, which: Int[Array, "n"]) -> Scene:
        """Return the scene of some of its particles, in their order."""
        return replace(
            self,
            positions_px=self.positions_px[which],
            input_positions_px=self.input_positions_px[which],
            rotations=self.rotations[which],
            trajectories_px=self.trajectories_px[which],
        )

    def with_errors(self, errors: ErrorDirections, factor: float) -> Scene:
        """Return the scene in which the input, which is true so far, has planted errors."""
        return replace(
            self,
            projections_px=turned_projections(
                self.projections_px,
                factor * errors.rotation_vectors,
                factor * errors.shifts_px,
                tomogram_centre_px(self.tomogram_size_px),
            ),
            input_positions_px=self.positions_px + factor * errors.positions_px,
            error_factor=factor,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class ErrorDirections:
    """Unit draws of all planted errors; a factor scales them together."""

    rotation_vectors: Float[Array, "F 3"]
    shifts_px: Float[Array, "F 2"]
    positions_px: Float[Array, "P 3"]


def build_scene(settings: SimulationSettings, index: int, *, box_px: int, diameter_px: float) -> Scene:
    """Draw the geometry of tomogram `index`.

    Parameters
    ----------
    box_px
        Edge of the map, for margins and visibility.
    diameter_px
        Diameter of the molecule: the smallest distance between particles, unless the settings state another.

    Raises
    ------
    InputError
        When the particles do not fit, or the largest displacement cannot be reached.
    """
    acquisition, specimen = settings.acquisition, settings.specimen
    tilts_rng = random_stream(settings.seed, "tilts", index)
    rows = file_rows(acquisition, tilts_rng)
    angles = tilt_angles_degrees(acquisition)[rows]
    exposure = pre_exposures(acquisition)[rows]
    pixel, image_size = acquisition.pixel_size_angstrom, acquisition.image_size_px
    size = tomogram_size_px(specimen, image_size, box_px, pixel)
    three_angles = np.stack(
        [np.zeros(len(rows)), angles, np.full(len(rows), acquisition.tilt_axis_degrees)], axis=-1
    )
    known_shifts = tilts_rng.normal(scale=settings.errors.known_shift_px, size=(len(rows), 2))
    stated = relion5_projections(three_angles, known_shifts, image_size, size)
    particles_rng = random_stream(settings.seed, "particles", index)
    positions = random_positions_px(
        specimen,
        size,
        box_px=box_px,
        min_distance_px=diameter_px if specimen.min_distance_px is None else specimen.min_distance_px,
        pixel_size_angstrom=pixel,
        rng=particles_rng,
    )
    scene = Scene(
        angles_degrees=angles,
        pre_exposure=exposure,
        tomogram_size_px=size,
        image_size_px=image_size,
        projections_px=stated,
        input_projections_px=stated,
        positions_px=positions,
        input_positions_px=positions,
        rotations=random_rotations(len(positions), particles_rng),
        trajectories_px=random_trajectories(
            settings, positions, exposure, random_stream(settings.seed, "motion", index)
        ),
        deformation=_deformation(settings, index, len(rows)),
        tilt_kinds=draw_tilt_kinds(settings, index, angles),
    )
    errors = _draw_errors(
        settings.errors, len(rows), len(positions), random_stream(settings.seed, "errors", index)
    )
    factor = _error_factor(scene, errors, box_px, settings.errors.max_displacement_px)
    scene = scene.with_errors(errors, factor)
    projections = scene.projections_px.copy()
    projections[:, :2, 3] += _displacements_px(settings, index, scene.tilt_kinds)
    return replace(scene, projections_px=projections)


def draw_tilt_kinds(
    settings: SimulationSettings, index: int, angles_degrees: Float[Array, "F"]
) -> tuple[TiltKind, ...]:
    """Draw the kind of each tilt image, file order; every image has one kind.

    Covered images are among the more tilted half, as bars and edges come into view with the tilt. Raises
    InputError when there are too few tilt images.
    """
    tilts, dirt = len(angles_degrees), settings.dirt
    tilted = np.argsort(-np.abs(angles_degrees), kind="stable")[: (tilts + 1) // 2]
    kinds = [TiltKind.GOOD] * tilts
    for kind, count, candidates in (
        (TiltKind.COVERED, dirt.covered_images, tilted),
        (TiltKind.DISPLACED, dirt.displaced_images, np.arange(tilts)),
        (TiltKind.BLANK, dirt.blank_images, np.arange(tilts)),
    ):
        drawn = random_stream(settings.seed, f"{kind.value} images", index).permutation(candidates)
        free = [int(tilt) for tilt in drawn if kinds[tilt] is TiltKind.GOOD]
        if count > len(free):
            raise InputError(
                f"simulation: {count} of {tilts} tilt images cannot be {kind.value}: only {len(free)} can; "
                "give fewer"
            )
        for tilt in free[:count]:
            kinds[tilt] = kind
    return tuple(kinds)


def _displacements_px(
    settings: SimulationSettings, index: int, kinds: Sequence[TiltKind]
) -> Float[Array, "F 2"]:
    """Return how far each tilt image is off besides the usual errors; zero except for displaced images."""
    direction = random_stream(settings.seed, "displaced images", index, 1).uniform(0, 2 * np.pi, len(kinds))
    distance = settings.dirt.displaced_by_px * np.array([kind is TiltKind.DISPLACED for kind in kinds])
    return distance[:, None] * np.stack([np.cos(direction), np.sin(direction)], axis=-1)


def _draw_errors(
    errors: PlantedErrors, tilts: int, particles: int, rng: np.random.Generator
) -> ErrorDirections:
    return ErrorDirections(
        rotation_vectors=np.deg2rad(errors.angle_degrees) * rng.normal(size=(tilts, 3)),
        shifts_px=errors.shift_px * rng.normal(size=(tilts, 2)),
        positions_px=errors.position_px * rng.normal(size=(particles, 3)),
    )


def _deformation(settings: SimulationSettings, index: int, tilts: int) -> Deformation | None:
    warp = settings.warp
    if warp is None:
        return None
    coefficients = random_warp(
        warp.model,
        warp.grid,
        warp.amplitude_px,
        settings.acquisition.image_size_px,
        tilts if warp.per_frame else 1,
        random_stream(settings.seed, "warp", index),
    )
    rows = np.broadcast_to(coefficients, (tilts, coefficients.shape[1])).copy()
    return Deformation(model=warp.model, grid=warp.grid, coefficients=rows)


def _error_factor(scene: Scene, errors: ErrorDirections, box_px: int, target_px: float | None) -> float:
    """Return the factor on all errors with which the largest visible displacement equals the target.

    Without a target the factor is 1. Raises InputError when no factor reaches the target.

    Parameters
    ----------
    scene
        Without errors.
    """
    if target_px is None:
        return 1.0

    def largest(factor: float) -> float:
        wrong = scene.with_errors(errors, factor)
        believed = project(wrong.input_projections_px, wrong.input_positions_px)[..., :2]
        visible = visible_pairs(wrong.positions_2d_px, wrong.image_size_px, box_px)
        apart = np.linalg.norm(wrong.positions_2d_px - believed, axis=-1)
        return float(np.max(apart, initial=0.0, where=visible))

    if largest(0.0) >= target_px:
        raise InputError(
            f"simulation: motion and warp alone displace particles by {largest(0.0):.3g} px, more than the "
            f"requested {target_px:g} px; make them smaller, or the largest displacement larger"
        )
    high = 1.0
    while largest(high) < target_px:
        high *= 2
        if high > 1e6:
            raise InputError(
                f"simulation: no visible particle can be displaced by {target_px:g} px; enlarge the images"
            )
    low = 0.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if largest(middle) <= target_px else (low, middle)
    return low
