"""From windows to a tomogram's geometry: the fits, and corrections of the references' intensity."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from tomopolish.dataset.model import Particles, TiltSeries
from tomopolish.imaging.held_out import is_small
from tomopolish.imaging.windows import CorrelationWindows
from tomopolish.pipeline.evidence import held_back, weigh
from tomopolish.pipeline.problem import build_problem, start_vector
from tomopolish.pipeline.shifts import refine_shifts
from tomopolish.progress import StageProgress
from tomopolish.results.tomogram import Evidence
from tomopolish.settings.alignment import AlignSettings
from tomopolish.shapes import Float, Int
from tomopolish.solve.coarse import SearchWindows, search_windows
from tomopolish.solve.problem import Problem, evaluate, pair_values
from tomopolish.solve.refine import Refinement, RefineOptions, refine
from tomopolish.solve.surface import add_pairs

Array = np.ndarray

ENOUGH_TO_JUDGE = 0.05
"""Log-likelihood, in nats, not worth another step of a first fit, which is only judged and gone on from."""

SCALE_TOLERANCE = 1.5
SCALE_CORRECTIONS = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Solved:
    """Windows as last scaled, the solution, each species' scale as estimated, warnings, and the evidence."""

    windows: CorrelationWindows
    refinement: Refinement
    scales: tuple[float, ...]
    warnings: tuple[str, ...]
    evidence: Evidence | None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Prepared:
    """A problem, and what its search needs; where that is there, the surfaces lie in the windows' memory."""

    problem: Problem
    search: SearchWindows | None

    def scaled(self, windows: CorrelationWindows, factors: Float[Array, "P"]) -> _Prepared:
        """For references multiplied by a factor for each particle; `windows` holds the surfaces, scaled."""
        assert self.search is not None
        surface = replace(self.problem.surface, coefficients=windows.values, visible=windows.visible)
        return _Prepared(problem=self.problem.with_surface(surface), search=self.search.scaled(factors))


def _keeps_windows(windows: CorrelationWindows, settings: AlignSettings) -> bool:
    """Whether something needs the windows after the first fit's search: a second one, or their sums."""
    again = windows.held_out is not None and is_small(int(windows.visible.sum()))
    return again or settings.fit.shift_only


def _prepare(
    series: TiltSeries,
    particles: Particles,
    windows: CorrelationWindows,
    settings: AlignSettings,
    *,
    keep: bool,
) -> _Prepared:
    """Build the problem; unless windows are to be kept, they are lost, which saves a sixth of the memory."""
    search = None
    if not keep:
        with ThreadPoolExecutor(settings.run.threads) as pool:
            search = search_windows(windows, pool)
    return _Prepared(
        problem=build_problem(series, particles, windows, settings, in_place=not keep),
        search=search,
    )


def solve(
    series: TiltSeries,
    particles: Particles,
    windows: CorrelationWindows,
    owner: Int[Array, "P"],
    settings: AlignSettings,
    stage: StageProgress,
    micrographs: CorrelationWindows | None,
) -> Solved:
    """Refine; where the references' intensity turns out to be off, correct it and refine again.

    A first fit does without the held-out pairs, and is judged by them; the final one starts where it ended.

    Parameters
    ----------
    owner
        Species of each particle; each has its own references, and so its own scale.
    micrographs
        Windows of whole images, where shifts alone are to come from them.
    """
    options = RefineOptions(
        threads=settings.run.threads,
        max_evaluations=settings.fit.max_iterations or RefineOptions.max_evaluations,
    )
    first = _first_fit(series, particles, windows, owner, settings, options, stage, micrographs)
    windows, problem, refinement, scale = first.windows, first.problem, first.refinement, first.scale
    more = first.warnings
    evidence = weigh(windows, refinement.problem, refinement.vector)
    if evidence is not None:
        held = windows.held_out
        assert held is not None
        problem = problem.with_surface(add_pairs(problem.surface, windows, held.tilts, held.particles))
        refinement, more = _fit_on(
            series, problem, windows, first.start, refinement, settings, options, stage
        )
        scale = intensity_scales(windows, refinement, owner)
    corrected = () if settings.fit.reference_scale is not None else first.applied
    return Solved(
        windows=windows,
        refinement=refinement,
        scales=tuple(float(v) for v in first.applied * scale),
        warnings=(
            *first.start_warnings,
            *more,
            *(
                f"the references were multiplied by {factor:.3g} to fit the images of {series.name}; "
                "give --ref_scale 1 to use them as they are"
                for factor in corrected
                if factor != 1
            ),
        ),
        evidence=evidence,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _FirstFit:
    """The first fit, which does without the held-out pairs.

    Attributes
    ----------
    windows
        As last scaled.
    applied
        What each species' references were multiplied by; `scale`: by what they still should be.
    start_warnings, warnings
        Of the start vector, and of the fit.
    """

    windows: CorrelationWindows
    problem: Problem
    start: Float[Array, "N"]
    refinement: Refinement
    applied: Float[Array, "S"]
    scale: Float[Array, "S"]
    start_warnings: tuple[str, ...]
    warnings: tuple[str, ...]


def _first_fit(
    series: TiltSeries,
    particles: Particles,
    windows: CorrelationWindows,
    owner: Int[Array, "P"],
    settings: AlignSettings,
    options: RefineOptions,
    stage: StageProgress,
    micrographs: CorrelationWindows | None,
) -> _FirstFit:
    """Refine without the held-out pairs until the references' intensity needs no further correction."""
    if windows.held_out is not None:
        options = replace(options, enough=ENOUGH_TO_JUDGE)
    given, keep = settings.fit.reference_scale, _keeps_windows(windows, settings)
    applied = np.full(int(owner.max(initial=0)) + 1, 1.0 if given is None else given)
    windows, prepared = scaled(windows, applied[owner]), None
    change = np.ones_like(applied)
    for corrections_left in reversed(range(SCALE_CORRECTIONS + 1)):
        with held_back(windows) as known:
            if prepared is None or keep:
                prepared = _prepare(series, particles, known, settings, keep=keep)
            else:
                prepared = prepared.scaled(known, change[owner])
            problem, search = prepared.problem, prepared.search
            start, start_warnings = start_vector(series, particles, problem, settings)
            refinement, warnings = _fit(
                series, problem, known, start, settings, options, stage, micrographs, search
            )
            scale = intensity_scales(known, refinement, owner)
        off = (scale > 0) & (np.maximum(scale, 1 / np.maximum(scale, 1e-12)) > SCALE_TOLERANCE)
        fixed = given is not None or settings.fit.shift_only or not settings.weights.whiten
        if fixed or not off.any() or not corrections_left:
            break  # windows and problem have one scale
        change = np.where(off, scale, 1.0)
        windows, applied = scaled(windows, change[owner]), applied * change
    return _FirstFit(
        windows=windows,
        problem=problem,
        start=start,
        refinement=refinement,
        applied=applied,
        scale=scale,
        start_warnings=start_warnings,
        warnings=warnings,
    )


def _fit(
    series: TiltSeries,
    problem: Problem,
    windows: CorrelationWindows,
    start: Float[Array, "N"],
    settings: AlignSettings,
    options: RefineOptions,
    stage: StageProgress,
    micrographs: CorrelationWindows | None = None,
    search: SearchWindows | None = None,
) -> tuple[Refinement, tuple[str, ...]]:
    """Refine what the settings ask for; returns the solution and warnings."""
    if settings.fit.shift_only:
        return refine_shifts(series, problem, windows, micrographs)
    return refine(problem, windows, start, options, stage.advance, search), ()


def _fit_on(
    series: TiltSeries,
    problem: Problem,
    windows: CorrelationWindows,
    start: Float[Array, "N"],
    first: Refinement,
    settings: AlignSettings,
    options: RefineOptions,
    stage: StageProgress,
) -> tuple[Refinement, tuple[str, ...]]:
    """Go on from a first fit with all pairs; figures of the whole count from the input geometry `start`.

    Where pairs are few, those that were held out may be what finds the right optimum: then all is done anew.
    """
    given = evaluate(problem, start)
    anew = is_small(int(windows.visible.sum()))
    source = start if anew else first.vector
    options = replace(options, robust_start=anew)
    found, warnings = _fit(series, problem, windows, source, settings, options, stage)
    whole = replace(
        found,
        start_log_likelihood=given.log_likelihood,
        evaluations=first.evaluations + found.evaluations,
        coarse_evaluations=first.coarse_evaluations + found.coarse_evaluations,
        history=found.history if anew else (given.objective, *found.history),
    )
    return whole, warnings


def scaled(windows: CorrelationWindows, factors: Float[Array, "P"]) -> CorrelationWindows:
    """Windows for references multiplied by a factor for each particle."""
    if np.all(factors == 1):
        return windows
    values = windows.values * factors.astype(np.float32)[:, None, None]
    held = windows.held_out
    if held is not None:
        mine = factors[held.particles]
        held = replace(
            held,
            values=held.values * mine.astype(np.float32)[:, None, None],
            power=held.power * mine**2,
        )
    return replace(windows, values=values, power=windows.power * factors**2, held_out=held)


def intensity_scales(
    windows: CorrelationWindows, refinement: Refinement, owner: Int[Array, "P"]
) -> Float[Array, "S"]:
    """Factor by which each species' predictions must be multiplied to fit the images best.

    Weighted least squares of the images on the predictions at the solution: the log-likelihood gained over
    the predictions' own weighted power.
    """
    gained = pair_values(refinement.problem, refinement.vector).sum(axis=0)
    power = np.where(windows.visible, windows.power, 0.0).sum(axis=0)
    gained, power = np.bincount(owner, weights=gained), np.bincount(owner, weights=power)
    return np.divide(gained, power, out=np.ones_like(power), where=power > 0)
