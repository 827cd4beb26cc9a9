"""Approximate inverses for motion and warp coefficients after projections and positions are eliminated.

Projections and static positions can reproduce most of the effect of these coefficients on 2D positions; the
factors approximate the curvature that remains. For motion it is close to a Kronecker product of deformation
modes, which follow from the covariance alone, and time, for which an average particle is used; the model of
motion inverts it. For warps it is a small dense matrix (one for each tilt image, where each has its own
warp).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tomopolish.errors import RunError
from tomopolish.models.motion_inverse import Followed, MotionInverse
from tomopolish.shapes import Array, Float
from tomopolish.solve.kernels import pairs as pair_kernels
from tomopolish.solve.problem import Problem, State


def motion_inverse(
    problem: Problem, state: State, prior: float, near: MotionInverse | None = None
) -> MotionInverse:
    """Return the inverse of motion's remaining curvature, from positive pair curvatures (`state.curvature`).

    Parameters
    ----------
    prior
        Precision of the coefficients' prior.
    near
        Inverse at another point of the same problem, parts of which are reused; None: there is none.
    """
    mean = _mean_curvature(state.curvature, problem.surface.visible)
    time = curvature_over_time(problem, state.rotations, mean)
    return problem.motion.near_inverse(time, prior, _followed(problem, state), near)


def followed_fields(problem: Problem) -> Float[Array, "J P 3"]:
    """Return velocities of particles that projections can follow: translations, then rotations.

    Rotations are about the particles' centre, unless shifts are fixed.
    """
    free = problem.layout.unpack(problem.free)
    points, pivot = _points_and_pivot(problem)
    fields = [np.broadcast_to(axis, points.shape) for axis in np.eye(3) if free.shifts_px.any()]
    fields += [np.cross(axis, points - pivot) for axis in np.eye(3) if free.angles.any()]
    return np.array(fields).reshape(-1, *points.shape)


def _followed(problem: Problem, state: State) -> Followed:
    """Return the velocities that projections can follow, and what their priors say of them."""
    layout = problem.layout
    free, prior = layout.unpack(problem.free), layout.unpack(problem.precision)
    _, pivot = _points_and_pivot(problem)
    turned = np.einsum("fij,aj->afi", state.rotations, np.eye(3))
    responses = []
    if free.shifts_px.any():
        responses += [np.concatenate([np.zeros(t.shape), t[:, :2]], axis=1) for t in turned]
    if free.angles.any():
        for axis, about in zip(np.eye(3), turned, strict=True):
            rates = np.linalg.solve(state.turn_rate, about[..., None])[..., 0]
            shifts = state.rotations[:, :2] @ np.cross(axis, pivot)
            responses.append(np.concatenate([rates, -shifts], axis=1))
    response = np.array(responses).reshape(-1, layout.tilts, 5)
    precision = np.concatenate([prior.angles, prior.shifts_px], axis=1)
    by_image = np.einsum("jfi,fi,kfi->fjk", response, precision, response)
    seen = np.einsum("fpi,fp->p", state.curvature[..., ::2], problem.surface.visible)
    return Followed(
        shares=seen / max(float(seen.mean()), np.finfo(float).tiny),
        fields=followed_fields(problem),
        curvature=_over_velocities(problem, by_image),
    )


def _points_and_pivot(problem: Problem) -> tuple[Float[Array, "P 3"], Float[Array, "3"]]:
    """Return the particles relative to the projected centre, and the point about which they may turn."""
    points = problem.points_px.mean(axis=0) - problem.centre_px
    turns_anywhere = problem.layout.unpack(problem.free).shifts_px.any() and len(points)
    return points, points.mean(axis=0) if turns_anywhere else np.zeros(3)


def _over_velocities(problem: Problem, of_image: Float[Array, "F a a"]) -> Float[Array, "T T"]:
    """Return the curvature over whitened velocities from that over the offsets of each image."""
    later = np.cumsum(of_image[problem.motion.chronological][::-1], axis=0)[::-1]
    steps, size = len(later) - 1, later.shape[1]
    index = np.maximum.outer(np.arange(steps), np.arange(steps)) + 1
    scales = np.repeat(problem.motion.step_scales, size)
    return np.asarray(
        later[index].transpose(0, 2, 1, 3).reshape(size * steps, size * steps) * np.outer(scales, scales)
    )


def curvature_over_time(
    problem: Problem, rotations: Float[Array, "F 3 3"], mean: Float[Array, "F 2 2"]
) -> Float[Array, "T T"]:
    """Return the curvature over the velocities of all time steps and components, of an average particle.

    The part that a static shift of the particle can reproduce is taken out, where positions are free.

    Parameters
    ----------
    mean
        Mean curvature of each tilt image's pairs.
    """
    of_image = np.einsum("fia,fij,fjb->fab", rotations[:, :2], mean, rotations[:, :2])
    if not problem.layout.unpack(problem.free).positions_px.any():
        return _over_velocities(problem, of_image)
    whole = np.sum(of_image, axis=0)
    later = np.cumsum(of_image[problem.motion.chronological][:0:-1], axis=0)[::-1]
    onto_shift = (later * problem.motion.step_scales[:, None, None]).reshape(-1, 3)
    shifted = onto_shift @ np.linalg.pinv(whole, hermitian=True) @ onto_shift.T
    return np.asarray(_over_velocities(problem, of_image) - shifted)


def _mean_curvature(curvature: Array, visible: Array) -> Float[Array, "F 2 2"]:
    """Return the curvature of each tilt image's pairs, averaged over all particles, as matrices."""
    total = np.einsum("fpi,fp->fi", curvature, visible) / visible.shape[1]
    return total[:, [0, 1, 1, 2]].reshape(-1, 2, 2)


@dataclass(frozen=True, kw_only=True, eq=False)
class WarpFactor:
    """Cholesky factors (lower) of the warps' remaining curvature, one for each warp."""

    factors: tuple[Float[Array, "n n"], ...]

    def solve(self, coefficients: Float[Array, "G n"]) -> Float[Array, "G n"]:
        """Apply the inverse."""
        solved = np.array(coefficients, dtype=np.float64)
        for factor, row in zip(self.factors, solved, strict=True):
            pair_kernels.solve_cholesky(factor, row)
        return solved


def warp_factor(
    problem: Problem, state: State, tilt_blocks: Float[Array, "F 5 5"], prior: Float[Array, "G n"]
) -> WarpFactor:
    """Build the factors from positive pair curvatures, less the part that the projections can reproduce.

    Parameters
    ----------
    tilt_blocks
        Curvature of each projection's angles and shifts, prior included.
    prior
        Precision of the coefficients.
    """
    layout = problem.layout
    warps, size = layout.warp_shape
    free = layout.unpack(problem.free)
    tilt_free = np.concatenate([free.angles, free.shifts_px], axis=1)
    assert state.warp is not None
    basis = state.warp.inverse @ state.warp.basis()
    basis *= problem.surface.visible[..., None, None]
    curvature = state.curvature[..., [0, 1, 1, 2]].reshape(*state.curvature.shape[:2], 2, 2)
    flat = basis.reshape(layout.tilts, -1, size)
    weighted = (curvature @ basis).reshape(flat.shape)
    A = tilt_jacobian(state).reshape(layout.tilts, -1, 5)
    # Parameters that are not free cannot reproduce any part of the warp.
    cross = np.swapaxes(A * tilt_free[:, None], 1, 2) @ weighted
    remaining = np.swapaxes(flat, 1, 2) @ weighted
    remaining -= np.swapaxes(cross, 1, 2) @ np.linalg.solve(tilt_blocks, cross)
    blocks = remaining if warps > 1 else remaining.sum(axis=0, keepdims=True)
    index = np.arange(size)
    blocks[:, index, index] += prior
    return WarpFactor(factors=tuple(definite_cholesky(block) for block in blocks))


def tilt_jacobian(state: State) -> Float[Array, "F P 2 5"]:
    """Differentiate unwarped 2D positions with respect to their projection's angles and shifts."""
    x, y, z = np.moveaxis(state.turned, -1, 0)
    zero = np.zeros_like(x)
    cross = np.stack([np.stack([zero, z, -y], axis=-1), np.stack([-z, zero, x], axis=-1)], axis=-2)
    about = cross @ state.turn_rate[:, None]
    return np.concatenate([about, np.broadcast_to(np.eye(2), (*x.shape, 2, 2))], axis=-1)


def definite_cholesky(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Return the lower Cholesky factor; a relative shift is added where rounding made the matrix indefinite.

    Raises
    ------
    RunError
        When the matrix has values that are not numbers.
    """
    if not np.isfinite(matrix).all():
        raise RunError("the refinement met values that are not numbers; check the tilt images for NaN pixels")
    shift = 0.0
    scale = max(float(np.mean(np.abs(np.diag(matrix)))), np.finfo(float).tiny)
    while True:
        try:
            factor: Array = np.linalg.cholesky(matrix + shift * np.eye(len(matrix)))
        except np.linalg.LinAlgError:
            shift = max(10 * shift, 1e-12 * scale)
        else:
            return factor
