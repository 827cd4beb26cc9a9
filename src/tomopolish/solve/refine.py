"""From correlation windows to the most probable geometry: coarse to fine, then Newton.

See docs/dev/conventions.md, Objective.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np

from tomopolish.imaging.windows import CorrelationWindows
from tomopolish.models.parameters import Layout
from tomopolish.shapes import Bool, Float, Int
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
    undisplaced,
)
from tomopolish.solve.newton import NewtonOptions, Solution, maximise
from tomopolish.solve.outliers import SHOWN, Trust, judge
from tomopolish.solve.preconditioner import CoupledFactor, SchurFactor, factorise
from tomopolish.solve.problem import Problem, State, evaluate, multiply_hessian, pair_values
from tomopolish.solve.warp_prior import informed_warp_precision, spread_is_estimated
from tomopolish.solve.workers import Spread, Workers, alone

Array = np.ndarray

TOLERANCE = 1e-9
ENOUGH = 1e-3
"""Gain, in nats, that is too small for another step: it is far below the uncertainty due to noise."""
COARSE_TOLERANCE = 1e-5
COARSE_EVALUATIONS = 8
SEARCH_ROUNDS = 3
TRUST_ROUNDS = 6
"""Maximum number of estimates of the probabilities of particles and tilt images."""
PRIOR_ROUNDS = 5
"""Maximum number of estimates of the prior's widths where that of a warp is estimated; otherwise one."""
PRIOR_TOLERANCE = 0.2
"""Relative change of a warp's estimated precision that ends its estimation."""
SAME_OPTIMUM = 0.5
"""Objectives that differ by less than this, in nats, belong to the same optimum."""

MIN_SPREAD_PX = 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class RefineOptions:
    """Options of the refinement.

    Attributes
    ----------
    robust_start
        Search tilt images and particles in turn before derivatives are used.
    threads
        Threads of the search; the result does not depend on them.
    max_evaluations
        Maximum number of evaluations of the objective on the unblurred windows.
    enough
        Gain in log-likelihood, in nats, that is too small for another step.
    owner
        Species of each particle, where particles and tilt images are to be judged (`outliers`); None: all
        count fully.
    """

    robust_start: bool = True
    threads: int = 1
    max_evaluations: int = 200
    enough: float = ENOUGH
    owner: Int[Array, "P"] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Refinement:
    """The solution and the course of the refinement.

    Attributes
    ----------
    vector
        Parameters, flat.
    problem
        The last problem that was solved, with unblurred windows and estimated prior widths.
    start_log_likelihood, log_likelihood
        Log-likelihood at the start vector and at the solution, with the same windows.
    evaluations
        Number of evaluations of the objective on unblurred windows.
    coarse_evaluations
        Number of evaluations on blurred windows.
    history
        Objective after each accepted step on the unblurred windows.
    trust
        Probabilities of particles and tilt images at the solution; None where they were not estimated.
    """

    vector: Float[Array, "N"]
    problem: Problem
    start_log_likelihood: float
    log_likelihood: float
    converged: bool
    evaluations: int
    coarse_evaluations: int
    history: tuple[float, ...]
    trust: Trust | None = None


def initial_precision(layout: Layout, range_px: float, tomogram_size_px: tuple[int, int, int]) -> Array:
    """Return the initial prior, with which every parameter displaces the image by about the range."""
    arm = 0.25 * float(np.linalg.norm(tomogram_size_px))
    return layout.fill(
        angles=(arm / range_px) ** 2, shifts_px=1 / range_px**2, positions_px=1 / range_px**2, motion=1.0
    )


def static_parameters(layout: Layout) -> Bool[Array, "N"]:
    """Return the mask of projections and static positions, which are refined before motion and warps."""
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
        Windows of the robust start, which then does not read the values of `windows`; None: they are made.
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
    """Return the result of `refine`, with running threads."""
    sharp = problem
    static = replace(sharp, free=problem.free & static_parameters(problem.layout))
    tally = Tally()
    vector = start
    if search is not None:
        vector = _search(static, windows, start, options, tally, workers, search)
        advance()
    estimated = spread_is_estimated(problem.deformation)
    solution = newton(sharp, vector, _limits(options, tally, COARSE_TOLERANCE), workers.over)
    tally.evaluations += solution.evaluations
    sharp, solution, trust = _judged(sharp, solution, windows, options, tally, workers)
    history, informed = solution.history, sharp
    # The displacements of well-determined tilt images and particles limit those of weakly determined ones.
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
        start_log_likelihood=evaluate(informed, start, workers.over).log_likelihood,
        log_likelihood=evaluate(informed, solution.state.vector, workers.over).log_likelihood,
        converged=solution.converged,
        evaluations=tally.evaluations,
        coarse_evaluations=tally.coarse_evaluations,
        history=history,
        trust=trust,
    )


def _judged(
    problem: Problem,
    solution: Solution[State],
    windows: CorrelationWindows,
    options: RefineOptions,
    tally: Tally,
    workers: Workers,
) -> tuple[Problem, Solution[State], Trust | None]:
    """Estimate probabilities and geometry in turn, until the pairs' weights do not change.

    Returns the problem with the last weights, its solution, and the probabilities.
    """
    if options.owner is None:
        return problem, solution, None
    for _ in range(TRUST_ROUNDS):
        informed = replace(problem, precision=informed_precision(problem, solution.state.vector))
        trust = judge(informed, solution.state, windows.power, options.owner, windows.range_px)
        if not trust.changes(problem):
            break
        problem = replace(problem, pair_weights=trust.weights)
        limits = _limits(options, tally, COARSE_TOLERANCE)
        solution = newton(problem, solution.state.vector, limits, workers.over)
        tally.evaluations += solution.evaluations
    return problem, solution, trust


def _informed(sharp: Problem, solved: Problem, state: State, range_px: float) -> Float[Array, "N"]:
    """Return the prior's precisions by a solution of `solved`; those of `sharp` are the lowest allowed."""
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
        current = factorise(problem, state, near=first)
        first = first or current
        return current

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
    """Return options with the remaining evaluations on unblurred windows, at least 1 to have a state."""
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
    """Return a solution of the static problem, by the mean-field start and less and less blurred windows.

    Tilt images and particles that gain too little log-likelihood are then searched again.
    """
    layout, pool = problem.layout, workers.pool
    coarse, length = search.coarse, search.length_px
    probable = mean_field_start(problem, coarse, layout.unpack(start), windows.range_px, length, pool)

    def blurred_newton(problem: Problem, vector: Array, blur_px: float) -> Array:
        surface = coarse_surface(coarse, windows.visible, length, blur_px, windows.range_px, pool)
        options = NewtonOptions(relative_tolerance=COARSE_TOLERANCE, max_evaluations=COARSE_EVALUATIONS)
        solution = newton(problem.with_surface(surface), vector, options, workers.over)
        tally.coarse_evaluations += solution.evaluations
        return solution.state.vector

    vector = layout.pack(probable)
    for blur_px in (length, length / 2):
        vector = blurred_newton(problem, vector, blur_px)
    best = newton(problem, vector, _limits(options, tally, COARSE_TOLERANCE), workers.over)
    tally.evaluations += best.evaluations
    for _ in range(SEARCH_ROUNDS):
        # The displacements of all limit those of tilt images and particles that are searched again.
        informed = replace(problem, precision=informed_precision(problem, best.state.vector))
        changed = search_doubtful(informed, windows, coarse, best.state, pool)
        if changed is None:
            break
        vector = blurred_newton(informed, changed, length / 2)
        again = newton(informed, vector, _limits(options, tally, COARSE_TOLERANCE), workers.over)
        tally.evaluations += again.evaluations
        current = best.state.log_likelihood + informed.log_prior(best.state.vector)
        if again.state.objective <= current + SAME_OPTIMUM:
            break
        best = again
    return best.state.vector


def search_doubtful(
    problem: Problem, windows: CorrelationWindows, coarse: CoarseWindows, state: State, pool: Executor
) -> Array | None:
    """Search the tilt images and particles again that gain too little log-likelihood.

    The remaining ones are well placed by now, so that shifts can be searched together with rotations. Returns
    the new vector, or None when no better place exists.
    """
    layout = problem.layout
    vector = state.vector.copy()
    blocks, free = layout.unpack(vector), layout.unpack(problem.free)
    values = pair_values(problem, state.vector)
    particles = doubtful(problem, values, windows.power, axis=0)
    tilts = doubtful(problem, values, windows.power, axis=1)
    reach = ball(windows.range_px, coarse.step_px)
    current = layout.unpack(state.vector)
    if free.positions_px.any() and len(particles):
        start = undisplaced(problem, current)
        places = pool.map(
            lambda p: search_particle(problem, coarse, start, p, current.positions_px[p], reach), particles
        )
        for p, place in zip(particles, places, strict=True):
            blocks.positions_px[p] = place
    if free.shifts_px.any():
        certain = np.delete(blocks.angles, tilts, axis=0)
        spread = float(np.sqrt(np.mean(certain**2))) if len(certain) else 0.0
        arm = float(np.sqrt(np.mean(np.sum(state.turned**2, axis=-1))))
        turns = turns_around(spread, coarse.step_px / arm) if free.angles.any() else np.zeros((1, 3))
        moved = layout.unpack(layout.pack(blocks))
        choices = pool.map(lambda tilt: search_tilt(problem, coarse, moved, tilt, turns), tilts)
        for tilt, (turn, shift) in zip(tilts, choices, strict=True):
            blocks.angles[tilt], blocks.shifts_px[tilt] = turn, shift
    return None if np.array_equal(vector, state.vector) else vector


def informed_precision(problem: Problem, vector: Float[Array, "N"]) -> Float[Array, "N"]:
    """Return the prior's precisions for the spread of well-determined angles, shifts and positions.

    Tilt images and particles with at least half the median number of visible pairs are well determined. The
    prior is never wider than that of the problem, and never narrower than `MIN_SPREAD_PX` in the image.
    """
    layout = problem.layout
    blocks = layout.unpack(vector)
    current = layout.unpack(problem.precision)
    seen = problem.surface.visible
    if problem.pair_weights is not None:  # false particles and empty images say nothing of the others
        seen = seen & (problem.pair_weights >= SHOWN)
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
