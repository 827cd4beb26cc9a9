"""Construction of one tomogram's alignment problem from its parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from tomopolish.dataset.model import Deformation, Particles, TiltSeries, Tomogram
from tomopolish.imaging.held_out import join_checks, join_held_out
from tomopolish.imaging.packed import PackedSamples
from tomopolish.imaging.windows import CorrelationWindows
from tomopolish.models.deformation import deformation_from, deformation_model, deformation_record, refit
from tomopolish.models.gaussian_process import GaussianProcessMotion
from tomopolish.models.leading_modes import LeadingModes
from tomopolish.models.motion import motion_model, scale_px
from tomopolish.models.neighbour_motion import NeighbourMotion
from tomopolish.models.parameters import Layout
from tomopolish.models.protocols import MotionModel
from tomopolish.physics.geometry import rotation_vector, tomogram_centre_px
from tomopolish.settings.alignment import AlignSettings, MotionSettings
from tomopolish.shapes import Array, Float
from tomopolish.solve.elimination import curvature_over_time, followed_fields
from tomopolish.solve.prior_widths import informed_precision, initial_precision, initial_warp_precision
from tomopolish.solve.problem import Problem
from tomopolish.solve.surface import DisplacementSurface, smooth_surface

REFIT_TOLERANCE_PX = 0.1

UNSEEN_ANGSTROM = 0.005
"""Motion of images, root mean square, that the solver may leave out."""


def check_models(series: TiltSeries, settings: AlignSettings) -> None:
    """Raise InputError where motion or deformation cannot be modelled; needs no time and little memory."""
    if isinstance(settings.motion, MotionSettings):
        scale_px(settings.motion, series)
    deformation_model(settings.deformation, series)
    if series.deformation is not None:
        deformation_from(series.deformation, series.image_size_px)


def join_windows(windows: Sequence[CorrelationWindows]) -> CorrelationWindows:
    """Return the windows of several species in sequence."""
    if len(windows) == 1:
        return windows[0]
    counts = [w.power.shape[1] for w in windows]
    return replace(
        windows[0],
        values=PackedSamples.joined([PackedSamples.of(w.values) for w in windows]),
        anchors_px=np.concatenate([w.anchors_px for w in windows], axis=1),
        visible=np.concatenate([w.visible for w in windows], axis=1),
        power=np.concatenate([w.power for w in windows], axis=1),
        tempering=np.concatenate(
            [np.ones(w.power.shape) if w.tempering is None else w.tempering for w in windows], axis=1
        ),
        held_out=join_held_out([w.held_out for w in windows], counts),
        checks=join_checks([w.checks for w in windows], counts),
    )


def build_problem(
    series: TiltSeries,
    particles: Particles,
    windows: CorrelationWindows,
    settings: AlignSettings,
    *,
    make_surface: Callable[[], DisplacementSurface] | None = None,
) -> Problem:
    """Return the alignment problem of one tomogram (docs/dev/conventions.md, model and objective).

    Parameters
    ----------
    make_surface
        Returns the surfaces of the windows, and may consume the windows; they are made here where it is None.
    """
    motion = motion_model(settings.motion, series, particles)
    deformation = deformation_model(settings.deformation, series)
    layout = Layout(
        tilts=len(series),
        particles=len(particles),
        motion_shape=motion.shape,
        warp_shape=deformation.shape,
    )
    precision = initial_precision(layout, windows.range_px, series.tomogram_size_px)
    layout.unpack(precision).warp[...] = initial_warp_precision(deformation, windows)
    points = np.broadcast_to(particles.positions_px, (len(series), len(particles), 3))
    if particles.trajectories_px is not None and settings.motion is None:
        points = points + np.moveaxis(particles.trajectories_px, 1, 0)
    fit = settings.fit
    if make_surface is None:
        with ThreadPoolExecutor(settings.run.threads) as pool:
            surface = smooth_surface(windows, range_penalty=settings.windows.range_penalty, pool=pool)
    else:
        surface = make_surface()
    return Problem(
        surface=surface,
        anchors_px=windows.anchors_px,
        projections_px=series.projections_px,
        centre_px=tomogram_centre_px(series.tomogram_size_px),
        points_px=np.ascontiguousarray(points),
        motion=motion,
        deformation=deformation,
        precision=precision,
        free=layout.fill(
            angles=not fit.const_angles,
            shifts_px=not fit.const_shifts,
            positions_px=not fit.const_positions,
            motion=1.0,
            warp=1.0,
        ).astype(bool),
    )


def refined_deformation(
    problem: Problem, vector: Float[Array, "N"], settings: AlignSettings
) -> Deformation | None:
    """Return the warps of a solution; None where warps are not refined."""
    if settings.deformation is None:
        return None
    return deformation_record(settings.deformation, problem.layout.unpack(vector).warp, problem.layout.tilts)


def with_widths_from_input(
    problem: Problem, vector: Float[Array, "N"], given: Tomogram, tomogram: Tomogram, range_px: float
) -> Problem:
    """Return the problem with priors whose widths count from an earlier input, for standard errors.

    Parameters
    ----------
    given
        Input of an earlier refinement of the same images, which ended at `tomogram`.
    tomogram
        Input of the problem.
    """
    layout, solved = problem.layout, problem.layout.unpack(problem.precision)
    before, after = given.series.projections_px, tomogram.series.projections_px
    centre = np.append(tomogram_centre_px(tomogram.series.tomogram_size_px), 1.0)
    moved = layout.fill(
        angles=rotation_vector(after[:, :3, :3] @ np.swapaxes(before[:, :3, :3], 1, 2)),
        shifts_px=(after - before)[:, :2] @ centre,
        positions_px=tomogram.particles.positions_px - given.particles.positions_px,
    )
    widest = layout.unpack(initial_precision(layout, range_px, tomogram.series.tomogram_size_px))
    blocks = vars(widest) | {"motion": solved.motion, "warp": solved.warp}
    wide = replace(problem, precision=layout.fill(**blocks))
    return replace(problem, precision=informed_precision(wide, vector + moved))


def with_leading_modes(
    problem: Problem,
    power: Float[Array, "F P"],
    pixel_size_angstrom: float,
    threads: int = 1,
) -> Problem:
    """Return the problem without the modes of motion that its images cannot move (`LeadingModes`).

    Motion that neighbours predict keeps all its modes, in suitable courses. Other motion that is no Gaussian
    process stays as it is.

    Parameters
    ----------
    power
        Weighted power of each pair's prediction (`CorrelationWindows.power`).
    """
    process = problem.motion
    if not isinstance(process, GaussianProcessMotion | NeighbourMotion):
        return problem
    visible = problem.surface.visible
    seen = np.maximum(visible.sum(axis=1), 1)
    # A peak's height over its curvature is the square of the windows' correlation length.
    curvature = np.sum(power, axis=1, where=visible) / seen / problem.surface.length_px**2
    time = curvature_over_time(
        problem, problem.projections_px[:, :3, :3], curvature[:, None, None] * np.eye(2)
    )
    motion: MotionModel
    if isinstance(process, NeighbourMotion):
        motion = process.along(time, threads)
    else:
        tolerance_px = UNSEEN_ANGSTROM / pixel_size_angstrom
        motion = LeadingModes.of(process, time, tolerance_px, followed_fields(problem), threads)
    before = problem.layout
    layout = replace(before, motion_shape=motion.shape)

    def shortened(values: Array) -> Array:
        blocks = vars(before.unpack(values)) | {"motion": 1.0}
        return layout.fill(**blocks).astype(values.dtype)

    return replace(
        problem, motion=motion, precision=shortened(problem.precision), free=shortened(problem.free)
    )


def start_vector(
    series: TiltSeries, particles: Particles, problem: Problem, settings: AlignSettings
) -> tuple[Float[Array, "N"], tuple[str, ...]]:
    """Return the parameters of the input geometry, and warnings where the models cannot describe it.

    Input trajectories and warps become coefficients of the models that refine them.
    """
    layout = problem.layout
    vector, warnings = np.zeros(layout.size), []
    blocks = layout.unpack(vector)
    if settings.motion is not None and particles.trajectories_px is not None:
        blocks.motion[...] = problem.motion.coefficients(np.moveaxis(particles.trajectories_px, 1, 0))
    if settings.deformation is not None and series.deformation is not None:
        blocks.warp[...], worst = refit(series.deformation, problem.deformation, series.image_size_px)
        if worst > REFIT_TOLERANCE_PX:
            warnings.append(
                f"the input deformation of {series.name} ({series.deformation.model}) is refitted as "
                f"{settings.deformation.model}, which differs by up to {worst:.2g} px before refinement"
            )
    return vector, tuple(warnings)
