"""Products with the objective's Hessian, and what forces on particles add up to (`problem`)."""

from __future__ import annotations

import numpy as np

from tomopolish.models.parameters import Layout, Parameters
from tomopolish.shapes import Array, Float
from tomopolish.solve.kernels import pairs as pair_kernels
from tomopolish.solve.problem import Problem, State
from tomopolish.solve.warp_at import apply
from tomopolish.solve.workers import alone

MANY_PAIRS = 20_000
"""Number of pairs from which on threads save more than they cost."""


def collect(
    problem: Problem, state: State, force: Float[Array, "F P 2"], static_only: bool = False
) -> tuple[Float[Array, "N"], Float[Array, "F P 3"]]:
    """Collect forces on the unwarped 2D positions into the parameters, except for motion.

    Returns the parameters and the forces on the particles' positions, which motion collects.

    Parameters
    ----------
    static_only
        Leave out warp coefficients.
    """
    layout = problem.layout
    vector = np.zeros(layout.size)
    blocks = layout.unpack(vector)
    points = np.empty((layout.tilts, layout.particles, 3))
    pair_kernels.pull(
        problem.surface.visible, state.rotations, state.turned, state.turn_rate, force, blocks.angles,
        blocks.shifts_px, points,
    )  # fmt: skip
    blocks.positions_px[...] = points.sum(axis=0)
    if blocks.warp.size and state.warp is not None and not static_only:
        blocks.warp[...] = state.warp.adjoint(apply(np.swapaxes(state.warp.inverse, -1, -2), force))
    return vector, points


def multiply_hessian(problem: Problem, state: State, vector: Float[Array, "N"]) -> Float[Array, "N"]:
    """Return the product of the negative Hessian of the objective with a vector.

    The Hessian is the surfaces' true curvature with the first-order geometry; the small second derivatives of
    the projection and of the warp are neglected.
    """
    motion = problem.layout.unpack(np.where(problem.free, vector, 0.0)).motion
    offsets = problem.motion.offsets_px(motion, rough=True) if motion.any() else None
    product, points = forces_of_step(problem, state, vector, offsets)
    blocks = problem.layout.unpack(product)
    if problem.layout.unpack(problem.free).motion.any():
        blocks.motion[...] += problem.motion.adjoint(points, rough=True)
    return product


def forces_of_step(
    problem: Problem,
    state: State,
    vector: Float[Array, "N"],
    offsets_px: Float[Array, "F P 3"] | None,
) -> tuple[Float[Array, "N"], Float[Array, "F P 3"]]:
    """Return `multiply_hessian` as `collect` does: without what motion collects, and the forces themselves.

    Parameters
    ----------
    offsets_px
        Motion of the vector's coefficients; None: none.
    """
    free = problem.layout.unpack(problem.free)
    with_warp = bool(free.motion.any() or free.warp.any())
    collected, pulled = _product(problem, state, vector, offsets_px, static_only=not with_warp)
    product = problem.precision * vector
    product[: len(collected)] += collected
    product[problem.held] = 0
    return product, pulled


def static_forces(
    problem: Problem, state: State, vector: Float[Array, "N"], offsets_px: Float[Array, "F P 3"] | None
) -> Float[Array, "S"]:
    """Return the static part of `forces_of_step` for a vector whose own static part is zero."""
    size = problem.layout.static_size
    collected, _ = _product(problem, state, vector, offsets_px, static_only=True)
    return np.where(problem.free[:size], collected[:size], 0.0)


def _product(
    problem: Problem, state: State, vector: Array, offsets_px: Array | None, static_only: bool
) -> tuple[Array, Array]:
    """Return Jᵀ H J times a step, without motion's coefficients, and the forces on positions.

    Without a warp, the product ends with the static parameters.
    """
    if len(problem.held):
        vector = vector.copy()
        vector[problem.held] = 0
    layout, blocks = problem.layout, problem.layout.unpack(vector)
    points = blocks.positions_px[None]
    if offsets_px is not None:
        points = points + offsets_px
    if state.warp is not None:
        return _product_with_warp(problem, state, blocks, points, static_only)
    still = Layout(tilts=layout.tilts, particles=layout.particles)
    product = np.empty(still.size)
    result = still.unpack(product)
    pulled = np.empty((layout.tilts, layout.particles, 3))

    def multiply(part: slice) -> None:
        pair_kernels.normal_product(
            problem.surface.visible[part], state.rotations[part], state.turned[part], state.turn_rate[part],
            state.curvature[part], blocks.angles[part], blocks.shifts_px[part],
            points if len(points) == 1 else points[part], result.angles[part], result.shifts_px[part],
            pulled[part],
        )  # fmt: skip

    spread = state.spread if problem.surface.visible.size >= MANY_PAIRS else alone
    spread(layout.tilts, multiply)
    np.sum(pulled, axis=0, out=result.positions_px)
    return product, pulled


def _product_with_warp(
    problem: Problem, state: State, blocks: Parameters, points: Array, static_only: bool
) -> tuple[Array, Array]:
    """Return `_product` with a warp; `points` (1 or F, P, 3) is the step of 3D positions."""
    assert state.warp is not None
    tilts, particles = problem.surface.visible.shape
    moved = np.empty((tilts, particles, 2))
    pair_kernels.push(
        problem.surface.visible, state.rotations, state.turned, state.turn_rate, blocks.angles,
        blocks.shifts_px, np.ascontiguousarray(np.broadcast_to(points, (tilts, particles, 3))), moved,
    )  # fmt: skip
    if blocks.warp.any():
        # The curvature refers to unwarped positions, so the warp's step is expressed there, too.
        step = state.warp.step(blocks.warp)
        step[~problem.surface.visible] = 0
        moved = moved + apply(state.warp.inverse, step)
    xx, xy, yy = np.moveaxis(state.curvature, -1, 0)
    x, y = moved[..., 0], moved[..., 1]
    force = np.stack([xx * x + xy * y, xy * x + yy * y], axis=-1)
    return collect(problem, state, force, static_only)
