"""One tomogram, from tilt images to refined geometry."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float
from threadpoolctl import threadpool_limits

from tomopolish.correlation.frequencies import tilt_frequencies
from tomopolish.correlation.noise import noise_power
from tomopolish.correlation.reference import ReferenceTransform, crop_transforms, prepare_half_maps
from tomopolish.correlation.weights import ReferenceWeight, frequency_weights, reference_weight
from tomopolish.correlation.windows import (
    CorrelationWindows,
    TiltTask,
    box_mask,
    correlate_tilt,
    pair_geometry,
    prefetch,
    window_samples,
)
from tomopolish.dataset.model import Alignment, Particles, References, TiltSeries
from tomopolish.geometry import rotation_from_vector, rotation_vector, tomogram_centre_px
from tomopolish.models.deformation import deformation_model
from tomopolish.models.motion import motion_model
from tomopolish.models.parameters import Layout
from tomopolish.progress import Progress, StageProgress
from tomopolish.results import TomogramResult, TomogramStatistics
from tomopolish.settings import AlignSettings
from tomopolish.solve.gauge import net_rotation, remove_rotation
from tomopolish.solve.problem import Problem
from tomopolish.solve.refine import Refinement, RefineOptions, initial_precision, refine
from tomopolish.solve.surface import smooth_surface

Array = np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedReferences:
    """References ready to be compared with images: made once, used for every tomogram."""

    transform: ReferenceTransform
    weight: ReferenceWeight


def prepare(references: References, settings: AlignSettings) -> PreparedReferences:
    """Transform the half maps and find the frequencies that count."""
    transforms = prepare_half_maps(references, settings.windows.box_px)
    weight = reference_weight(references, transforms, settings.weights)
    return PreparedReferences(transform=crop_transforms(transforms, weight.last_frequency), weight=weight)


@dataclass(eq=False)
class _Clock:
    """Runs stages under the caller's progress display and keeps their times."""

    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[StageProgress]:
        begin = time.perf_counter()
        with self.progress.stage(name, total) as handle:
            yield handle
        self.seconds[name] = time.perf_counter() - begin


def align_tomogram(
    series: TiltSeries,
    particles: Particles,
    references: PreparedReferences,
    settings: AlignSettings,
    progress: Progress,
) -> TomogramResult:
    """Refine one tomogram.

    Parameters
    ----------
    series, particles
        The input geometry.
    references
        From `prepare`, with the same settings.

    Raises
    ------
    RunError
        when a tilt image cannot be read.
    """
    clock = _Clock(progress=progress)
    with ThreadPoolExecutor(settings.run.threads) as pool, threadpool_limits(1):
        windows = correlation_windows(series, particles, references, settings, pool, clock)
    with threadpool_limits(settings.run.threads):
        refinement = _solve(series, particles, windows, settings, clock)
    return _result(series, particles, windows, refinement, settings, clock)


def frames_taking_part(series: TiltSeries, settings: AlignSettings) -> Bool[Array, "F"]:
    """Tilt images within --min_frame … --max_frame, counted in order of exposure."""
    rank = np.argsort(series.chronological)
    last = settings.windows.max_frame
    taking_part: Array = rank >= settings.windows.min_frame
    return taking_part if last is None else taking_part & (rank <= last)


def correlation_windows(
    series: TiltSeries,
    particles: Particles,
    references: PreparedReferences,
    settings: AlignSettings,
    pool: Executor,
    clock: _Clock,
) -> CorrelationWindows:
    """Read the tilt images twice: for the noise, then for the windows."""
    box = settings.windows.box_px
    taking_part = frames_taking_part(series, settings)
    tilts = np.arange(len(series))
    with ThreadPoolExecutor(1) as reader:
        noise = np.zeros((len(series), box // 2 + 1))
        if settings.weights.whiten:
            with clock.stage("noise", len(tilts)) as stage:
                for tilt, image in prefetch(series, tilts, reader):
                    noise[tilt] = noise_power(image, box, references.weight.last_frequency, pool)
                    stage.advance()
        weights = frequency_weights(noise, references.weight, box, settings.weights)
        samples = window_samples(settings.windows.range_px, settings.windows.padding)
        mask = box_mask(box)
        geometry = pair_geometry(series, particles, box, taking_part)
        values = np.zeros((len(series), len(particles), len(samples), len(samples)), dtype=np.float32)
        power = np.zeros(geometry.visible.shape)
        busy = np.flatnonzero(geometry.visible.any(axis=1))
        with clock.stage("correlation", len(busy)) as stage:
            for tilt, image in prefetch(series, busy, reader):
                task = TiltTask(
                    image=image,
                    tilt=tilt,
                    geometry=geometry,
                    particles=particles,
                    frequencies=tilt_frequencies(
                        series,
                        tilt,
                        weights[tilt if len(weights) > 1 else 0],
                        particles.optics_groups,
                        settings.weights.cutoff_fraction,
                    ),
                    mask=mask,
                    reference=references.transform,
                    displacements_px=samples,
                )
                correlate_tilt(task, pool, values[tilt], power[tilt])
                stage.advance()
    return CorrelationWindows(
        values=values,
        anchors_px=geometry.anchors_px,
        visible=geometry.visible,
        power=power,
        range_px=settings.windows.range_px,
        step_px=1 / settings.windows.padding,
    )


def _solve(
    series: TiltSeries,
    particles: Particles,
    windows: CorrelationWindows,
    settings: AlignSettings,
    clock: _Clock,
) -> Refinement:
    problem = build_problem(series, particles, windows, settings)
    options = RefineOptions(
        range_penalty=settings.windows.range_penalty,
        max_evaluations=settings.fit.max_iterations or RefineOptions.max_evaluations,
    )
    with clock.stage("refinement", 2) as stage:
        return refine(problem, windows, np.zeros(problem.layout.size), options, stage.advance)


def build_problem(
    series: TiltSeries, particles: Particles, windows: CorrelationWindows, settings: AlignSettings
) -> Problem:
    """Assemble the alignment problem of one tomogram."""
    motion = motion_model(settings.motion, series, particles)
    deformation = deformation_model(settings.deformation, series)
    layout = Layout(
        tilts=len(series),
        particles=len(particles),
        motion_shape=motion.shape,
        warp_shape=deformation.shape,
    )
    precision = initial_precision(layout, windows.range_px, series.tomogram_size_px)
    layout.unpack(precision).warp[...] = 2 * deformation.penalty_weights
    points = np.broadcast_to(particles.positions_px, (len(series), len(particles), 3))
    if particles.trajectories_px is not None and settings.motion is None:
        points = points + np.moveaxis(particles.trajectories_px, 1, 0)
    fit = settings.fit
    return Problem(
        surface=smooth_surface(windows),
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


def _result(
    series: TiltSeries,
    particles: Particles,
    windows: CorrelationWindows,
    refinement: Refinement,
    settings: AlignSettings,
    clock: _Clock,
) -> TomogramResult:
    projections, positions = refined_geometry(series, particles, refinement, windows, settings)
    pixel = series.pixel_size_angstrom
    centre = tomogram_centre_px(series.tomogram_size_px)
    moved = (projections - series.projections_px)[:, :2] @ np.append(centre, 1.0)
    turned = rotation_vector(projections[:, :3, :3] @ np.swapaxes(series.projections_px[:, :3, :3], 1, 2))
    warnings = _warnings(series, windows, refinement, settings)
    return TomogramResult(
        alignment=Alignment(
            tomogram=series.name,
            projections_px=projections,
            rows=particles.rows,
            positions_px=positions,
            warnings=warnings,
        ),
        statistics=TomogramStatistics(
            particles=len(particles),
            visible_pairs=int(windows.visible.sum()),
            log_likelihood_gain=refinement.log_likelihood - refinement.start_log_likelihood,
            rms_shift_angstrom=_rms(moved) * pixel,
            rms_angle_degrees=float(np.rad2deg(_rms(turned))),
            rms_position_angstrom=_rms(positions - particles.positions_px) * pixel,
            seconds_by_stage=dict(clock.seconds),
            evaluations=refinement.evaluations,
            warnings=warnings,
        ),
    )


def refined_geometry(
    series: TiltSeries,
    particles: Particles,
    refinement: Refinement,
    windows: CorrelationWindows,
    settings: AlignSettings,
) -> tuple[Float[Array, "F 4 4"], Float[Array, "P 3"]]:
    """Projections and positions of the solution, without net rotation of the positions (spec §6)."""
    parameters = refinement.problem.layout.unpack(refinement.vector)
    centre = tomogram_centre_px(series.tomogram_size_px)
    projections = series.projections_px.copy()
    Q = rotation_from_vector(parameters.angles)
    projections[:, :3, :3] = Q @ series.projections_px[:, :3, :3]
    pivot = series.projections_px[:, :3, :3] @ centre + series.projections_px[:, :3, 3]
    projections[:, :3, 3] = pivot - projections[:, :3, :3] @ centre
    projections[:, :2, 3] += parameters.shifts_px
    positions = particles.positions_px + parameters.positions_px
    seen = windows.visible.any(axis=0)
    if not (settings.fit.const_positions or settings.fit.const_angles or seen.sum() < 2):
        W = net_rotation(positions[seen], particles.positions_px[seen])
        # About the tomogram's centre the projections' shifts stay what they are, as --const_s demands.
        about = centre if settings.fit.const_shifts else positions[seen].mean(axis=0)
        projections, positions = remove_rotation(projections, positions, W, about)
    # What no image shows has not turned either.
    blind = ~windows.visible.any(axis=1)
    projections[blind] = series.projections_px[blind]
    positions[~seen] = particles.positions_px[~seen]
    return projections, positions


def _warnings(
    series: TiltSeries, windows: CorrelationWindows, refinement: Refinement, settings: AlignSettings
) -> tuple[str, ...]:
    warnings = []
    blind = np.flatnonzero(~windows.visible.any(axis=1) & frames_taking_part(series, settings))
    if len(blind):
        listed = ", ".join(str(i + 1) for i in blind)
        warnings.append(f"tilt images {listed} of {series.name} show no particle and keep their projections")
    if not refinement.converged:
        warnings.append(
            f"{series.name} had not converged after {refinement.evaluations} evaluations: "
            "allow more with --it"
        )
    return tuple(warnings)


def _rms(vectors: Array) -> float:
    """Root mean square length of vectors (N, k)."""
    return float(np.sqrt(np.mean(np.sum(vectors**2, axis=-1))))
