"""Evidence of a motion prior: how probable it makes the images, whatever the geometry (docs/tuning.md).

Around the most probable geometry every pair's log-likelihood is a paraboloid of its 2D position. Positions
are then the state of a linear dynamical system: a random walk whose steps have the prior's covariance, seen
through the tilt images' projections. A Kalman filter (Kalman 1960; in the information form of Rauch, Tung &
Striebel 1965) integrates over all trajectories, positions and projections exactly, one tilt image at a time:
O(F·P³) for F tilt images and P particles, without a matrix larger than 3P × 3P.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg
from jaxtyping import Bool, Float
from scipy.spatial.distance import cdist

from tomopolish.settings import MotionSettings
from tomopolish.solve.problem import Problem, State, evaluate
from tomopolish.solve.surface import evaluate_surface
from tomopolish.solve.uncertainty import expected_state

Array = np.ndarray

LEAST_DISPERSION = 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearTomogram:
    """A tomogram's log-likelihood as a quadratic function of where its particles are in each tilt image.

    Tilt image m (chronological order) adds ηᵀx − ½ xᵀΛx, x being the particles' 3D displacements from their
    static position, px; the projection's own parameters are integrated out.

    Attributes
    ----------
    blocks
        Curvature by each particle's own displacement.
    coupling
        G and the Cholesky factor's inverse applied to it: Λ = blocks − coupling · couplingᵀ.
    force
        η.
    pairs
        Visible pairs.
    misfit
        What an exact fit of every single pair would gain, ½ Σ hᵀC⁻¹h, less what the projections take of it.
    position_variance
        Of the static positions' prior, px².
    """

    name: str
    positions_px: Float[Array, "P 3"]
    blocks: Float[Array, "F P 3 3"]
    coupling: Float[Array, "F Q 5"]
    force: Float[Array, "F Q"]
    pairs: int
    misfit: float
    position_variance: float
    frame_dose: float
    pixel_size_angstrom: float


def linearise(
    name: str,
    problem: Problem,
    vector: Float[Array, "N"],
    held_out: Sequence[tuple[Bool[Array, "F P"], Float[Array, "N"]]],
    power: Float[Array, "F P"],
    positions_px: Float[Array, "P 3"],
    *,
    frame_dose: float,
    pixel_size_angstrom: float,
) -> LinearTomogram:
    """Expand a problem with motion about a solution.

    A pair's own noise draws the solution to where that noise happens to peak, which looks like a sharper
    likelihood and a larger motion. So each pair is expanded about a solution that did not see it. Curvatures
    are the expected ones (see `solve.uncertainty`). The projections' prior is taken about the
    solution and as wide as `problem` has it.

    Parameters
    ----------
    held_out
        Pairs, and a solution without them; together all pairs.
    power
        Weighted power of each pair's prediction.
    positions_px
        Positions between which the prior takes distances.
    """
    state = evaluate(problem, vector)
    curvature = np.zeros_like(state.curvature)
    gradient, apart = np.zeros((2, *state.positions_2d_px.shape))
    for pairs, solution in held_out:
        other = evaluate(problem, solution)
        curvature[pairs] = other.curvature[pairs]
        gradient[pairs] = _pair_forces(problem, other)[pairs]
        apart[pairs] = (other.positions_2d_px - state.positions_2d_px)[pairs]
    state = expected_state(problem, replace(state, curvature=curvature), power)
    layout = problem.layout
    offsets = problem.motion.offsets_px(layout.unpack(vector).motion)
    C = _matrices(state.curvature)
    A = state.rotations[:, :2]
    here = apart + np.einsum("fij,fpj->fpi", A, offsets)
    h = gradient + np.einsum("fpij,fpj->fpi", C, here)
    h[~problem.surface.visible] = 0.0
    B = _tilt_derivatives(state)
    prior = layout.unpack(problem.precision)
    free = layout.unpack(problem.free)
    tilt_prior = np.concatenate([prior.angles, prior.shifts_px], axis=1)
    tilt_free = np.concatenate([free.angles, free.shifts_px], axis=1)
    B = B * tilt_free[:, None, None, :]
    S = np.einsum("fpia,fpij,fpjb->fab", B, C, B)
    S[:, np.arange(5), np.arange(5)] += tilt_prior
    G = np.einsum("fki,fpkl,fplb->fpib", A, C, B).reshape(layout.tilts, -1, 5)
    inverse = np.linalg.inv(np.linalg.cholesky(S))
    coupling = G @ np.swapaxes(inverse, 1, 2)
    pulled = np.einsum("fab,fpib,fpi->fa", inverse, B, h)
    force = np.einsum("fki,fpk->fpi", A, h).reshape(layout.tilts, -1)
    force = force - np.einsum("fqa,fa->fq", coupling, pulled)
    order = problem.motion.chronological
    return LinearTomogram(
        name=name,
        positions_px=positions_px,
        blocks=np.einsum("fki,fpkl,flj->fpij", A, C, A)[order],
        coupling=coupling[order],
        force=force[order],
        pairs=int(problem.surface.visible.sum()),
        misfit=_exact_fit(C, h) - 0.5 * float(np.sum(pulled**2)),
        position_variance=1.0 / float(prior.positions_px.mean()),
        frame_dose=frame_dose,
        pixel_size_angstrom=pixel_size_angstrom,
    )


def log_evidence(tomogram: LinearTomogram, motion: MotionSettings, dispersion: float = 1.0) -> float:
    """Log-evidence of a motion prior, in nats, up to a constant of the tomogram.

    Parameters
    ----------
    dispersion
        φ: variance of the noise over what the weights take it to be.
    """
    determinant, fitted = _filter(tomogram, motion, dispersion)
    return determinant + (fitted - tomogram.misfit) / dispersion - tomogram.pairs * float(np.log(dispersion))


def best_dispersion(tomogram: LinearTomogram, motion: MotionSettings, dispersion: float) -> float:
    """Next φ of a fixed-point iteration towards that of greatest evidence."""
    fitted = _filter(tomogram, motion, dispersion)[1]
    return max((tomogram.misfit - fitted) / max(tomogram.pairs, 1), LEAST_DISPERSION)


def _filter(tomogram: LinearTomogram, motion: MotionSettings, dispersion: float) -> tuple[float, float]:
    """Log-determinant part of the log-evidence, and what the data fit; all priors' variances over φ."""
    unit = (1.0 if motion.absolute else tomogram.frame_dose) / tomogram.pixel_size_angstrom
    count = len(tomogram.positions_px)
    scaled = cdist(tomogram.positions_px, tomogram.positions_px) / (unit * motion.distance_scale)
    step = (unit * motion.velocity_scale) ** 2 / dispersion
    walk = np.kron(step * np.exp(-(scaled**2) if motion.squared_exponential else -scaled), np.eye(3))
    V = tomogram.position_variance * np.eye(3 * count)
    mean = np.zeros(3 * count)
    determinant = fitted = 0.0
    for m, (blocks, coupling, force) in enumerate(
        zip(tomogram.blocks, tomogram.coupling, tomogram.force, strict=True)
    ):
        if m > 0:
            V = V + walk
        information = scipy.linalg.block_diag(*blocks) - coupling @ coupling.T
        residual = force - information @ mean
        system = V @ information
        system[np.diag_indices_from(system)] += 1.0
        lu = scipy.linalg.lu_factor(system, check_finite=False)
        V = scipy.linalg.lu_solve(lu, V, check_finite=False)
        V = 0.5 * (V + V.T)
        change = V @ residual
        fitted += 0.5 * float((force + residual) @ mean + residual @ change)
        determinant -= 0.5 * float(np.log(np.abs(np.diag(lu[0]))).sum())
        mean = mean + change
    return determinant, fitted


def _exact_fit(C: Float[Array, "F P 2 2"], h: Float[Array, "F P 2"]) -> float:
    """½ Σ hᵀC⁻¹h over the pairs whose curvature determines a position."""
    sound = np.linalg.det(C) > 1e-9 * np.trace(C, axis1=-2, axis2=-1) ** 2
    solved = np.linalg.solve(C[sound], h[sound][..., None])[..., 0]
    return 0.5 * float(np.sum(h[sound] * solved))


def _matrices(curvature: Float[Array, "F P 3"]) -> Float[Array, "F P 2 2"]:
    xx, xy, yy = np.moveaxis(curvature, -1, 0)
    return np.stack([np.stack([xx, xy], axis=-1), np.stack([xy, yy], axis=-1)], axis=-2)


def _pair_forces(problem: Problem, state: State) -> Float[Array, "F P 2"]:
    """Gradient of each pair's log-likelihood by its unwarped 2D position."""
    positions = state.positions_2d_px
    if problem.warps:
        warp = problem.layout.unpack(state.vector).warp
        positions = positions + problem.deformation.displacement_px(positions, warp)
    gradient = evaluate_surface(problem.surface, positions - problem.anchors_px).gradient
    if state.warp_inverse is None:
        return gradient
    jacobian = np.linalg.inv(state.warp_inverse)
    return np.einsum("fpji,fpj->fpi", jacobian, gradient)


def _tilt_derivatives(state: State) -> Float[Array, "F P 2 5"]:
    """Change of each unwarped 2D position with its projection's three angles and two shifts."""
    axes = np.swapaxes(state.turn_rate, 1, 2)
    turning = np.cross(axes[:, None], state.turned[:, :, None])[..., :2]
    shifts = np.broadcast_to(np.eye(2), (*state.turned.shape[:2], 2, 2))
    return np.concatenate([np.swapaxes(turning, 2, 3), shifts], axis=-1)
