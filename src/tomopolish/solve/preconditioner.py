"""Camera–point preconditioner: the static problem solved exactly through its Schur complement.

Projections and particles form the two sides of a bundle adjustment (Triggs et al. 2000, "Bundle adjustment —
a modern synthesis"): particles couple only through tilt images. With each pair's curvature made positive,
eliminating the particles' 3×3 blocks leaves one dense system over the 5 F projection parameters. Motion and
warp coefficients are scaled by the diagonal of their own curvature.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from jaxtyping import Float

from tomopolish.models.parameters import Layout
from tomopolish.solve import kernels
from tomopolish.solve.problem import Problem, State

Array = np.ndarray


def positive_curvature(curvature: Float[Array, "F P 3"]) -> Float[Array, "F P 3"]:
    """Replace each pair's curvature (xx, xy, yy) by its absolute value: same axes, eigenvalues ≥ 0."""
    xx, xy, yy = np.moveaxis(curvature, -1, 0)
    mean, half = (xx + yy) / 2, (xx - yy) / 2
    radius = np.hypot(half, xy)
    high, low = np.abs(mean + radius), np.abs(mean - radius)
    new_mean, new_radius = (high + low) / 2, (high - low) / 2
    ratio = np.divide(new_radius, radius, out=np.zeros_like(radius), where=radius > 0)
    return np.stack([new_mean + ratio * half, ratio * xy, new_mean - ratio * half], axis=-1)


@dataclass(frozen=True, kw_only=True, eq=False)
class SchurFactor:
    """Factorised positive-definite approximation of the cost's Hessian.

    Attributes
    ----------
    point_inverse
        Inverse of each particle's block.
    elimination
        cross · point_inverse, as (5F, 3P).
    tilt_factor
        Cholesky factor of the Schur complement.
    diagonal
        Curvature of motion and warp coefficients, flat.
    """

    layout: Layout
    point_inverse: Float[Array, "P 3 3"]
    elimination: Float[Array, "A B"]
    tilt_factor: tuple[Array, bool]
    diagonal: Float[Array, "M"]
    free: Array

    def solve(self, vector: Float[Array, "N"]) -> Float[Array, "N"]:
        """Apply the inverse."""
        result = np.zeros_like(vector)
        source, target = self.layout.unpack(vector), self.layout.unpack(result)
        tilt_part = np.concatenate([source.angles, source.shifts_px], axis=1).ravel()
        tilt_step = scipy.linalg.cho_solve(
            self.tilt_factor, tilt_part - self.elimination @ source.positions_px.ravel(), check_finite=False
        )
        back = (tilt_step @ self.elimination).reshape(-1, 3)
        target.positions_px[...] = np.einsum("pij,pj->pi", self.point_inverse, source.positions_px) - back
        target.angles[...] = tilt_step.reshape(-1, 5)[:, :3]
        target.shifts_px[...] = tilt_step.reshape(-1, 5)[:, 3:]
        static = len(vector) - len(self.diagonal)
        result[static:] = vector[static:] / self.diagonal
        result[~self.free] = 0
        return result


def factorise(problem: Problem, state: State) -> SchurFactor:
    """Build and factorise the approximation at a point."""
    layout = problem.layout
    tilts, particles = layout.tilts, layout.particles
    curvature = positive_curvature(state.curvature)
    tilt_blocks = np.empty((tilts, 5, 5))
    point_blocks = np.empty((particles, 3, 3))
    cross = np.empty((tilts, particles, 5, 3))
    kernels.normal_blocks(
        problem.surface.visible, state.rotations, state.turned, state.turn_rate, curvature,
        tilt_blocks, point_blocks, cross,
    )  # fmt: skip
    prior, free = layout.unpack(problem.precision), layout.unpack(problem.free)
    tilt_free = np.concatenate([free.angles, free.shifts_px], axis=1)
    tilt_prior = np.concatenate([prior.angles, prior.shifts_px], axis=1)
    _constrain(tilt_blocks, tilt_prior, tilt_free)
    _constrain(point_blocks, prior.positions_px, free.positions_px)
    cross *= tilt_free[:, None, :, None] * free.positions_px[None, :, None, :]
    inverse = np.linalg.inv(point_blocks)
    flat = np.swapaxes(cross, 1, 2).reshape(tilts * 5, particles * 3)
    elimination = np.matmul(cross, inverse[None]).swapaxes(1, 2).reshape(tilts * 5, particles * 3)
    schur = scipy.linalg.block_diag(*tilt_blocks) - elimination @ flat.T
    return SchurFactor(
        layout=layout,
        point_inverse=inverse,
        elimination=elimination,
        tilt_factor=_cholesky(schur),
        diagonal=_other_diagonal(problem, state, curvature),
        free=problem.free,
    )


def _constrain(blocks: Array, prior: Array, free: Array) -> None:
    """Add the prior, and replace what is not free by the identity."""
    size = blocks.shape[-1]
    index = np.arange(size)
    blocks[:, index, index] += prior
    blocks *= free[:, :, None] * free[:, None, :]
    blocks[:, index, index] += ~free


def _cholesky(matrix: Array) -> tuple[Array, bool]:
    """Cholesky factor; a relative shift is added when rounding has cost definiteness."""
    shift = 0.0
    scale = float(np.mean(np.diag(matrix)))
    while True:
        try:
            factor: tuple[Array, bool] = scipy.linalg.cho_factor(
                matrix + shift * np.eye(len(matrix)), lower=True, check_finite=False
            )
        except np.linalg.LinAlgError:
            shift = max(10 * shift, 1e-12 * scale)
        else:
            return factor


def _other_diagonal(problem: Problem, state: State, curvature: Array) -> Array:
    """Curvature of motion and warp coefficients: prior plus the diagonal of the likelihood's part."""
    layout = problem.layout
    precision = layout.unpack(problem.precision)
    parts = []
    if precision.motion.size:
        R = state.rotations[:, None, :2, :]
        xx, xy, yy = (curvature[..., i, None] for i in range(3))
        along = R[..., 0, :] ** 2 * xx + 2 * R[..., 0, :] * R[..., 1, :] * xy + R[..., 1, :] ** 2 * yy
        along = along * problem.surface.visible[..., None]
        parts.append(np.ravel(precision.motion + problem.motion.curvature_diagonal(along)))
    if precision.warp.size:
        trace = 0.5 * (curvature[..., 0] + curvature[..., 2]) * problem.surface.visible
        parts.append(
            np.ravel(precision.warp + problem.deformation.curvature_diagonal(state.positions_2d_px, trace))
        )
    return np.concatenate(parts) if parts else np.zeros(0)
