"""From correlation windows to the most probable geometry: coarse to fine, then Newton.

See docs/dev/conventions.md, Objective.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from tomopolish.imaging.windows import CorrelationWindows
from tomopolish.models.parameters import Layout
from tomopolish.shapes import Array, Bool, Float, Int
from tomopolish.solve.maximisation import COARSE_TOLERANCE, TOLERANCE, Tally
from tomopolish.solve.newton import Solution
from tomopolish.solve.outliers import Trust, judge, peak_length_px, shown_pairs
from tomopolish.solve.preconditioner import CoupledFactor, factorise
from tomopolish.solve.prior_widths import informed_precision, informed_warp_precision, spread_is_estimated
from tomopolish.solve.problem import Problem, State, evaluate, predicted_positions
from tomopolish.solve.search import search
from tomopolish.solve.second_search import move_misplaced
from tomopolish.solve.workers import Workers

ENOUGH = 1e-3
"""Gain, in nats, that is too small for another step: it is far below the uncertainty due to noise."""
TRUST_ROUNDS = 6
"""Maximum number of estimates of the probabilities of particles and tilt images."""
PRIOR_ROUNDS = 5
"""Maximum number of estimates of the prior's widths where that of a warp is estimated; otherwise one."""
PRIOR_TOLERANCE = 0.2
"""Relative change of a warp's estimated precision that ends its estimation."""


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
    history: tuple[float, ...]
    trust: Trust | None = None

    @property
    def displacements_px(self) -> Float[Array, "F P 2"]:
        """Displacement of each pair from its anchor at the solution."""
        parameters = self.problem.layout.unpack(self.vector)
        return predicted_positions(self.problem, parameters) - self.problem.anchors_px

    @property
    def shown(self) -> Bool[Array, "F P"]:
        """Visible pairs of particles and tilt images that are likely to show what is predicted."""
        return shown_pairs(self.problem)


def static_parameters(layout: Layout) -> Bool[Array, "N"]:
    """Return the mask of projections and static positions, which are refined before motion and warps."""
    return layout.fill(angles=1.0, shifts_px=1.0, positions_px=1.0).astype(bool)


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
        Its surface is that of the unblurred windows.
    windows
        Their power and range are used, but not their values.
    start
        Parameters to start from; zero is the input geometry.
    advance
        Called after each level.
    """
    with Workers(options.threads) as workers:
        sharp = problem
        static = replace(sharp, free=problem.free & static_parameters(problem.layout))
        tally = Tally(max_evaluations=options.max_evaluations, enough=options.enough)
        vector = start
        if options.robust_start:
            vector = search(static, windows.power, start, tally, workers)
            advance()
        estimated = spread_is_estimated(problem.deformation)
        solution = tally.newton(sharp, vector, workers.over, COARSE_TOLERANCE)
        sharp, solution, trust = _judged(sharp, solution, windows, options, tally, workers)
        history, informed = solution.history, sharp
        # Displacements of well-determined tilt images and particles limit those of weakly determined ones.
        for left in reversed(range(PRIOR_ROUNDS if estimated else 1)):
            precision = _informed(sharp, informed, solution.state, windows.range_px)
            now, before = (problem.layout.unpack(p).warp for p in (precision, informed.precision))
            last = not left or bool(np.allclose(now, before, rtol=PRIOR_TOLERANCE))
            informed = replace(sharp, precision=precision)
            tolerance = TOLERANCE if last else COARSE_TOLERANCE
            solution = tally.newton(informed, solution.state.vector, workers.over, tolerance)
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

    Doubtful particles are then searched once more. Returns the problem with the last weights, its solution,
    and the probabilities.
    """
    if options.owner is None:
        return problem, solution, None
    problem, solution, trust = _settled(problem, solution, windows, options.owner, tally, workers)
    informed = replace(problem, precision=informed_precision(problem, solution.state.vector))
    length = peak_length_px(problem, solution.state)
    vector = move_misplaced(informed, solution.state, trust, length, tally, workers)
    if vector is not solution.state.vector:
        solution = tally.newton(problem, vector, workers.over, COARSE_TOLERANCE)
        problem, solution, trust = _settled(problem, solution, windows, options.owner, tally, workers)
    return problem, solution, trust


def _settled(
    problem: Problem,
    solution: Solution[State],
    windows: CorrelationWindows,
    owner: Int[Array, "P"],
    tally: Tally,
    workers: Workers,
) -> tuple[Problem, Solution[State], Trust]:
    """Return what `_judged` returns, without a search."""
    for _ in range(TRUST_ROUNDS):
        informed = replace(problem, precision=informed_precision(problem, solution.state.vector))
        trust = judge(informed, solution.state, windows.power, owner, windows.range_px)
        if not trust.changes(problem):
            break
        problem = replace(problem, pair_weights=trust.weights)
        solution = tally.newton(problem, solution.state.vector, workers.over, COARSE_TOLERANCE)
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
