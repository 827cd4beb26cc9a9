"""The geometry of one simulated tomogram, true and in the input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tomopolish.dataset.model import Deformation
from tomopolish.errors import InputError
from tomopolish.physics.exposure import step_weights
from tomopolish.physics.geometry import (
    project,
    project_trajectories,
    relion5_projections,
    rotation_from_vector,
    tomogram_centre_px,
)
from tomopolish.settings.simulation import PlantedErrors, SimulationSettings
from tomopolish.shapes import Array, Float, Int
from tomopolish.simulate.acquisition import file_rows, pre_exposures, tilt_angles_degrees
from tomopolish.simulate.kinds import TiltKind
from tomopolish.simulate.motion import ExposureSteps, random_trajectories
from tomopolish.simulate.specimen import random_positions_px, random_rotations, tomogram_size_px
from tomopolish.simulate.tilt_kinds import displacements_px, draw_tilt_kinds
from tomopolish.simulate.truth import visible_pairs
from tomopolish.simulate.warp import random_warp, warp_displacement_px

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
    projections_px: Float[Array, "F 4 4"]
    input_projections_px: Float[Array, "F 4 4"]
    positions_px: Float[Array, "P 3"]
    input_positions_px: Float[Array, "P 3"]
    rotations: Float[Array, "P 3 3"]
    trajectories_px: Float[Array, "P F 3"]
    deformation: Deformation | None
    positions_2d_px: Float[Array, "F P 2"]
    tilt_kinds: tuple[TiltKind, ...] = ()
    error_factor: float = 1.0

    @property
    def chronological(self) -> Int[Array, "F"]:
        """File index of the m-th exposed image."""
        return np.argsort(self.pre_exposure, kind="stable")


@dataclass(frozen=True, kw_only=True, eq=False)
class ErrorDirections:
    """Unit draws of all planted errors; a factor scales them together."""

    rotation_vectors: Float[Array, "F 3"]
    shifts_px: Float[Array, "F 2"]
    positions_px: Float[Array, "P 3"]


@dataclass(frozen=True, kw_only=True, eq=False)
class _WithoutErrors:
    """Draws of a tomogram before the planted errors are scaled; sizes in px as in `Scene`."""

    input_projections_px: Float[Array, "F 4 4"]
    positions_px: Float[Array, "P 3"]
    trajectories_px: Float[Array, "P F 3"]
    deformation: Deformation | None
    tomogram_size_px: tuple[int, int, int]
    image_size_px: tuple[int, int]
    box_px: int


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
    trajectories = _trajectories(settings, index, positions, exposure)
    deformation = _deformation(settings, index, len(rows))
    directions = _draw_errors(
        settings.errors, len(rows), len(positions), random_stream(settings.seed, "errors", index)
    )
    drawn = _WithoutErrors(
        input_projections_px=stated,
        positions_px=positions,
        trajectories_px=trajectories,
        deformation=deformation,
        tomogram_size_px=size,
        image_size_px=image_size,
        box_px=box_px,
    )
    factor = _error_factor(drawn, directions, settings.errors.max_displacement_px)
    true = perturbed_projections(stated, directions, factor, size)
    kinds = draw_tilt_kinds(settings.dirt, angles, _dirt_streams(settings.seed, index))
    true[:, :2, 3] += displacements_px(
        settings.dirt, kinds, random_stream(settings.seed, "displaced images", index, 1)
    )
    return Scene(
        angles_degrees=angles,
        pre_exposure=exposure,
        tomogram_size_px=size,
        projections_px=true,
        input_projections_px=stated,
        positions_px=positions,
        input_positions_px=positions + factor * directions.positions_px,
        rotations=random_rotations(len(positions), particles_rng),
        trajectories_px=trajectories,
        deformation=deformation,
        positions_2d_px=true_positions_2d_px(true, positions, trajectories, deformation, image_size),
        tilt_kinds=kinds,
        error_factor=factor,
    )


def _dirt_streams(seed: int, index: int) -> dict[TiltKind, np.random.Generator]:
    return {kind: random_stream(seed, f"{kind.value} images", index) for kind in TiltKind if kind.is_special}


def true_positions_2d_px(
    projections_px: Float[Array, "F 4 4"],
    positions_px: Float[Array, "P 3"],
    trajectories_px: Float[Array, "P F 3"],
    deformation: Deformation | None,
    image_size_px: tuple[int, int],
) -> Float[Array, "F P 2"]:
    """Return the 2D positions of moving particles in warped images: q + g(q) with q the projection.

    See docs/dev/conventions.md, Objective.
    """
    moving = positions_px + np.swapaxes(trajectories_px, 0, 1)
    q = project_trajectories(projections_px, moving)[..., :2]
    return q if deformation is None else q + warp_displacement_px(deformation, q, image_size_px)


def perturbed_projections(
    projections_px: Float[Array, "F 4 4"],
    directions: ErrorDirections,
    factor: float,
    tomogram_size_px: tuple[int, int, int],
) -> Float[Array, "F 4 4"]:
    """Rotate projections about the projected tomogram centre, in the images' frames, and shift them.

    See docs/dev/conventions.md, Objective.
    """
    turn = rotation_from_vector(factor * directions.rotation_vectors)
    centre = tomogram_centre_px(tomogram_size_px)
    rotation = projections_px[:, :3, :3]
    projected_centre = rotation @ centre + projections_px[:, :3, 3]
    result = projections_px.copy()
    result[:, :3, :3] = turn @ rotation
    result[:, :3, 3] = projected_centre - result[:, :3, :3] @ centre
    result[:, :2, 3] += factor * directions.shifts_px
    return result


def _draw_errors(
    errors: PlantedErrors, tilts: int, particles: int, rng: np.random.Generator
) -> ErrorDirections:
    return ErrorDirections(
        rotation_vectors=np.deg2rad(errors.angle_degrees) * rng.normal(size=(tilts, 3)),
        shifts_px=errors.shift_px * rng.normal(size=(tilts, 2)),
        positions_px=errors.position_px * rng.normal(size=(particles, 3)),
    )


def _trajectories(
    settings: SimulationSettings, index: int, positions: Float[Array, "P 3"], exposure: Float[Array, "F"]
) -> Float[Array, "P F 3"]:
    if settings.motion is None:
        return np.zeros((len(positions), len(exposure), 3))
    return random_trajectories(
        settings.motion,
        positions,
        ExposureSteps(
            chronological=np.argsort(exposure, kind="stable"),
            frame_dose=settings.acquisition.frame_dose,
            weights=step_weights(exposure),
        ),
        pixel_size_angstrom=settings.acquisition.pixel_size_angstrom,
        rng=random_stream(settings.seed, "motion", index),
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


def _error_factor(drawn: _WithoutErrors, directions: ErrorDirections, target_px: float | None) -> float:
    """Return the factor on all errors with which the largest visible displacement equals the target.

    Without a target the factor is 1. Raises InputError when no factor reaches the target.
    """
    if target_px is None:
        return 1.0
    stated, positions = drawn.input_projections_px, drawn.positions_px

    def largest(factor: float) -> float:
        true = perturbed_projections(stated, directions, factor, drawn.tomogram_size_px)
        true_2d = true_positions_2d_px(
            true, positions, drawn.trajectories_px, drawn.deformation, drawn.image_size_px
        )
        believed = project(stated, positions + factor * directions.positions_px)[..., :2]
        visible = visible_pairs(true_2d, drawn.image_size_px, drawn.box_px)
        return float(np.max(np.linalg.norm(true_2d - believed, axis=-1), initial=0.0, where=visible))

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
