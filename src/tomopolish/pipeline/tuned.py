"""Opening a tomogram of a tuning: windows of some particles, and an alignment with motion."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from threadpoolctl import threadpool_limits

from tomopolish.dataset.model import Particles, TiltSeries
from tomopolish.dataset.screening import screened, without_lost
from tomopolish.errors import RunError
from tomopolish.imaging.windows import CorrelationWindows
from tomopolish.physics.geometry import project
from tomopolish.pipeline.intensity import are_off, intensity_scales
from tomopolish.pipeline.memory import WindowMemory
from tomopolish.pipeline.motion_trial import problems, some_of
from tomopolish.pipeline.problem import build_problem, start_vector
from tomopolish.pipeline.references import PreparedReferences
from tomopolish.pipeline.windows import correlation_windows
from tomopolish.progress import Progress
from tomopolish.settings.alignment import AlignSettings
from tomopolish.solve.refine import Refinement, RefineOptions, refine
from tomopolish.tune.noise import crowding
from tomopolish.tune.tomogram import TunedTomogram


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
    particles = particles.subset(some_of(np.arange(len(particles)), max_particles))
    with ThreadPoolExecutor(settings.run.threads) as pool, threadpool_limits(1):
        windows = correlation_windows(series, particles, references, settings, pool, progress)
    series = without_lost(series)
    if windows.visible.any(axis=0).sum() < 3 or windows.visible.any(axis=1).sum() < 3:
        raise RunError("fewer than three particles or tilt images are visible")
    with threadpool_limits(1), progress.stage("alignment") as stage:
        windows, refinement = _solution(series, particles, windows, settings)
        stage.advance()
    problem, vector = refinement.problem, refinement.vector
    return TunedTomogram(
        series=series,
        particles=particles,
        problem_with=problems(series, particles, windows, settings, problem.surface),
        power=windows.power,
        static=vector[: problem.layout.static_size],
        offsets_px=problem.motion.offsets_px(problem.layout.unpack(vector).motion),
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
    scales = intensity_scales(memory.windows, refinement, owner)
    if chosen_scale is None and settings.weights.whiten and are_off(scales).any():
        memory.scale(scales[owner])
        refinement = _refined(series, particles, memory.windows, settings)
    return memory.windows, refinement


def _refined(
    series: TiltSeries, particles: Particles, windows: CorrelationWindows, settings: AlignSettings
) -> Refinement:
    problem = build_problem(series, particles, windows, settings)
    start, _ = start_vector(series, particles, problem, settings)
    return refine(problem, windows, start, RefineOptions(threads=settings.run.threads))
