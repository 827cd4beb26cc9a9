"""Newton's method on an alignment problem, and the count of its evaluations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tomopolish.models.motion_inverse import MotionInverse
from tomopolish.shapes import Array, Float
from tomopolish.solve.lifted import lift, lifted_gradient, multiply_lifted, split
from tomopolish.solve.newton import NewtonOptions, Solution, maximise
from tomopolish.solve.preconditioner import CoupledFactor, SchurFactor, factorise
from tomopolish.solve.problem import Problem, State, evaluate
from tomopolish.solve.workers import Spread, alone

TOLERANCE = 1e-9
COARSE_TOLERANCE = 1e-5
WIDER = 4.0
"""First trust region of a problem with motion, over the last one of the same problem with other weights."""


@dataclass(eq=False, kw_only=True)
class Tally:
    """Evaluations of one tomogram's objective so far, their limits, and what the next problem begins with.

    Attributes
    ----------
    max_evaluations
        Maximum number of evaluations on unblurred windows.
    enough
        Gain in log-likelihood, in nats, that is too small for another step.
    evaluations
        Number of evaluations on unblurred windows.
    motion
        The last approximate inverse of motion's curvature.
    precision, radius
        Prior of the last problem with motion, and its last trust region, with which one of the same prior
        begins.
    """

    max_evaluations: int
    enough: float
    evaluations: int = 0
    motion: MotionInverse | None = None
    precision: Float[Array, "N"] | None = None
    radius: float = np.inf

    def newton(
        self,
        problem: Problem,
        start: Float[Array, "N"],
        spread: Spread,
        tolerance: float = TOLERANCE,
        most: int | None = None,
    ) -> Solution[State]:
        """Maximise on unblurred windows; at least one evaluation is made to have a state.

        Parameters
        ----------
        most
            Maximum number of evaluations; None: as many as are left.
        """
        left = max(1, self.max_evaluations - self.evaluations)
        left = left if most is None else min(left, most)
        moves = bool(problem.layout.unpack(problem.free).motion.any())
        options = NewtonOptions(
            relative_tolerance=tolerance,
            enough=self.enough,
            max_evaluations=left,
            radius=WIDER * self.radius if moves and problem.precision is self.precision else np.inf,
        )
        solution = newton(problem, start, options, spread, self)
        self.evaluations += solution.evaluations
        if moves:
            self.precision, self.radius = problem.precision, solution.radius
        return solution


@dataclass(frozen=True, kw_only=True, eq=False)
class _LiftedState:
    """A state at a lifted point (`lifted`)."""

    vector: Float[Array, "L"]
    state: State
    gradient: Float[Array, "L"]

    @property
    def objective(self) -> float:
        """Log-posterior."""
        return self.state.objective


def newton(
    problem: Problem,
    start: Float[Array, "N"],
    options: NewtonOptions,
    spread: Spread = alone,
    tally: Tally | None = None,
) -> Solution[State]:
    """Maximise a problem's objective from `start` by trust-region Newton steps.

    Parameters
    ----------
    spread
        See `evaluate`.
    tally
        Of earlier problems of the same tomogram, whose inverse of motion's curvature may be used; None: there
        are none.
    """
    first: SchurFactor | CoupledFactor | None = None
    kept = tally or Tally(max_evaluations=options.max_evaluations, enough=options.enough)

    def factor(at: _LiftedState) -> Callable[[Array], Array]:
        nonlocal first
        current = factorise(problem, at.state, near=first, near_motion=kept.motion)
        first = first or current
        if isinstance(current, CoupledFactor) and current.motion is not None:
            kept.motion = current.motion
        return current.solve

    def look(lifted: Array) -> _LiftedState:
        vector, offsets = split(problem, lifted)
        state = evaluate(problem, vector, spread, offsets)
        return _LiftedState(vector=lifted, state=state, gradient=lifted_gradient(problem, state))

    solution = maximise(
        evaluate=look,
        multiply=lambda at, step: multiply_lifted(problem, at.state, step),
        factorise=factor,
        start=lift(problem, start),
        options=options,
    )
    return Solution(
        state=solution.state.state,
        converged=solution.converged,
        evaluations=solution.evaluations,
        products=solution.products,
        history=solution.history,
        radius=solution.radius,
    )
