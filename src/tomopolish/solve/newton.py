"""Trust-region Newton method with preconditioned, truncated conjugate gradients.

Steihaug (1983), "The conjugate gradient method and trust regions in large scale optimization", SIAM J.
Numer. Anal. 20:626; Conn, Gould & Toint (2000), "Trust-region methods", ch. 7. The trust region is measured
in the preconditioner's norm, i.e. in nats of predicted change, so one radius serves angles, shifts and
positions alike. Negative curvature is followed to the region's edge. A step ends where a further iteration
gains much less than the average of many before it (Nash & Sofer 1990, "Assessing a search direction within a
truncated-Newton method", Oper. Res. Lett. 9:219): what the quadratic model still promises is rarely there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, Protocol, TypeVar

import numpy as np
from scipy.linalg.blas import daxpy

from tomopolish.shapes import Array, Float

SLOW, PATIENCE = 0.5, 8
"""Gain of an iteration over the average of all so far, below which a step ends, after so many iterations."""

CAUTION = 0.2
"""Fraction of the smallest gain of interest down to which steps are computed: the factor estimates it."""

MOST_PRODUCTS = 100
"""Maximum number of products with the Hessian in one step."""
KEPT = 8
"""Number of a step's first iterations that are kept, so that a shorter step takes no further products."""


class Evaluated(Protocol):
    """State of the objective at a point."""

    @property
    def vector(self) -> Array:
        """The point."""

    @property
    def objective(self) -> float:
        """Value to be maximised."""

    @property
    def gradient(self) -> Array:
        """Its gradient."""


StateT = TypeVar("StateT")
EvaluatedT = TypeVar("EvaluatedT", bound=Evaluated)


Solve = Callable[[Array], Array]
"""Applies the inverse of a positive-definite approximation of the negative Hessian, the factor; the result is
a new array, which the method changes."""


@dataclass(frozen=True, kw_only=True)
class NewtonOptions:
    """Criteria to stop.

    Attributes
    ----------
    relative_tolerance
        Stop when a step is predicted to gain less than this fraction of |objective| + 1.
    enough
        Stop as well when a step is predicted to gain less than this; it also limits the accuracy of steps.
    max_evaluations
        Maximum number of evaluations of the objective, including that at the start.
    radius
        Of the first trust region.
    """

    relative_tolerance: float = 1e-9
    enough: float = 0.0
    max_evaluations: int = 60
    radius: float = np.inf


@dataclass(frozen=True, kw_only=True, eq=False)
class Solution(Generic[StateT]):
    """Final state of the method, its last trust region, and its course."""

    state: StateT
    converged: bool
    evaluations: int
    products: int
    history: tuple[float, ...]
    radius: float = np.inf


@dataclass(frozen=True, kw_only=True, eq=False)
class _Leg:
    """One iteration of a step: the line from a point s along a direction d, in the factor's metric.

    Attributes
    ----------
    ss, sd, dd
        Scalar products of s and d.
    predicted
        Gain that the quadratic model predicts at s.
    slope, curvature
        Of the quadratic model along d.
    alpha
        Length of the line in units of d; infinite where the model has no maximum along it.
    """

    direction: Float[Array, "N"]
    ss: float
    sd: float
    dd: float
    predicted: float
    slope: float
    curvature: float
    alpha: float

    def leaves(self, radius: float) -> bool:
        """Return whether the line ends beyond a radius."""
        if np.isinf(self.alpha):
            return bool(np.isfinite(radius))
        return self.ss + 2 * self.alpha * self.sd + self.alpha**2 * self.dd >= radius**2

    def to_edge(self, radius: float) -> tuple[float, float]:
        """Return the multiple of d at which the line crosses a radius, and the gain predicted there."""
        left = self.dd * max(radius**2 - self.ss, 0.0)
        tau = float((-self.sd + np.sqrt(self.sd**2 + left)) / self.dd)
        return tau, self.predicted + tau * self.slope - 0.5 * tau**2 * self.curvature


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """A trial step and the gain that the quadratic model predicts for it.

    Attributes
    ----------
    legs
        The first `KEPT` iterations that led to it.
    """

    vector: Float[Array, "N"]
    predicted: float
    length: float
    at_edge: bool
    products: int
    legs: tuple[_Leg, ...] = ()

    def within(self, radius: float) -> Step | None:
        """Return the step that the same iterations take in a smaller region; None where they are not kept."""
        vector = np.zeros_like(self.vector)
        for leg in self.legs:
            if leg.leaves(radius):
                tau, predicted = leg.to_edge(radius)
                return Step(
                    vector=daxpy(leg.direction, vector, a=tau),
                    predicted=predicted,
                    length=radius,
                    at_edge=True,
                    products=0,
                    legs=self.legs,
                )
            vector = daxpy(leg.direction, vector, a=leg.alpha)
        return None


def maximise(
    evaluate: Callable[[Array], EvaluatedT],
    multiply: Callable[[EvaluatedT, Array], Array],
    factorise: Callable[[EvaluatedT], Solve],
    start: Float[Array, "N"],
    options: NewtonOptions,
) -> Solution[EvaluatedT]:
    """Maximise an objective from `start`.

    Parameters
    ----------
    evaluate
        Objective and gradient at a point.
    multiply
        Product of the negative Hessian at a state with a vector.
    factorise
        Positive-definite approximation of the negative Hessian at a state.
    """
    state = evaluate(start)
    history = [state.objective]
    evaluations, products = 1, 0
    radius, converged = options.radius, False
    solve, rejected = factorise(state), None
    while evaluations < options.max_evaluations:
        current = state
        enough = max(options.enough, options.relative_tolerance * (abs(state.objective) + 1))
        step = (rejected and rejected.within(radius)) or truncated_cg(
            partial(multiply, current),
            solve,
            current.gradient,
            radius,
            MOST_PRODUCTS,
            enough=CAUTION * enough,
        )
        products += step.products
        if step.predicted <= enough:
            converged = True
            break
        trial = evaluate(state.vector + step.vector)
        evaluations += 1
        ratio = (trial.objective - state.objective) / step.predicted
        if not ratio >= 0.25:  # also where the objective is not a number
            radius = 0.25 * step.length
        elif ratio > 0.75 and step.at_edge:
            radius = 2 * radius
        rejected = step
        if ratio > 1e-4:
            state, rejected = trial, None
            history.append(state.objective)
            solve = factorise(state)
    return Solution(
        state=state,
        converged=converged,
        evaluations=evaluations,
        products=products,
        history=tuple(history),
        radius=radius,
    )


def truncated_cg(
    product: Callable[[Array], Array],
    solve: Solve,
    gradient: Float[Array, "N"],
    radius: float,
    max_products: int,
    accuracy: float | None = None,
    enough: float = 0.0,
) -> Step:
    """Maximise the quadratic model gᵀs − ½ sᵀHs within ‖s‖ ≤ radius (norm of the factor).

    The iteration stops when the residual is small enough for superlinear convergence or iterations gain
    little (`SLOW`), when the gain that remains by the factor's estimate is below `enough`, at the region's
    edge, or on negative curvature (then at the edge, or, without an edge, at the preconditioned gradient
    step).

    Parameters
    ----------
    accuracy
        Norm of the residual over that of the gradient at which the iteration stops; it then goes on however
        little iterations gain. None: that for superlinear convergence.
    """
    quick = accuracy is None
    step = np.zeros_like(gradient)
    residual = gradient.copy()
    z = solve(residual)
    direction = z.copy()
    rz = start = float(residual @ z)
    # Norms of step and direction in the factor's metric follow from recurrences (Conn et al., 7.5.1).
    ss, sd, dd = 0.0, 0.0, rz
    predicted, used = 0.0, 0
    if accuracy is None:
        accuracy = min(0.1, 0.01 * max(start, 0.0) ** 0.25)
    tolerance = max(accuracy**2 * start, 2 * enough)
    legs: tuple[_Leg, ...] = ()
    # daxpy changes its second argument, which saves a pass through memory over vectors of many coefficients.
    while used < max_products and rz > tolerance:
        Hd = product(direction)
        used += 1
        curvature = float(direction @ Hd)
        bent_up = curvature <= 1e-12 * dd
        alpha = np.inf if bent_up else rz / curvature
        leg = _Leg(
            direction=direction, ss=ss, sd=sd, dd=dd, predicted=predicted,
            slope=float(residual @ direction), curvature=curvature, alpha=alpha,
        )  # fmt: skip
        legs = (*legs, leg) if len(legs) < KEPT else legs
        if bent_up and not np.isfinite(radius):
            if used > 1:
                break
            length = float(np.sqrt(dd))
            return Step(vector=z, predicted=start / 2, length=length, at_edge=True, products=used, legs=legs)
        if leg.leaves(radius):
            tau, gained = leg.to_edge(radius)
            edge = step + tau * direction
            return Step(vector=edge, predicted=gained, length=radius, at_edge=True, products=used, legs=legs)
        step = daxpy(direction, step, a=alpha)
        gain = 0.5 * alpha * rz
        predicted += gain
        ss, sd = ss + 2 * alpha * sd + alpha**2 * dd, sd + alpha * dd
        if quick and used >= PATIENCE and used * gain <= SLOW * predicted:
            break
        residual = daxpy(Hd, residual, a=-alpha)
        z = solve(residual)
        rz_new = float(residual @ z)
        beta = rz_new / rz
        direction = daxpy(direction, z, a=beta)
        sd, dd = beta * sd, rz_new + beta**2 * dd
        rz = rz_new
    return Step(
        vector=step, predicted=predicted, length=float(np.sqrt(ss)), at_edge=False, products=used, legs=legs
    )
