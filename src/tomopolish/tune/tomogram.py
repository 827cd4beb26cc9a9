"""A tomogram of a tuning, whose windows are computed once and solved again for each prior."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from threadpoolctl import threadpool_limits

from tomopolish.dataset.model import Particles, TiltSeries
from tomopolish.dataset.screening import screened, without_lost
from tomopolish.errors import RunError
from tomopolish.imaging.windows import CorrelationWindows
from tomopolish.physics.geometry import project
from tomopolish.pipeline import PreparedReferences, build_problem, correlation_windows
from tomopolish.pipeline.fit import SCALE_TOLERANCE, intensity_scales
from tomopolish.pipeline.memory import WindowMemory
from tomopolish.pipeline.problem import start_vector
from tomopolish.progress import Progress
from tomopolish.settings.alignment import AlignSettings, MotionSettings
from tomopolish.shapes import Float
from tomopolish.solve.maximisation import newton
from tomopolish.solve.newton import NewtonOptions
from tomopolish.solve.refine import Refinement, RefineOptions, refine
from tomopolish.tune.linear import LinearTomogram, linearise
from tomopolish.tune.noise import NoiseModel, crowding, fit_noise, no_crowding
from tomopolish.tune.prior import MotionPrior

Array = np.ndarray

NEWTON = NewtonOptions(relative_tolerance=1e-7, max_evaluations=40)


@dataclass(frozen=True, kw_only=True, eq=False)
class TunedTomogram:
    """A tomogram's windows, and its solution with a motion prior.

    Attributes
    ----------
    static
        Angles, shifts and positions of the solution, flat.
    offsets_px
        Motion of the solution, file order.
    crowding
        Crowding of every pair, file order.
    resolution_px
        Period of the finest detail in the comparison.
    noise
        Last fit of the measurements' noise; None before the first fit.
    """

    series: TiltSeries
    particles: Particles
    windows: CorrelationWindows
    settings: AlignSettings
    static: Float[Array, "N"]
    offsets_px: Float[Array, "F P 3"]
    crowding: Float[Array, "F P"]
    resolution_px: float
    noise: NoiseModel | None = None

    def measured(self, motion: MotionSettings) -> tuple[TunedTomogram, LinearTomogram]:
        """Solve with a motion prior, from the last solution; returns the solution and the measurements."""
        problem = build_problem(
            self.series, self.particles, self.windows, replace(self.settings, motion=motion)
        )
        start = np.zeros(problem.layout.size)
        start[: len(self.static)] = self.static
        problem.layout.unpack(start).motion[...] = problem.motion.coefficients(self.offsets_px)
        vector = newton(problem, start, NEWTON).state.vector
        measurements = linearise(
            self.series.name,
            problem,
            vector,
            self.windows.power,
            self.particles.positions_px,
            scale_px(self.series, motion),
        )
        offsets = problem.motion.offsets_px(problem.layout.unpack(vector).motion)
        return replace(self, static=vector[: len(self.static)], offsets_px=offsets), measurements

    def with_fitted_noise(
        self, measurements: LinearTomogram, prior: MotionPrior
    ) -> tuple[TunedTomogram, LinearTomogram]:
        """Fit the noise under a motion prior; returns measurements in units of the estimated errors."""
        crowded = [
            self.crowding[f, frame.particles]
            for f, frame in zip(self.series.chronological, measurements.frames, strict=True)
        ]
        noise = fit_noise(measurements, crowded, prior, self.noise or no_crowding(measurements))
        return replace(self, noise=noise), measurements.with_noise(noise.variances(crowded))


def scale_px(series: TiltSeries, motion: MotionSettings) -> float:
    """Return the length in px of one unit of `--s_vel` and `--s_div`."""
    return (1.0 if motion.absolute else series.frame_dose) / series.pixel_size_angstrom


def open_tomogram(
    series: TiltSeries,
    particles: Particles,
    references: PreparedReferences,
    settings: AlignSettings,
    progress: Progress,
    *,
    max_particles: int,
) -> TunedTomogram:
    """Compute the windows of at most `max_particles` particles, chosen at random, and align with motion.

    References of the wrong intensity are corrected as in an alignment.

    Parameters
    ----------
    settings
        Settings with the initial motion prior.

    Raises
    ------
    RunError
        When a tilt image cannot be read, or too few particles or tilt images are visible.
    """
    assert settings.motion is not None
    settings = replace(settings, fit=replace(settings.fit, held_out_fraction=0.0))  # no evidence is needed
    all_positions_px = particles.positions_px
    series = screened(series)
    particles = _subset(particles, max_particles)
    with ThreadPoolExecutor(settings.run.threads) as pool, threadpool_limits(1):
        windows = correlation_windows(series, particles, references, settings, pool, progress)
    series = without_lost(series)
    if windows.visible.any(axis=0).sum() < 3 or windows.visible.any(axis=1).sum() < 3:
        raise RunError("fewer than three particles or tilt images are visible")
    with threadpool_limits(1), progress.stage("alignment") as stage:
        windows, refinement = _solution(series, particles, windows, settings)
        stage.advance()
    layout = refinement.problem.layout
    blocks = layout.unpack(refinement.vector)
    return TunedTomogram(
        series=series,
        particles=particles,
        windows=windows,
        settings=settings,
        static=np.concatenate([blocks.angles.ravel(), blocks.shifts_px.ravel(), blocks.positions_px.ravel()]),
        offsets_px=refinement.problem.motion.offsets_px(blocks.motion),
        crowding=crowding(
            project(series.projections_px, particles.positions_px)[..., :2],
            project(series.projections_px, all_positions_px)[..., :2],
            references.box_px,
        ),
        resolution_px=references.box_px / references.weight.last_shell,
    )


def _solution(
    series: TiltSeries, particles: Particles, windows: CorrelationWindows, settings: AlignSettings
) -> tuple[CorrelationWindows, Refinement]:
    chosen_scale = settings.fit.reference_scale
    owner = np.zeros(len(particles), dtype=np.int64)
    memory = WindowMemory.of(windows)
    memory.scale(np.full(len(particles), 1.0 if chosen_scale is None else chosen_scale))
    refinement = _refined(series, particles, memory.windows, settings)
    scale = float(intensity_scales(memory.windows, refinement, owner)[0])
    off = scale > 0 and max(scale, 1 / scale) > SCALE_TOLERANCE
    if chosen_scale is None and settings.weights.whiten and off:
        memory.scale(np.full(len(particles), scale))
        refinement = _refined(series, particles, memory.windows, settings)
    return memory.windows, refinement


def _refined(
    series: TiltSeries, particles: Particles, windows: CorrelationWindows, settings: AlignSettings
) -> Refinement:
    problem = build_problem(series, particles, windows, settings)
    start, _ = start_vector(series, particles, problem, settings)
    return refine(problem, windows, start, RefineOptions(threads=settings.run.threads))


def _subset(particles: Particles, most: int) -> Particles:
    if len(particles) <= most:
        return particles
    chosen = np.sort(np.random.default_rng(0).choice(len(particles), most, replace=False))
    return replace(
        particles,
        rows=particles.rows[chosen],
        names=tuple(particles.names[i] for i in chosen),
        positions_px=particles.positions_px[chosen],
        rotations=particles.rotations[chosen],
        half_set=particles.half_set[chosen],
        optics_group=particles.optics_group[chosen],
        trajectories_px=None if particles.trajectories_px is None else particles.trajectories_px[chosen],
    )
