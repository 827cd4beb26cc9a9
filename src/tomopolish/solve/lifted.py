"""Vectors beside the motion that they stand for, which saves half of the solver's products with its modes.

A *lifted step* is a flat vector, followed by the offsets ``[F, P, 3]`` of its coefficients of motion. A
*lifted residual* is a flat vector, followed by forces ``[F, P, 3]`` on the particles' positions in each tilt
image; its coefficients of motion lack what they collect from these forces. The scalar product of a residual
with a step is that of the lifted ones: a force times an offset is what the coefficients would have collected,
times the coefficients. Conjugate gradients thus need no product with motion's modes but those in the
preconditioner.

Without coefficients of motion, lifted vectors are flat vectors.
"""

from __future__ import annotations

import numpy as np

from tomopolish.shapes import Array, Float
from tomopolish.solve.problem import Problem, State
from tomopolish.solve.products import forces_of_step


def lift(problem: Problem, vector: Float[Array, "N"]) -> Float[Array, "L"]:
    """Return a point as a lifted step."""
    motion = problem.layout.unpack(vector).motion
    return joined(problem, vector, problem.motion.offsets_px(motion) if motion.any() else None)


def joined(
    problem: Problem, vector: Float[Array, "N"], moved: Float[Array, "F P 3"] | None
) -> Float[Array, "L"]:
    """Return a flat vector and offsets, or forces, as one; None: zeros."""
    layout = problem.layout
    if not layout.unpack(vector).motion.size:
        return vector
    return np.concatenate(
        [vector, np.zeros(layout.tilts * layout.particles * 3) if moved is None else moved.ravel()]
    )


def split(
    problem: Problem, lifted: Float[Array, "L"]
) -> tuple[Float[Array, "N"], Float[Array, "F P 3"] | None]:
    """Return the flat vector and the offsets, or forces, of a lifted one; None without motion."""
    layout = problem.layout
    vector, moved = np.split(lifted, [layout.size])
    return vector, moved.reshape(layout.tilts, layout.particles, 3) if moved.size else None


def lifted_gradient(problem: Problem, state: State) -> Float[Array, "L"]:
    """Return the gradient of the objective as a lifted residual."""
    return joined(problem, state.own_gradient, state.forces)


def multiply_lifted(problem: Problem, state: State, step: Float[Array, "L"]) -> Float[Array, "L"]:
    """Return the product of the negative Hessian with a lifted step, as a lifted residual."""
    product, forces = forces_of_step(problem, state, *split(problem, step))
    return joined(problem, product, forces)
