"""Newton's method on an alignment problem, and the count of its evaluations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tomopolish.shapes import Float
from tomopolish.solve.newton import NewtonOptions, Solution, maximise
from tomopolish.solve.preconditioner import CoupledFactor, SchurFactor, factorise
from tomopolish.solve.problem import Problem, State, evaluate, multiply_hessian
from tomopolish.solve.workers import Spread, alone

Array = np.ndarray

TOLERANCE = 1e-9
COARSE_TOLERANCE = 1e-5
COARSE_EVALUATIONS = 8
"""Maximum number of evaluations on blurred windows."""


@dataclass(eq=False, kw_only=True)
class Tally:
    """Evaluations of the objective so far, and their limits.

    Attributes
    ----------
    max_evaluations
        Maximum number of evaluations on unblurred windows.
    enough
        Gain in log-likelihood, in nats, that is too small for another step.
    evaluations, coarse_evaluations
        Number of evaluations on unblurred and on blurred windows.
    """

    max_evaluations: int
    enough: float
    evaluations: int = 0
    coarse_evaluations: int = 0

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
        options = NewtonOptions(relative_tolerance=tolerance, enough=self.enough, max_evaluations=left)
        solution = newton(problem, start, options, spread)
        self.evaluations += solution.evaluations
        return solution

    def coarse_newton(self, problem: Problem, start: Float[Array, "N"], spread: Spread) -> Solution[State]:
        """Maximise on blurred windows, in few evaluations."""
        options = NewtonOptions(relative_tolerance=COARSE_TOLERANCE, max_evaluations=COARSE_EVALUATIONS)
        solution = newton(problem, start, options, spread)
        self.coarse_evaluations += solution.evaluations
        return solution


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
