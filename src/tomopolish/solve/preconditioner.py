"""Camera–point preconditioner: the static problem solved exactly through its Schur complement.

Projections and particles form the two sides of a bundle adjustment (Triggs et al. 2000, "Bundle adjustment —
a modern synthesis"): particles couple only through tilt images. With each pair's curvature made positive,
eliminating the particles' 3×3 blocks leaves one dense system over the 5 F projection parameters. Motion and
warps are added by block elimination: their coupling to the static parameters is exact, and only their
remaining curvature is approximated (`elimination`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tomopolish.models.motion_inverse import MotionInverse
from tomopolish.models.parameters import Layout
from tomopolish.shapes import Array, Bool, Float
from tomopolish.solve.elimination import (
    WarpFactor,
    definite_cholesky,
    motion_inverse,
    warp_factor,
)
from tomopolish.solve.kernels import pairs as pair_kernels
from tomopolish.solve.lifted import split
from tomopolish.solve.problem import Problem, State
from tomopolish.solve.products import forces_of_step, static_forces


def positive_curvature(curvature: Float[Array, "F P 3"]) -> Float[Array, "F P 3"]:
    """Replace each pair's curvature (xx, xy, yy) by its absolute value: same axes, eigenvalues ≥ 0."""
    xx, xy, yy = np.moveaxis(curvature, -1, 0)
    mean, half = (xx + yy) / 2, (xx - yy) / 2
    radius = np.sqrt(half**2 + xy**2)
    high, low = np.abs(mean + radius), np.abs(mean - radius)
    new_mean, new_radius = (high + low) / 2, (high - low) / 2
    ratio = np.divide(new_radius, radius, out=np.zeros_like(radius), where=radius > 0)
    return np.stack([new_mean + ratio * half, ratio * xy, new_mean - ratio * half], axis=-1)


@dataclass(frozen=True, kw_only=True, eq=False)
class SchurFactor:
    """Factorised positive-definite Hessian of the static parameters; its solutions have no motion and warp.

    Attributes
    ----------
    point_roots
        Matrices R with R Rᵀ the inverse of each particle's block.
    cross
        Blocks of projections with particles times R, as (5F, 3P).
    tilt_factor
        Lower Cholesky factor of the Schur complement.
    tilt_blocks
        Blocks of angles and shifts, prior included.
    """

    layout: Layout
    point_roots: Float[Array, "P 3 3"]
    cross: Float[Array, "A B"]
    tilt_factor: Float[Array, "A A"]
    tilt_blocks: Float[Array, "F 5 5"]
    free: Bool[Array, "N"]

    def solve(self, vector: Float[Array, "N"]) -> Float[Array, "N"]:
        """Apply the inverse to the static part of a flat, or lifted, vector."""
        result, size = np.zeros_like(vector), self.layout.static_size
        result[:size] = self.solve_static(vector[:size])
        return result

    def solve_static(self, vector: Float[Array, "S"]) -> Float[Array, "S"]:
        """Apply the inverse to the static parameters alone."""
        result = np.zeros_like(vector)
        still = Layout(tilts=self.layout.tilts, particles=self.layout.particles)
        source, target = still.unpack(vector), still.unpack(result)
        tilt_part = np.concatenate([source.angles, source.shifts_px], axis=1).ravel()
        point_part = np.einsum("pji,pj->pi", self.point_roots, source.positions_px).ravel()
        tilt_step = tilt_part - self.cross @ point_part
        pair_kernels.solve_cholesky(self.tilt_factor, tilt_step)
        left = (point_part - tilt_step @ self.cross).reshape(-1, 3)
        target.positions_px[...] = np.einsum("pij,pj->pi", self.point_roots, left)
        target.angles[...] = tilt_step.reshape(-1, 5)[:, :3]
        target.shifts_px[...] = tilt_step.reshape(-1, 5)[:, 3:]
        result[~self.free[: len(result)]] = 0
        return result

    def variances(self) -> Float[Array, "N"]:
        """Return the diagonal of the inverse; zero for parameters that are not free."""
        result = np.zeros(len(self.free))
        target = self.layout.unpack(result)
        root = np.linalg.solve(self.tilt_factor, np.eye(len(self.tilt_factor)))  # of the complement's inverse
        tilts = np.sum(root**2, axis=0).reshape(-1, 5)
        target.angles[...], target.shifts_px[...] = tilts[:, :3], tilts[:, 3:]
        # A particle's block of the inverse is R (1 + WᵀW) Rᵀ.
        through = (root @ self.cross).reshape(len(root), -1, 3)
        through = np.matmul(through.transpose(1, 0, 2), np.swapaxes(self.point_roots, 1, 2))
        target.positions_px[...] = np.sum(self.point_roots**2, axis=2) + np.sum(through**2, axis=1)
        result[~self.free] = 0
        return result


@dataclass(frozen=True, kw_only=True, eq=False)
class CoupledFactor:
    """Static parameters and coefficients together, by block elimination.

    Attributes
    ----------
    static
        The static part.
    state
        State with positive pair curvatures, for products with the coupling.
    motion, warp
        Inverses of the coefficients' remaining curvature; None where there are no coefficients.
    """

    problem: Problem
    state: State
    static: SchurFactor
    motion: MotionInverse | None
    warp: WarpFactor | None

    def solve(self, residual: Float[Array, "L"]) -> Float[Array, "L"]:
        """Return the lifted step for a lifted residual."""
        first, left = self._after_static(residual)
        total = self.with_static_response(left)
        total[: len(first)] += first
        return total

    def eliminated(self, residual: Float[Array, "L"]) -> tuple[Float[Array, "L"], Float[Array, "L"]]:
        """Solve for the static parameters; returns their step, and the residual of the coefficients alone."""
        first, left = self._after_static(residual)
        left[: len(first)] = 0
        step = np.zeros_like(residual)
        step[: len(first)] = first
        return step, left

    def _after_static(self, residual: Float[Array, "L"]) -> tuple[Float[Array, "S"], Float[Array, "L"]]:
        """Return the step of the static parameters, and what it leaves of the residual."""
        layout = self.problem.layout
        first = self.static.solve_static(residual[: layout.static_size])
        step = np.zeros(layout.size)
        step[: len(first)] = first
        product, pulled = forces_of_step(self.problem, self.state, step, None)
        left = residual.copy()
        vector, forces = split(self.problem, left)
        vector -= product
        if forces is not None:
            forces -= pulled
        return first, left

    def with_static_response(self, residual: Float[Array, "L"]) -> Float[Array, "L"]:
        """Return a step of the coefficients for their residual, and the static step that it entails.

        For a Hessian whose static part is that of the factor, every step that starts from `eliminated`
        residuals leaves none in the static parameters; this is then the inverse, in two thirds of the time.
        """
        layout, (vector, forces) = self.problem.layout, split(self.problem, residual)
        step = np.zeros_like(residual)
        own, offsets = split(self.problem, step)
        left, blocks = layout.unpack(vector), layout.unpack(own)
        if self.motion is not None and forces is not None and offsets is not None:
            blocks.motion[...], offsets[...] = self.problem.motion.step(self.motion, left.motion, forces)
        if self.warp is not None:
            blocks.warp[...] = self.warp.solve(left.warp)
        pulled = static_forces(self.problem, self.state, own, offsets)
        own[: layout.static_size] -= self.static.solve_static(pulled)
        return step


def factorise(
    problem: Problem,
    state: State,
    near: SchurFactor | CoupledFactor | None = None,
    near_motion: MotionInverse | None = None,
) -> SchurFactor | CoupledFactor:
    """Build and factorise a positive-definite approximation of the cost's Hessian at a point.

    Parameters
    ----------
    near
        Factor at another point of the same problem, whose part for the warp, the most expensive, is reused.
        None: it is computed.
    near_motion
        Part for motion of a factor of the same tomogram, whose parts may be reused, also one with other
        weights of the pairs.
    """
    positive = replace(state, curvature=positive_curvature(state.curvature))
    static = _static_factor(problem, positive)
    free, prior = problem.layout.unpack(problem.free), problem.layout.unpack(problem.precision)
    motion = warp = None
    if free.motion.any():
        motion = motion_inverse(problem, positive, float(prior.motion.mean()), near_motion)
    if free.warp.any():
        warp = near.warp if isinstance(near, CoupledFactor) else None
        warp = warp or warp_factor(problem, positive, static.tilt_blocks, prior.warp)
    if motion is None and warp is None:
        return static
    return CoupledFactor(problem=problem, state=positive, static=static, motion=motion, warp=warp)


def _static_factor(problem: Problem, state: State) -> SchurFactor:
    """Eliminate the particles; `state` has positive curvatures."""
    layout = problem.layout
    tilts, particles = layout.tilts, layout.particles
    tilt_blocks = np.empty((tilts, 5, 5))
    point_blocks = np.empty((particles, 3, 3))
    cross = np.empty((tilts, 5, particles, 3))
    pair_kernels.normal_blocks(
        problem.surface.visible, state.rotations, state.turned, state.turn_rate, state.curvature,
        tilt_blocks, point_blocks, cross,
    )  # fmt: skip
    prior, free = layout.unpack(problem.precision), layout.unpack(problem.free)
    tilt_free = np.concatenate([free.angles, free.shifts_px], axis=1)
    tilt_prior = np.concatenate([prior.angles, prior.shifts_px], axis=1)
    _constrain(tilt_blocks, tilt_prior, tilt_free)
    _constrain(point_blocks, prior.positions_px, free.positions_px)
    if not (tilt_free.all() and free.positions_px.all()):
        cross *= tilt_free[:, :, None, None] & free.positions_px
    roots = np.empty(point_blocks.shape)
    pair_kernels.eliminate_points(point_blocks, roots, cross.reshape(-1, particles, 3))
    flat = cross.reshape(tilts * 5, particles * 3)
    schur = -(flat @ flat.T)  # NumPy computes half of a symmetric product
    blocks = schur.reshape(tilts, 5, tilts, 5)
    blocks[np.arange(tilts), :, np.arange(tilts)] += tilt_blocks
    return SchurFactor(
        layout=layout,
        point_roots=roots,
        cross=flat,
        tilt_factor=definite_cholesky(schur),
        tilt_blocks=tilt_blocks,
        free=problem.free,
    )


def _constrain(blocks: Array, prior: Array, free: Array) -> None:
    """Add the prior, and replace blocks of parameters that are not free by the identity."""
    size = blocks.shape[-1]
    index = np.arange(size)
    blocks[:, index, index] += prior
    blocks *= free[:, :, None] * free[:, None, :]
    blocks[:, index, index] += ~free
