"""Standard errors of the solution from the curvature of the posterior.

The covariance of the estimate is φ·H⁻¹. H is the expected curvature at the solution: each pair's share of its
tilt image's mean curvature, by the power of its prediction, which is far less noisy than the pair's own
curvature; plus the prior. φ is the dispersion (McCullagh & Nelder 1989, "Generalized linear models", ch. 9):
the ratio of the pairs' squared gradients to those expected from their curvature, less the share that the fit
explains. It corrects for noise that differs from the weights' assumption, and is 1 where the model is right.

Moving or rotating all particles and all projections together changes no image and has no error of its own:
the errors are those of a solution whose positions have no net shift, and whose net rotation is chosen as that
of the result (an S-transformation, Baarda 1973).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from tomopolish.shapes import Array, Float, Int
from tomopolish.solve.lifted import joined, multiply_lifted, split
from tomopolish.solve.newton import truncated_cg
from tomopolish.solve.outliers import shown_pairs
from tomopolish.solve.preconditioner import CoupledFactor, SchurFactor, factorise, positive_curvature
from tomopolish.solve.problem import Problem, State, evaluate, pair_gradients
from tomopolish.solve.products import collect, multiply_hessian
from tomopolish.solve.unseen_moves import Gauge

PROBES = ((2_000, 100), (50_000, 40), (np.inf, 20))
"""Number of draws up to a number of pairs. With many pairs each draw takes long and fewer are made; the
relative accuracy of a single error is then 1/9 or 1/6 instead of 1/14."""
FEW_COEFFICIENTS = 100
LEAST_FREEDOM = 0.2
"""At least this part of the pairs' gradients counts as not explained by the fit."""
PROBE_PRODUCTS = 60
PROBE_ACCURACY = 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class Uncertainty:
    """Standard errors of the solution.

    Attributes
    ----------
    angles
        Errors of each projection's rotation about the image's x, y and z axes, radians.
    shifts_px, positions_px
        Errors of the projections' shifts and the particles' static positions.
    trajectories_px
        Errors of each particle's position in each tilt image, file order; None without motion.
    warp
        Errors of the warp's coefficients.
    dispersion
        φ.
    pairs_px2
        Variance of pairs' predicted 2D positions, both axes together, mean weighted by their curvature; 0
        without pairs.
    """

    angles: Float[Array, "F 3"]
    shifts_px: Float[Array, "F 2"]
    positions_px: Float[Array, "P 3"]
    trajectories_px: Float[Array, "P F 3"] | None
    warp: Float[Array, "G n"]
    dispersion: float
    pairs_px2: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Misfit:
    """How far the pairs are from the solution, in units of what their curvature leads one to expect.

    Attributes
    ----------
    squares
        Sum over the pairs of the squared gradient, over its expected curvature.
    components
        Number of components of these gradients, for correlation windows two for each pair.
    """

    squares: float
    components: float

    def dispersion(self, explained: float) -> float:
        """Return φ for a fit that explains so many of the components; 1 where there is no pair."""
        if not self.components:
            return 1.0
        return self.squares / max(self.components - explained, LEAST_FREEDOM * self.components)


@dataclass(frozen=True, kw_only=True, eq=False)
class ExpectedCurvature:
    """A solution with its expected curvature.

    Attributes
    ----------
    state
        The solution; each pair has its share of its tilt image's curvature.
    misfit
        Of its pairs.
    dispersion
        φ, the factor by which that curvature overstates the information, if the fit explained as much as its
        projections and positions would alone, without priors.
    """

    state: State
    misfit: Misfit
    dispersion: float


def expected_curvature(
    problem: Problem, vector: Float[Array, "N"], power: Float[Array, "F P"]
) -> ExpectedCurvature:
    """Evaluate the expected curvature and the misfit at a solution.

    Parameters
    ----------
    power
        Weighted power of each pair's prediction (`CorrelationWindows.power`).
    """
    state = expected_state(problem, evaluate(problem, vector), power)
    misfit = pair_misfit(problem, state)
    return ExpectedCurvature(
        state=state, misfit=misfit, dispersion=misfit.dispersion(_static_parameters(problem))
    )


def estimate_uncertainty(
    problem: Problem,
    curvature: ExpectedCurvature,
    positions_share: Float[Array, "3 3"] | None = None,
    seed: int = 0,
    threads: int = 1,
) -> Uncertainty:
    """Estimate standard errors at a solution.

    Without motion, and with at most `FEW_COEFFICIENTS` coefficients of a warp, the errors follow from H⁻¹
    itself; the solver's factor is an exact factor of its static part. Otherwise they follow from draws from
    the posterior's Gaussian approximation: right-hand sides whose covariance is H, solved by conjugate
    gradients with the solver's preconditioner. The result is deterministic for a seed.

    Parameters
    ----------
    positions_share
        Weight of the positions in the result's net rotation (`gauge.Frame`); None: the identity.
    threads
        Number of draws that are made at a time; each has its own random numbers.
    """
    state, factor = curvature.state, factorise(problem, curvature.state)
    gauge = Gauge(problem, state, positions_share)
    if isinstance(factor, SchurFactor):
        spread = _exact(problem, gauge, factor)
    elif factor.motion is None and problem.layout.unpack(problem.free).warp.sum() <= FEW_COEFFICIENTS:
        spread = _exact(problem, gauge, _InverseWithWarp.of(problem, state, factor.static))
    else:
        spread = _sampled(problem, state, gauge, factor, seed, threads)
    phi = curvature.misfit.dispersion(spread.explained)
    curved = float((state.curvature[..., 0] + state.curvature[..., 2])[problem.surface.visible].sum())
    sigma, moved = problem.layout.unpack(np.sqrt(phi * spread.parameters)), spread.trajectories
    return Uncertainty(
        angles=sigma.angles,
        shifts_px=sigma.shifts_px,
        positions_px=sigma.positions_px,
        trajectories_px=None if moved is None else np.moveaxis(np.sqrt(phi * moved), 1, 0),
        warp=sigma.warp,
        dispersion=phi,
        pairs_px2=2 * phi * spread.explained / curved if curvature.misfit.components else 0.0,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Spread:
    """Variances for a dispersion of 1.

    Attributes
    ----------
    parameters
        Of the parameters, gauge taken out.
    trajectories
        Of positions in each tilt image; None without motion.
    explained
        Number of components of the pairs' gradients that the fit explains, the trace of H⁻¹ times the pairs'
        part of H: the number of free parameters, less what the priors determine of them.
    """

    parameters: Float[Array, "N"]
    trajectories: Float[Array, "F P 3"] | None
    explained: float


def _exact(problem: Problem, gauge: Gauge, inverse: SchurFactor | _InverseWithWarp) -> _Spread:
    variances, free = inverse.variances(), problem.free
    return _Spread(
        parameters=gauge.left_of(variances, inverse.solve),
        trajectories=None,
        explained=float(np.sum(1 - problem.precision[free] * variances[free])),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _InverseWithWarp:
    """H⁻¹ of static parameters and a warp's coefficients, by block elimination of the static part.

    Attributes
    ----------
    warp
        Indices of the coefficients among all parameters.
    through
        Inverse of the static part times its coupling to the coefficients, whose own rows are zero.
    coefficients
        The coefficients' own block of the inverse.
    """

    static: SchurFactor
    warp: Int[Array, "n"]
    through: Float[Array, "N n"]
    coefficients: Float[Array, "n n"]

    @classmethod
    def of(cls, problem: Problem, state: State, static: SchurFactor) -> _InverseWithWarp:
        """Return the inverse; every pair's curvature in `state` is positive."""
        warp = np.flatnonzero(problem.layout.fill(warp=1.0).astype(bool) & problem.free)
        units = np.zeros((len(warp), problem.layout.size))
        units[np.arange(len(warp)), warp] = 1
        products = np.array([multiply_hessian(problem, state, unit) for unit in units])
        through = np.array([static.solve(product) for product in products]).T
        coupling = np.delete(products, warp, axis=1)
        remaining = products[:, warp] - coupling @ np.delete(through, warp, axis=0)
        return cls(static=static, warp=warp, through=through, coefficients=np.linalg.inv(remaining))

    def solve(self, vector: Float[Array, "N"]) -> Float[Array, "N"]:
        """Apply the inverse."""
        result = self.static.solve(vector)
        left = self.coefficients @ (vector[self.warp] - self.through.T @ vector)
        result -= self.through @ left
        result[self.warp] = left
        return result

    def variances(self) -> Float[Array, "N"]:
        """Return the diagonal of the inverse; zero for parameters that are not free."""
        result: Array = self.static.variances()
        result += np.sum((self.through @ self.coefficients) * self.through, axis=1)
        result[self.warp] = np.diag(self.coefficients)
        return result


def _sampled(
    problem: Problem, state: State, gauge: Gauge, factor: CoupledFactor, seed: int, threads: int
) -> _Spread:
    """Return variances estimated by draws.

    Trajectories have the prior's variance where motion cannot be represented by the problem's coefficients.
    """
    layout, draw = problem.layout, _sampler(problem, state)

    def sample(number: int) -> tuple[Array, Array | None, float]:
        drawn = draw(np.random.default_rng([seed, number]))
        static, left = factor.eliminated(drawn)
        step = truncated_cg(
            lambda v: multiply_lifted(problem, state, v),
            factor.with_static_response,
            left,
            np.inf,
            PROBE_PRODUCTS,
            PROBE_ACCURACY,
        )
        solved = static + step.vector
        vector, offsets = split(problem, solved)
        explained = float(drawn @ solved - np.sum(problem.precision * vector**2))
        return gauge.remove(vector), offsets, explained

    squares, explained = np.zeros(layout.size), 0.0
    moving = problem.motion.shape[0] > 0
    moved = np.zeros((layout.tilts, layout.particles, 3)) if moving else None
    pairs = int(problem.surface.visible.sum())
    probes = next(number for most, number in PROBES if pairs < most)
    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, probes, threads):  # one draw per thread, to limit memory
            for fixed, offsets, share in pool.map(sample, range(first, min(first + threads, probes))):
                squares += fixed**2
                explained += share
                if moved is not None and offsets is not None:
                    moved += (layout.unpack(fixed).positions_px + offsets) ** 2
    return _Spread(
        parameters=squares / probes,
        trajectories=None if moved is None else moved / probes + problem.motion.left_out_px2,
        explained=explained / probes,
    )


def expected_state(problem: Problem, state: State, power: Float[Array, "F P"]) -> State:
    """Replace each pair's curvature by its share of its tilt image's, in proportion to its power."""
    seen = problem.surface.visible
    weight = np.where(seen, power, 0.0)
    if problem.pair_weights is not None:
        weight = weight * problem.pair_weights
    total = np.sum(weight, axis=1)[:, None]
    mean = np.einsum("fpi,fp->fi", state.curvature, seen.astype(np.float64))
    per_power = np.divide(mean, total, out=np.zeros_like(mean), where=total > 0)
    return replace(state, curvature=positive_curvature(weight[..., None] * per_power[:, None, :]))


def pair_misfit(problem: Problem, state: State) -> Misfit:
    """Return the misfit of pairs that show what the references predict, against their expected curvature."""
    gradient = pair_gradients(problem, state)
    seen = shown_pairs(problem)
    xx, xy, yy = state.curvature[seen].T
    gx, gy = gradient[seen].T
    det = xx * yy - xy**2
    sound = det > 1e-12 * (xx + yy) ** 2
    squares = np.sum(((yy * gx**2 - 2 * xy * gx * gy + xx * gy**2)[sound]) / det[sound])
    return Misfit(squares=float(squares), components=2 * int(sound.sum()))


def _static_parameters(problem: Problem) -> int:
    """Return the number of free angles, shifts and positions that pairs show."""
    seen, free = shown_pairs(problem), problem.layout.unpack(problem.free)
    return sum(
        int(block[rows].sum())
        for block, rows in (
            (free.angles, seen.any(axis=1)),
            (free.shifts_px, seen.any(axis=1)),
            (free.positions_px, seen.any(axis=0)),
        )
    )


def _sampler(problem: Problem, state: State) -> Callable[[np.random.Generator], Array]:
    """Return a function that draws lifted residuals of covariance H, by square roots of its parts."""
    layout = problem.layout
    xx, xy, yy = np.moveaxis(state.curvature, -1, 0)
    # Lower Cholesky factor of each pair's 2×2 curvature.
    a = np.sqrt(np.maximum(xx, 0))
    b = np.divide(xy, a, out=np.zeros_like(xy), where=a > 0)
    c = np.sqrt(np.maximum(yy - b**2, 0))
    prior = np.sqrt(problem.precision)

    def draw(rng: np.random.Generator) -> Array:
        e = rng.standard_normal((*xx.shape, 2))
        force = np.stack([a * e[..., 0], b * e[..., 0] + c * e[..., 1]], axis=-1)
        force[~problem.surface.visible] = 0
        vector, forces = collect(problem, state, force)
        vector += prior * rng.standard_normal(layout.size)
        vector[~problem.free] = 0
        return joined(problem, vector, forces)

    return draw
