"""One tomogram ready for tuning: windows computed once, solved again for each prior."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from threadpoolctl import threadpool_limits

from tomopolish.correlation.windows import CorrelationWindows
from tomopolish.dataset.model import Particles, TiltSeries
from tomopolish.errors import RunError
from tomopolish.pipeline import PreparedReferences, build_problem, correlation_windows
from tomopolish.pipeline.align import SCALE_TOLERANCE, intensity_scale, scaled
from tomopolish.progress import Progress
from tomopolish.settings import AlignSettings, MotionSettings
from tomopolish.solve.newton import NewtonOptions
from tomopolish.solve.problem import Problem
from tomopolish.solve.refine import Refinement, RefineOptions, newton, refine
from tomopolish.tune.evidence import LinearTomogram, linearise

Array = np.ndarray

FOLDS = 5

NEWTON = NewtonOptions(relative_tolerance=1e-6, max_evaluations=60)


@dataclass(frozen=True, kw_only=True, eq=False)
class TunedTomogram:
    """A tomogram's windows and its solution with some motion prior.

    Attributes
    ----------
    vector
        Parameters of the static problem: what every other solution starts from.
    offsets_px
        Motion of the last solution, `[tilt, particle, axis]`.
    dispersion
        Variance of the noise over what the weights take it to be: log-likelihoods are divided by it.
    """

    series: TiltSeries
    particles: Particles
    windows: CorrelationWindows
    settings: AlignSettings
    static: Array
    offsets_px: Array
    dispersion: float = 1.0

    def linearised(self, motion: MotionSettings) -> tuple[TunedTomogram, LinearTomogram]:
        """Solve with a motion prior, from the last solution, and expand about the solution."""
        windows = scaled(self.windows, 1 / self.dispersion)
        problem = build_problem(self.series, self.particles, windows, replace(self.settings, motion=motion))
        layout = problem.layout
        start = np.zeros(layout.size)
        blocks = layout.unpack(start)
        size = start.size - blocks.motion.size - blocks.warp.size
        if len(self.static) != size:
            raise RunError(f"{self.series.name}: the static solution does not fit the problem with motion")
        known = _static_blocks(problem.layout.tilts, len(self.particles), self.static)
        blocks.angles[...], blocks.shifts_px[...], blocks.positions_px[...] = known
        blocks.motion[...] = problem.motion.coefficients(self.offsets_px)
        vector = newton(problem, start, NEWTON).state.vector
        found = layout.unpack(vector)
        linear = linearise(
            self.series.name,
            problem,
            vector,
            [(pairs, _without(problem, pairs, vector)) for pairs in self._folds()],
            windows.power,
            self.particles.positions_px,
            frame_dose=1.0 if motion.absolute else self.series.frame_dose,
            pixel_size_angstrom=self.series.pixel_size_angstrom,
        )
        static = np.concatenate([found.angles.ravel(), found.shifts_px.ravel(), found.positions_px.ravel()])
        moved = replace(self, static=static, offsets_px=problem.motion.offsets_px(found.motion))
        return moved, linear

    def _folds(self) -> list[Array]:
        """Partition of the visible pairs, at random but always the same."""
        visible = self.windows.visible
        fold = np.random.default_rng(0).integers(FOLDS, size=visible.shape)
        return [visible & (fold == k) for k in range(FOLDS)]


def _without(problem: Problem, pairs: Array, start: Array) -> Array:
    """Solve without some pairs."""
    surface = replace(problem.surface, visible=problem.surface.visible & ~pairs)
    return newton(problem.with_surface(surface), start, NEWTON).state.vector


def _static_blocks(tilts: int, particles: int, static: Array) -> tuple[Array, Array, Array]:
    angles, shifts, positions = np.split(static, [3 * tilts, 5 * tilts])
    return angles.reshape(tilts, 3), shifts.reshape(tilts, 2), positions.reshape(particles, 3)


def open_tomogram(
    series: TiltSeries,
    particles: Particles,
    references: PreparedReferences,
    settings: AlignSettings,
    progress: Progress,
    *,
    max_particles: int,
    seed: int = 0,
) -> TunedTomogram:
    """Compute the windows of at most `max_particles` particles, chosen at random, and align without motion.

    References of the wrong intensity are corrected as in an alignment.

    Raises
    ------
    RunError
        when a tilt image cannot be read, or nothing is visible.
    """
    settings = replace(settings, motion=None, deformation=None)
    particles = replace(_subset(particles, max_particles, seed), trajectories_px=None)
    with ThreadPoolExecutor(settings.run.threads) as pool, threadpool_limits(1):
        windows = correlation_windows(series, particles, references, settings, pool, progress)
    if not windows.visible.any():
        raise RunError(f"{series.name}: no tilt image shows any of the particles")
    with threadpool_limits(1), progress.stage("alignment") as stage:
        windows, refinement = _static_solution(series, particles, windows, settings)
        stage.advance()
    blocks = refinement.problem.layout.unpack(refinement.vector)
    static = np.concatenate([blocks.angles.ravel(), blocks.shifts_px.ravel(), blocks.positions_px.ravel()])
    return TunedTomogram(
        series=series,
        particles=particles,
        windows=windows,
        settings=settings,
        static=static,
        offsets_px=np.zeros((len(series), len(particles), 3)),
    )


def _static_solution(
    series: TiltSeries, particles: Particles, windows: CorrelationWindows, settings: AlignSettings
) -> tuple[CorrelationWindows, Refinement]:
    options = RefineOptions(threads=settings.run.threads)
    given = settings.fit.reference_scale
    windows = scaled(windows, 1.0 if given is None else given)
    problem = build_problem(series, particles, windows, settings)
    refinement = refine(problem, windows, np.zeros(problem.layout.size), options)
    scale = intensity_scale(windows, refinement)
    if given is None and settings.weights.whiten and scale > 0 and max(scale, 1 / scale) > SCALE_TOLERANCE:
        windows = scaled(windows, scale)
        problem = build_problem(series, particles, windows, settings)
        refinement = refine(problem, windows, np.zeros(problem.layout.size), options)
    return windows, refinement


def _subset(particles: Particles, most: int, seed: int) -> Particles:
    if len(particles) <= most:
        return particles
    kept = np.sort(np.random.default_rng(seed).choice(len(particles), most, replace=False))
    return replace(
        particles,
        rows=particles.rows[kept],
        names=tuple(particles.names[i] for i in kept),
        positions_px=particles.positions_px[kept],
        rotations=particles.rotations[kept],
        half_set=particles.half_set[kept],
        optics_group=particles.optics_group[kept],
        trajectories_px=None,
    )
