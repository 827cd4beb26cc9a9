"""From correlation windows to the most probable geometry: coarse to fine, then Newton (spec §6)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from tomopolish.correlation.windows import CorrelationWindows
from tomopolish.models.parameters import Layout
from tomopolish.solve.initial import SearchLevel, blurred, search
from tomopolish.solve.newton import NewtonOptions, Solution, maximise
from tomopolish.solve.preconditioner import factorise
from tomopolish.solve.problem import Problem, State, evaluate, multiply_hessian
from tomopolish.solve.surface import smooth_surface

Array = np.ndarray

COARSE_TOLERANCE = 1e-5
COARSE_EVALUATIONS = 8
MIN_SPREAD_PX = 0.1


@dataclass(frozen=True, kw_only=True)
class RefineOptions:
    """How the solution is found.

    Attributes
    ----------
    range_penalty
        Penalty beyond the windows' range, log-likelihood per px².
    robust_start
        Search tilt images and particles in turns before the derivatives take over.
    max_evaluations
        Most evaluations of the objective on the unblurred windows.
    """

    range_penalty: float = 0.0
    robust_start: bool = True
    max_evaluations: int = 60


@dataclass(frozen=True, kw_only=True, eq=False)
class Refinement:
    """The solution and how it was found.

    Attributes
    ----------
    vector
        Parameters, flat.
    problem
        The problem solved last: unblurred windows, prior widths as estimated.
    start_log_likelihood, log_likelihood
        At the start vector and at the solution, same windows.
    evaluations
        Evaluations of the objective on unblurred windows.
    coarse_evaluations
        Those on blurred ones.
    history
        Objective after each accepted step on the unblurred windows.
    """

    vector: Float[Array, "N"]
    problem: Problem
    start_log_likelihood: float
    log_likelihood: float
    converged: bool
    evaluations: int
    coarse_evaluations: int
    history: tuple[float, ...]


def search_levels(range_px: float, step_px: float) -> tuple[SearchLevel, ...]:
    """Blurs from a quarter of the range down to half a sample, each half of the last."""
    levels = []
    blur, reach = range_px / 4, float(range_px)
    while blur > 0.4 * step_px:
        levels.append(SearchLevel(blur_px=blur, reach_px=reach, sweeps=2))
        blur, reach = blur / 2, max(reach / 2, 2 * step_px)
    return tuple(levels)


def initial_precision(layout: Layout, range_px: float, tomogram_size_px: tuple[int, int, int]) -> Array:
    """Prior before anything is known: the range itself as standard deviation, in the image, of everything."""
    arm = 0.25 * float(np.linalg.norm(tomogram_size_px))
    return layout.fill(
        angles=(arm / range_px) ** 2, shifts_px=1 / range_px**2, positions_px=1 / range_px**2, motion=1.0
    )


def refine(
    problem: Problem,
    windows: CorrelationWindows,
    start: Float[Array, "N"],
    options: RefineOptions,
    advance: Callable[[], None] = lambda: None,
) -> Refinement:
    """Find the most probable geometry.

    Parameters
    ----------
    problem
        Its surface is replaced by that of `windows`.
    start
        Parameters to start from; zero is the input geometry.
    advance
        Called after each level.
    """
    sharp = problem.with_surface(smooth_surface(windows, 0.0, options.range_penalty))
    start_log_likelihood = evaluate(sharp, start).log_likelihood
    vector, coarse = start, 0
    if options.robust_start:
        for level in search_levels(windows.range_px, windows.step_px):
            vector, used = _coarse_level(problem, windows, vector, level)
            coarse += used
            advance()
    solution = newton(sharp, vector, NewtonOptions(max_evaluations=options.max_evaluations))
    evaluations, history = 1 + solution.evaluations, solution.history
    # What the well-seen tilt images and particles turned out to need says how far the weakly seen may go.
    informed = replace(sharp, precision=informed_precision(sharp, solution.state.vector))
    left = max(2, options.max_evaluations - evaluations)
    solution = newton(informed, solution.state.vector, NewtonOptions(max_evaluations=left))
    advance()
    return Refinement(
        vector=solution.state.vector,
        problem=informed,
        start_log_likelihood=start_log_likelihood,
        log_likelihood=evaluate(informed, solution.state.vector).log_likelihood,
        converged=solution.converged,
        evaluations=evaluations + solution.evaluations,
        coarse_evaluations=coarse,
        history=history + solution.history[1:],
    )


def newton(problem: Problem, start: Float[Array, "N"], options: NewtonOptions) -> Solution[State]:
    """Maximise a problem's objective from `start` by trust-region Newton steps."""
    return maximise(
        evaluate=lambda vector: evaluate(problem, vector),
        multiply=lambda state, vector: multiply_hessian(problem, state, vector),
        factorise=lambda state: factorise(problem, state),
        start=start,
        options=options,
    )


def _coarse_level(
    problem: Problem, windows: CorrelationWindows, vector: Array, level: SearchLevel
) -> tuple[Array, int]:
    layout = problem.layout
    values = blurred(windows.values, level.blur_px / windows.step_px)
    found = search(problem, values, layout.unpack(vector), level, (windows.origin, windows.step_px))
    del values
    blurry = problem.with_surface(smooth_surface(windows, level.blur_px))
    options = NewtonOptions(relative_tolerance=COARSE_TOLERANCE, max_evaluations=COARSE_EVALUATIONS)
    solution = newton(blurry, layout.pack(found), options)
    return solution.state.vector, solution.evaluations


def informed_precision(problem: Problem, vector: Float[Array, "N"]) -> Float[Array, "N"]:
    """Prior widths of angles, shifts and positions as the well-determined ones of this tomogram show them.

    Well determined are tilt images and particles with at least half the median number of visible pairs. The
    prior is never wider than the one in force, and never narrower than `MIN_SPREAD_PX` in the image.
    """
    layout = problem.layout
    blocks = layout.unpack(vector)
    current = layout.unpack(problem.precision)
    seen = problem.surface.visible
    parts: dict[str, Array] = {"motion": current.motion, "warp": current.warp}
    for name, count in (
        ("angles", seen.sum(axis=1)),
        ("shifts_px", seen.sum(axis=1)),
        ("positions_px", seen.sum(axis=0)),
    ):
        block, old = getattr(blocks, name), getattr(current, name)
        sure = count >= 0.5 * np.median(count)
        arm = np.sqrt(old.mean() / current.shifts_px.mean())
        floor = MIN_SPREAD_PX / arm
        spread = max(float(np.sqrt(np.mean(block[sure] ** 2))), floor)
        parts[name] = np.maximum(old, 1 / spread**2)
    return layout.fill(**parts)
