"""From correlation windows to the most probable geometry: coarse to fine, then Newton.

See docs/conventions.md, Objective.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np

from tomopolish.imaging.windows import CorrelationWindows
from tomopolish.models.parameters import Layout
from tomopolish.shapes import Bool, Float
from tomopolish.solve.coarse import (
    CoarseWindows,
    SearchWindows,
    coarse_surface,
    search_windows,
)
from tomopolish.solve.initial import (
    ball,
    doubtful,
    mean_field_start,
    search_particle,
    search_tilt,
    turns_around,
)
from tomopolish.solve.newton import NewtonOptions, Solution, maximise
from tomopolish.solve.preconditioner import CoupledFactor, SchurFactor, factorise
from tomopolish.solve.problem import Problem, State, evaluate, multiply_hessian, pair_values
from tomopolish.solve.warp_prior import informed_warp_precision, spread_is_estimated
from tomopolish.solve.workers import Spread, Workers, alone

Array = np.ndarray

TOLERANCE = 1e-9
ENOUGH = 1e-3
"""What as a rule is not worth another step: far below what noise leaves open."""
COARSE_TOLERANCE = 1e-5
COARSE_EVALUATIONS = 8
MENDING_ROUNDS = 3
PRIOR_ROUNDS = 5
"""Most estimates of the prior's widths where a warp's is one of them; otherwise the first one holds."""
PRIOR_TOLERANCE = 0.2
"""Relative change of a warp's estimated precision that ends its estimation."""
SAME_OPTIMUM = 0.5
"""Objectives that differ by less, in nats, are taken to belong to the same optimum."""

MIN_SPREAD_PX = 0.1


@dataclass(frozen=True, kw_only=True)
class RefineOptions:
    """How the solution is found.

    Attributes
    ----------
    robust_start
        Search tilt images and particles in turns before the derivatives take over.
    threads
        Threads of the search; the result does not depend on them.
    max_evaluations
        Most evaluations of the objective on the unblurred windows.
    enough
        Log-likelihood, in nats, that is not worth another step.
    """

    robust_start: bool = True
    threads: int = 1
    max_evaluations: int = 200
    enough: float = ENOUGH


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


def initial_precision(layout: Layout, range_px: float, tomogram_size_px: tuple[int, int, int]) -> Array:
    """Prior before anything is known: the range itself as standard deviation, in the image, of everything."""
    arm = 0.25 * float(np.linalg.norm(tomogram_size_px))
    return layout.fill(
        angles=(arm / range_px) ** 2, shifts_px=1 / range_px**2, positions_px=1 / range_px**2, motion=1.0
    )


def static_parameters(layout: Layout) -> Bool[Array, "N"]:
    """Mask of projections and static positions: what is refined before motion and warps may move."""
    return layout.fill(angles=1.0, shifts_px=1.0, positions_px=1.0).astype(bool)


def refine(
    problem: Problem,
    windows: CorrelationWindows,
    start: Float[Array, "N"],
    options: RefineOptions,
    advance: Callable[[], None] = lambda: None,
    search: SearchWindows | None = None,
) -> Refinement:
    """Find the most probable geometry.

    Parameters
    ----------
    problem
        Its surface is that of the unblurred windows.
    start
        Parameters to start from; zero is the input geometry.
    advance
        Called after each level.
    search
        What a robust start takes of the windows, whose values are then not looked at; None: it is made.
    """
    with Workers(options.threads) as workers:
        if not options.robust_start:
            search = None
        elif search is None:
            search = search_windows(windows, workers.pool)
        return _refine(problem, windows, start, options, advance, workers, search)


def _refine(
    problem: Problem,
    windows: CorrelationWindows,
    start: Float[Array, "N"],
    options: RefineOptions,
    advance: Callable[[], None],
    workers: Workers,
    search: SearchWindows | None,
) -> Refinement:
    """As `refine`, with threads that are there already."""
    sharp = problem
    start_log_likelihood = evaluate(sharp, start, workers.over).log_likelihood
    static = replace(sharp, free=problem.free & static_parameters(problem.layout))
    tally = Tally()
    vector = start
    if search is not None:
        vector = _search(static, windows, start, options, tally, workers, search)
        advance()
    estimated = spread_is_estimated(problem.deformation)
    solution = newton(sharp, vector, _limits(options, tally, COARSE_TOLERANCE), workers.over)
    tally.evaluations += solution.evaluations
    history, informed = solution.history, sharp
    # What the well-seen tilt images and particles turned out to need says how far the weakly seen may go.
    for left in reversed(range(PRIOR_ROUNDS if estimated else 1)):
        precision = _informed(sharp, informed, solution.state, windows.range_px)
        now, before = (problem.layout.unpack(p).warp for p in (precision, informed.precision))
        last = not left or bool(np.allclose(now, before, rtol=PRIOR_TOLERANCE))
        informed = replace(sharp, precision=precision)
        tolerance = TOLERANCE if last else COARSE_TOLERANCE
        solution = newton(informed, solution.state.vector, _limits(options, tally, tolerance), workers.over)
        tally.evaluations += solution.evaluations
        history += solution.history[1:]
        if last or tally.evaluations >= options.max_evaluations:
            break
    advance()
    return Refinement(
        vector=solution.state.vector,
        problem=informed,
        start_log_likelihood=start_log_likelihood,
        log_likelihood=evaluate(informed, solution.state.vector, workers.over).log_likelihood,
        converged=solution.converged,
        evaluations=tally.evaluations,
        coarse_evaluations=tally.coarse_evaluations,
        history=history,
    )


def _informed(sharp: Problem, solved: Problem, state: State, range_px: float) -> Float[Array, "N"]:
    """Prior widths as a solution of `solved` shows them; `sharp` holds the widest ones."""
    precision = informed_precision(sharp, state.vector)
    if spread_is_estimated(sharp.deformation):
        factor = factorise(solved, state)
        assert isinstance(factor, CoupledFactor) and factor.warp is not None
        warp = informed_warp_precision(solved, state.vector, factor.warp, range_px)
        sharp.layout.unpack(precision).warp[...] = warp
    return precision


def newton(
    problem: Problem, start: Float[Array, "N"], options: NewtonOptions, spread: Spread = alone
) -> Solution[State]:
    """Maximise a problem's objective from `start` by trust-region Newton steps; `spread`: see `evaluate`."""
    first: SchurFactor | CoupledFactor | None = None

    def factor(state: State) -> SchurFactor | CoupledFactor:
        nonlocal first
        found = factorise(problem, state, near=first)
        first = first or found
        return found

    return maximise(
        evaluate=lambda vector: evaluate(problem, vector, spread),
        multiply=lambda state, vector: multiply_hessian(problem, state, vector),
        factorise=factor,
        start=start,
        options=options,
    )


@dataclass(eq=False)
class Tally:
    """Counts evaluations of the objective."""

    evaluations: int = 0
    coarse_evaluations: int = 0


def _limits(options: RefineOptions, tally: Tally, tolerance: float = TOLERANCE) -> NewtonOptions:
    """Allow what is left of the evaluations on unblurred windows; one at least, to know where one is."""
    left = max(1, options.max_evaluations - tally.evaluations)
    return NewtonOptions(relative_tolerance=tolerance, enough=options.enough, max_evaluations=left)


def _search(
    problem: Problem,
    windows: CorrelationWindows,
    start: Array,
    options: RefineOptions,
    tally: Tally,
    workers: Workers,
    search: SearchWindows,
) -> Array:
    """From the mean-field start through blurred windows to the sharp ones; then mend what does not fit in."""
    layout, pool = problem.layout, workers.pool
    coarse, length = search.coarse, search.length_px
    found = mean_field_start(problem, coarse, layout.unpack(start), windows.range_px, length, pool)

    def blurred_newton(problem: Problem, vector: Array, blur_px: float) -> Array:
        surface = coarse_surface(coarse, windows.visible, length, blur_px, windows.range_px, pool)
        options = NewtonOptions(relative_tolerance=COARSE_TOLERANCE, max_evaluations=COARSE_EVALUATIONS)
        solution = newton(problem.with_surface(surface), vector, options, workers.over)
        tally.coarse_evaluations += solution.evaluations
        return solution.state.vector

    vector = layout.pack(found)
    for blur_px in (length, length / 2):
        vector = blurred_newton(problem, vector, blur_px)
    best = newton(problem, vector, _limits(options, tally, COARSE_TOLERANCE), workers.over)
    tally.evaluations += best.evaluations
    for _ in range(MENDING_ROUNDS):
        # How far the others had to move tells how far one that shows little may be looked for.
        informed = replace(problem, precision=informed_precision(problem, best.state.vector))
        mended = mend(informed, windows, coarse, best.state, pool)
        if mended is None:
            break
        vector = blurred_newton(informed, mended, length / 2)
        again = newton(informed, vector, _limits(options, tally, COARSE_TOLERANCE), workers.over)
        tally.evaluations += again.evaluations
        held = best.state.log_likelihood + informed.log_prior(best.state.vector)
        if again.state.objective <= held + SAME_OPTIMUM:
            break
        best = again
    return best.state.vector


def mend(
    problem: Problem, windows: CorrelationWindows, coarse: CoarseWindows, state: State, pool: Executor
) -> Array | None:
    """Search again the tilt images and particles that explain less than the others do.

    The others are well placed by now, so that shifts can be searched together with rotations. Returns None
    when nothing better turned up.
    """
    layout = problem.layout
    vector = state.vector.copy()
    blocks, free = layout.unpack(vector), layout.unpack(problem.free)
    values = pair_values(problem, state.vector)
    particles = doubtful(problem, values, windows.power, axis=0)
    tilts = doubtful(problem, values, windows.power, axis=1)
    reach = ball(windows.range_px, coarse.step_px)
    held = layout.unpack(state.vector)
    if free.positions_px.any():
        places = pool.map(lambda p: search_particle(problem, coarse, held, p, reach), particles)
        for p, place in zip(particles, places, strict=True):
            blocks.positions_px[p] = place
    if free.shifts_px.any():
        settled = np.delete(blocks.angles, tilts, axis=0)
        spread = float(np.sqrt(np.mean(settled**2))) if len(settled) else 0.0
        arm = float(np.sqrt(np.mean(np.sum(state.turned**2, axis=-1))))
        turns = turns_around(spread, coarse.step_px / arm) if free.angles.any() else np.zeros((1, 3))
        moved = layout.unpack(layout.pack(blocks))
        found = pool.map(lambda tilt: search_tilt(problem, coarse, moved, tilt, turns), tilts)
        for tilt, (turn, shift) in zip(tilts, found, strict=True):
            blocks.angles[tilt], blocks.shifts_px[tilt] = turn, shift
    return None if np.array_equal(vector, state.vector) else vector


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
        shown = count > 0 if count.any() else count == 0
        sure = shown & (count >= 0.5 * np.median(count[shown]))
        arm = np.sqrt(old.mean() / current.shifts_px.mean())
        floor = MIN_SPREAD_PX / arm
        spread = max(float(np.sqrt(np.mean(block[sure] ** 2))), floor)
        parts[name] = np.maximum(old, 1 / spread**2)
    return layout.fill(**parts)
