"""Standard errors of the solution from the curvature of the posterior.

The covariance of the estimate is φ·H⁻¹. H is the expected curvature at the solution: each pair's share of its
tilt image's mean curvature, by the power of its prediction, which is far less noisy than the pair's own
curvature; plus the prior. φ is the dispersion (McCullagh & Nelder 1989, "Generalized linear models", ch. 9):
the ratio of the pairs' squared gradients to those expected from their curvature. It corrects for noise that
differs from the weights' assumption, and is 1 where the model is correct.

Moving or rotating all particles and all projections together changes no image and has no error of its own:
the errors are those of a solution whose positions have no net shift, and whose net rotation is chosen as that
of the result (an S-transformation, Baarda 1973).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from tomopolish.shapes import Bool, Float, Int
from tomopolish.solve.lifted import joined, multiply_lifted, split
from tomopolish.solve.newton import truncated_cg
from tomopolish.solve.outliers import SHOWN
from tomopolish.solve.preconditioner import (
    CoupledFactor,
    ReducedFactor,
    SchurFactor,
    factorise,
    positive_curvature,
)
from tomopolish.solve.problem import Problem, State, collect, evaluate, multiply_hessian
from tomopolish.solve.surface import evaluate_surface

Array = np.ndarray

PROBES = ((2_000, 100), (50_000, 40), (np.inf, 20))
"""Number of draws up to a number of pairs. With many pairs each draw takes long and fewer are made; the
relative accuracy of a single error is then 1/9 or 1/6 instead of 1/14."""
FEW_COEFFICIENTS = 100
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
    """

    angles: Float[Array, "F 3"]
    shifts_px: Float[Array, "F 2"]
    positions_px: Float[Array, "P 3"]
    trajectories_px: Float[Array, "P F 3"] | None
    warp: Float[Array, "G n"]
    dispersion: float


@dataclass(frozen=True, kw_only=True, eq=False)
class ExpectedCurvature:
    """A solution with its expected curvature.

    Attributes
    ----------
    state
        The solution; each pair has its share of its tilt image's curvature.
    dispersion
        φ, the factor by which that curvature overstates the information.
    """

    state: State
    dispersion: float


def expected_curvature(
    problem: Problem, vector: Float[Array, "N"], power: Float[Array, "F P"]
) -> ExpectedCurvature:
    """Evaluate the expected curvature and the dispersion at a solution.

    Parameters
    ----------
    power
        Weighted power of each pair's prediction (`CorrelationWindows.power`).
    """
    state = expected_state(problem, evaluate(problem, vector), power)
    return ExpectedCurvature(state=state, dispersion=dispersion(problem, vector, state))


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
    state, phi = curvature.state, curvature.dispersion
    gauge, factor = Gauge(problem, state, positions_share), factorise(problem, state)
    if isinstance(factor, SchurFactor):
        squares, moved = gauge.left_of(factor.variances(), factor.solve), None
    elif factor.motion is None and problem.layout.unpack(problem.free).warp.sum() <= FEW_COEFFICIENTS:
        inverse = _InverseWithWarp.of(problem, state, factor.static)
        squares, moved = gauge.left_of(inverse.variances(), inverse.solve), None
    else:
        squares, moved = _sampled(problem, state, gauge, factor, seed, threads)
    sigma = problem.layout.unpack(np.sqrt(phi * squares))
    return Uncertainty(
        angles=sigma.angles,
        shifts_px=sigma.shifts_px,
        positions_px=sigma.positions_px,
        trajectories_px=None if moved is None else np.moveaxis(np.sqrt(phi * moved), 1, 0),
        warp=sigma.warp,
        dispersion=phi,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _InverseWithWarp:
    """H⁻¹ of static parameters and a warp's coefficients, by block elimination of the static part.

    Attributes
    ----------
    warp
        Indices of the coefficients among all parameters.
    through
        Inverse of the static part times its coupling to the coefficients.
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
        left = self.coefficients @ (vector[self.warp] - self.through.T @ self._static_part(vector))
        result -= self.through @ left
        result[self.warp] = left
        return result

    def variances(self) -> Float[Array, "N"]:
        """Return the diagonal of the inverse; zero for parameters that are not free."""
        result: Array = self.static.variances()
        result += np.sum((self.through @ self.coefficients) * self.through, axis=1)
        result[self.warp] = np.diag(self.coefficients)
        return result

    def _static_part(self, vector: Array) -> Array:
        part = vector.copy()
        part[self.warp] = 0
        return part


def _sampled(
    problem: Problem, state: State, gauge: Gauge, factor: CoupledFactor, seed: int, threads: int
) -> tuple[Float[Array, "N"], Float[Array, "F P 3"] | None]:
    """Return variances estimated by draws, of the parameters and, with motion, of the trajectories.

    Trajectories have the prior's variance where motion cannot be represented by the problem's coefficients.
    """
    layout, draw = problem.layout, _sampler(problem, state)
    reduced = ReducedFactor(coupled=factor)

    def sample(number: int) -> tuple[Array, Array | None]:
        static, left = factor.eliminated(draw(np.random.default_rng([seed, number])))
        step = truncated_cg(
            lambda v: multiply_lifted(problem, state, v),
            reduced,
            left,
            np.inf,
            PROBE_PRODUCTS,
            PROBE_ACCURACY,
        )
        vector, offsets = split(problem, static + step.vector)
        return gauge.remove(vector), offsets

    squares = np.zeros(layout.size)
    moving = problem.motion.shape[0] > 0
    moved = np.zeros((layout.tilts, layout.particles, 3)) if moving else None
    pairs = int(problem.surface.visible.sum())
    probes = next(number for most, number in PROBES if pairs < most)
    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, probes, threads):  # one draw per thread, to limit memory
            for fixed, offsets in pool.map(sample, range(first, min(first + threads, probes))):
                squares += fixed**2
                if moved is not None and offsets is not None:
                    moved += (layout.unpack(fixed).positions_px + offsets) ** 2
    return squares / probes, None if moved is None else moved / probes + problem.motion.left_out_px2


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


def dispersion(problem: Problem, vector: Float[Array, "N"], state: State) -> float:
    """Return φ, the mean squared gradient of the pairs over their expected curvature, per degree of freedom.

    The degrees of freedom are two coordinates per pair, less the trace of the share that the fit explains,
    which is the number of parameters for well-determined problems.
    """
    positions = state.positions_2d_px
    if problem.warps:
        parameters = problem.layout.unpack(vector)
        positions = positions + problem.deformation.displacement_px(positions, parameters.warp)
    gradient = evaluate_surface(problem.surface, positions - problem.anchors_px).gradient
    seen = problem.surface.visible
    if problem.pair_weights is not None:
        seen = seen & (problem.pair_weights >= SHOWN)
    xx, xy, yy = state.curvature[seen].T
    gx, gy = gradient[seen].T
    det = xx * yy - xy**2
    sound = det > 1e-12 * (xx + yy) ** 2
    if not sound.any():
        return 1.0
    chi2 = np.sum(((yy * gx**2 - 2 * xy * gx * gy + xx * gy**2)[sound]) / det[sound])
    layout = problem.layout
    free = layout.unpack(problem.free)
    fitted = sum(
        int(block[rows].sum())
        for block, rows in (
            (free.angles, seen.any(axis=1)),
            (free.shifts_px, seen.any(axis=1)),
            (free.positions_px, seen.any(axis=0)),
        )
    )
    freedom = 2 * int(sound.sum()) - fitted
    return float(chi2 / max(freedom, 0.2 * 2 * sound.sum()))


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


class Gauge:
    """Directions that change no image, and their removal.

    Parameters
    ----------
    positions_share
        Weight of the positions in the net rotation; projections have the rest. None: the identity.
    """

    def __init__(
        self, problem: Problem, state: State, positions_share: Float[Array, "3 3"] | None = None
    ) -> None:
        layout = problem.layout
        free = layout.unpack(problem.free)
        seen = np.asarray(problem.surface.visible.any(axis=0))
        directions: list[Array] = []
        amounts: list[Array] = []
        if seen.any() and free.positions_px.any() and free.shifts_px.any():
            for axis in np.eye(3):
                shifts = -(state.rotations[:, :2] @ axis)
                directions.append(layout.fill(positions_px=axis, shifts_px=shifts))
                amounts.append(layout.fill(positions_px=axis * seen[:, None] / seen.sum()))
        if seen.any() and free.positions_px.any() and free.angles.any():
            share = np.eye(3) if positions_share is None else positions_share
            turns, by_positions, by_projections = _common_turns(problem, state, seen)
            directions.extend(turns)
            amounts.extend(share @ by_positions + (np.eye(3) - share) @ by_projections)
        self._directions = np.array(directions).reshape(-1, layout.size)
        self._amounts = np.array(amounts).reshape(-1, layout.size)

    def remove(self, vector: Float[Array, "N"]) -> Float[Array, "N"]:
        """Remove the combination of gauge directions so that no net shift and no net rotation remain."""
        result: Array = vector - (self._amounts @ vector) @ self._directions
        return result

    def left_of(
        self, variances: Float[Array, "N"], covariance: Callable[[Array], Array]
    ) -> Float[Array, "N"]:
        """Return the variances after `remove`.

        Parameters
        ----------
        variances
            Diagonal of the covariance.
        covariance
            Function that multiplies the covariance with a vector.
        """
        along = self._directions
        shared = np.array([covariance(row) for row in self._amounts]).reshape(along.shape)
        between = shared @ self._amounts.T
        left: Array = variances - np.sum(along * (2 * shared - between @ along), axis=0)
        return np.maximum(left, 0)


def _common_turns(
    problem: Problem, state: State, seen: Bool[Array, "P"]
) -> tuple[Float[Array, "3 N"], Float[Array, "3 N"], Float[Array, "3 N"]]:
    """Return common rotations about x, y and z, and two matrices that yield a vector's net rotation.

    The first matrix yields the net rotation of the vector's positions, the second that of its projections.
    """
    layout = problem.layout
    points = problem.points_px.mean(axis=0) + layout.unpack(state.vector).positions_px
    centre = points[seen].mean(axis=0)
    # Where the shifts are fixed, only a rotation about the projected centre changes no image.
    pivot = centre if layout.unpack(problem.free).shifts_px.any() else problem.centre_px
    shown = np.flatnonzero(problem.surface.visible.any(axis=1))
    turns, levers, by_projections = [], [], []
    for axis in np.eye(3):
        turned = state.rotations @ axis
        about = np.cross(turned, state.rotations @ (problem.centre_px - pivot))
        rates = np.linalg.solve(state.turn_rate, -turned[..., None])[..., 0]
        turns.append(
            layout.fill(angles=rates, shifts_px=-about[:, :2], positions_px=np.cross(axis, points - pivot))
        )
        levers.append(layout.fill(positions_px=np.cross(axis, points - centre) * seen[:, None]))
        mean = np.zeros((layout.tilts, 3))
        mean[shown] = -np.einsum("fi,fij->fj", turned, state.turn_rate)[shown] / len(shown)
        by_projections.append(layout.fill(angles=mean))
    directions, constraints = np.array(turns), np.array(levers)
    by_positions = np.linalg.pinv(constraints @ directions.T, hermitian=True) @ constraints
    return directions, by_positions, np.array(by_projections)
