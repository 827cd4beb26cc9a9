"""Approximate inverses for motion and warp coefficients after projections and positions are eliminated.

Projections and static positions can reproduce most of the effect of these coefficients on 2D positions; the
factors approximate the curvature that remains. For motion it is close to a Kronecker product of deformation
modes, which follow from the covariance alone, and time, for which an average particle is used. For warps it
is a small dense matrix (one for each tilt image, where each has its own warp).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tomopolish.errors import RunError
from tomopolish.shapes import Float, Float32
from tomopolish.solve.kernels import pairs as pair_kernels
from tomopolish.solve.problem import Problem, State

Array = np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class MotionFactor:
    """Inverse of prior + Λ ⊗ T in the eigenbases of both, an approximation in float32.

    Attributes
    ----------
    modes
        (K, K), eigenvectors of LᵀL, columns.
    times
        (T, T), eigenvectors of the curvature over time and component, columns.
    curvature
        (K, T), prior plus product of both eigenvalues.
    """

    modes: Float32[Array, "K K"]
    times: Float32[Array, "T T"]
    curvature: Float32[Array, "K T"]

    def solve(self, coefficients: Float[Array, "K steps 3"]) -> Float[Array, "K steps 3"]:
        """Apply the inverse."""
        flat = coefficients.reshape(len(self.modes), -1).astype(np.float32)
        inner = (self.modes.T @ flat @ self.times) / self.curvature
        result = self.modes @ inner @ self.times.T
        return result.reshape(coefficients.shape).astype(np.float64)


def motion_factor(
    problem: Problem, state: State, prior: float, near: MotionFactor | None = None
) -> MotionFactor:
    """Build the factor from positive pair curvatures (`state.curvature`).

    The curvature over time is that of an average particle in each tilt image, less the part that a static
    shift of the particle can reproduce. Where the projections' shifts are free, motion that all particles
    share is left to them.

    Parameters
    ----------
    near
        Factor at another point of the same problem, whose modes are reused; None: they are computed.
    """
    values, modes, uniform = problem.motion.spectrum()
    order = problem.motion.chronological
    visible = problem.surface.visible
    mean = np.einsum(
        "fia,fij,fjb->fab",
        state.rotations[:, :2],
        _mean_curvature(state.curvature, visible),
        state.rotations[:, :2],
    )[order]
    later = np.cumsum(mean[::-1], axis=0)[::-1]
    steps = len(order) - 1
    index = np.maximum.outer(np.arange(steps), np.arange(steps)) + 1
    time = later[index].transpose(0, 2, 1, 3).reshape(3 * steps, 3 * steps)
    onto_shift = later[1:].reshape(3 * steps, 3)
    time = time - onto_shift @ np.linalg.pinv(later[0], hermitian=True) @ onto_shift.T
    scales = np.repeat(problem.motion.step_scales, 3)
    time *= np.outer(scales, scales)
    time_values, times = np.linalg.eigh(time)
    if problem.layout.unpack(problem.free).shifts_px.any():
        values = values * (1 - uniform)
    curvature = prior + np.outer(values, np.maximum(time_values, 0))
    return MotionFactor(
        modes=modes.astype(np.float32) if near is None else near.modes,
        times=times.astype(np.float32),
        curvature=curvature.astype(np.float32),
    )


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
    own = warps > 1
    free = layout.unpack(problem.free)
    tilt_free = np.concatenate([free.angles, free.shifts_px], axis=1)
    blocks = np.zeros((warps, size, size))
    assert state.warp is not None
    basis = state.warp.inverse @ state.warp.basis()
    basis *= problem.surface.visible[..., None, None]
    curvature = state.curvature[..., [0, 1, 1, 2]].reshape(*state.curvature.shape[:2], 2, 2)
    flat = basis.reshape(layout.tilts, -1, size)
    weighted = (curvature @ basis).reshape(flat.shape)
    A = _tilt_jacobian(state.turned, state.turn_rate).reshape(layout.tilts, -1, 5)
    # Parameters that are not free cannot reproduce any part of the warp.
    cross = np.swapaxes(A * tilt_free[:, None], 1, 2) @ weighted
    remaining = np.swapaxes(flat, 1, 2) @ weighted
    remaining -= np.swapaxes(cross, 1, 2) @ np.linalg.solve(tilt_blocks, cross)
    blocks += remaining if own else remaining.sum(axis=0)
    index = np.arange(size)
    blocks[:, index, index] += prior
    return WarpFactor(factors=tuple(definite_cholesky(block) for block in blocks))


def _tilt_jacobian(
    turned: Float[Array, "F P 3"], turn_rate: Float[Array, "F 3 3"]
) -> Float[Array, "F P 2 5"]:
    """Differentiate 2D positions with respect to their projection's angles and shifts."""
    x, y, z = np.moveaxis(turned, -1, 0)
    zero = np.zeros_like(x)
    cross = np.stack([np.stack([zero, z, -y], axis=-1), np.stack([-z, zero, x], axis=-1)], axis=-2)
    about = cross @ turn_rate[:, None]
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
