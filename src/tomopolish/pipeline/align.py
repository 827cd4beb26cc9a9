"""One tomogram, from tilt images to refined geometry."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
from threadpoolctl import threadpool_limits

from tomopolish.dataset.model import Particles, TiltSeries
from tomopolish.imaging.windows import CorrelationWindows
from tomopolish.pipeline.fit import solve
from tomopolish.pipeline.micrographs import micrograph_windows
from tomopolish.pipeline.problem import join_particles, join_windows
from tomopolish.pipeline.record import fit_record
from tomopolish.pipeline.references import PreparedReferences
from tomopolish.pipeline.result import diagnostics, refined_geometry, summarise
from tomopolish.pipeline.shifts import by_micrographs, shifts_alone
from tomopolish.pipeline.windows import correlation_windows
from tomopolish.progress import Progress, StageProgress
from tomopolish.results.tomogram import TomogramResult
from tomopolish.settings.alignment import AlignSettings
from tomopolish.shapes import Int
from tomopolish.solve.uncertainty import estimate_uncertainty, expected_curvature

Array = np.ndarray

LARGE_PROBLEM = 500
"""Particles from which on the matrix products of their motion gain from several threads."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Species:
    """Particles of one structure in a tomogram, and what they are compared with."""

    particles: Particles
    references: PreparedReferences


@dataclass(eq=False)
class _Clock:
    """Runs stages under the caller's progress display and adds up their times."""

    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[StageProgress]:
        begin = time.perf_counter()
        with self.progress.stage(name, total) as handle:
            yield handle
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin


def align_tomogram(
    series: TiltSeries,
    particles: Particles,
    references: PreparedReferences,
    settings: AlignSettings,
    progress: Progress,
) -> TomogramResult:
    """Refine one tomogram with particles of one structure; see `align_species`."""
    return align_species(series, [Species(particles=particles, references=references)], settings, progress)


def align_species(
    series: TiltSeries, species: Sequence[Species], settings: AlignSettings, progress: Progress
) -> TomogramResult:
    """Refine one tomogram; all species pull on the same projections, motion and warp.

    Parameters
    ----------
    series
        Input geometry and images.
    species
        At least one; the references are prepared with the same settings, but for the box.

    Raises
    ------
    RunError
        when a tilt image cannot be read.
    """
    clock = _Clock(progress=progress)
    settings = shifts_alone(settings)
    with ThreadPoolExecutor(settings.run.threads) as pool, threadpool_limits(1):
        found = [
            correlation_windows(series, s.particles, s.references, settings, pool, clock) for s in species
        ]
        micrographs = None
        if by_micrographs(settings.fit):
            models = [(s.particles, s.references) for s in species]
            micrographs = micrograph_windows(series, models, settings, pool, clock)
    shown = tuple(diagnostics(series, w) for w in found) if settings.run.diagnostics else ()
    windows = join_windows(found)
    del found
    joined = join_particles([s.particles for s in species], len(series))
    result = _refined(series, [s.particles for s in species], joined, windows, settings, clock, micrographs)
    return replace(result, diagnostics=shown)


def _refined(
    series: TiltSeries,
    species: Sequence[Particles],
    joined: Particles,
    windows: CorrelationWindows,
    settings: AlignSettings,
    clock: _Clock,
    micrographs: CorrelationWindows | None,
) -> TomogramResult:
    """Solve for the geometry, given windows of all species' particles; see `align_species`."""
    large = settings.motion is not None and len(joined) >= LARGE_PROBLEM
    threads = settings.run.threads if large else 1
    with threadpool_limits(threads), clock.stage("refinement") as stage:
        solved = solve(series, joined, windows, _owners(species), settings, stage, micrographs)
    windows, refinement = solved.windows, solved.refinement
    with threadpool_limits(threads), clock.stage("uncertainty"):
        curvature = expected_curvature(refinement.problem, refinement.vector, windows.power)
        geometry = refined_geometry(series, joined, refinement, windows, curvature, settings)
        uncertainty = estimate_uncertainty(
            refinement.problem,
            curvature,
            None if geometry.frame is None else geometry.frame.positions_share,
            threads=1 if threads > 1 else settings.run.threads,  # BLAS's threads and ours never nest
        )
    result = summarise(
        series,
        species,
        joined,
        windows,
        refinement,
        geometry,
        uncertainty,
        settings,
        solved.scales,
        clock.seconds,
        solved.warnings,
    )
    statistics = replace(result.statistics, evidence=solved.evidence)
    record = fit_record(series, species, joined, windows, refinement, settings.run.threads)
    return replace(result, statistics=statistics, record=record)


def _owners(species: Sequence[Particles]) -> Int[Array, "P"]:
    return np.repeat(np.arange(len(species)), [len(p) for p in species])
