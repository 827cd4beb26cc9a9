"""The objective: log-posterior of the geometry, gradient and curvature (docs/dev/conventions.md, Objective).

The objective is the sum over visible pairs of their displacement surfaces, minus Gaussian priors. It is
maximised; the solver uses its negative as a cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tomopolish.models.deformation import NoDeformation
from tomopolish.models.parameters import Layout, Parameters
from tomopolish.models.protocols import DeformationModel, MotionModel
from tomopolish.physics.geometry import left_jacobian, rotation_from_vector
from tomopolish.shapes import Array, Bool, Float, Int
from tomopolish.solve.kernels import pairs as pair_kernels
from tomopolish.solve.surface import DisplacementSurface, evaluate_surface
from tomopolish.solve.warp_at import WarpAt, warp_at
from tomopolish.solve.workers import Spread, alone


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """One tomogram's alignment problem.

    Attributes
    ----------
    surface
        Log-likelihood surfaces of the pairs.
    anchors_px
        2D positions at which the surfaces have displacement zero.
    projections_px
        Input projections.
    centre_px
        Point of the tomogram about which the projections turn.
    points_px
        Input positions of the particles in each tilt image: static position plus fixed trajectory.
    motion, deformation
        Models of motion and of image deformation.
    precision
        Inverse variance of the Gaussian prior on every parameter, flat.
    free
        Mask of the parameters that may move, flat.
    pair_weights
        Factor of each pair's log-likelihood (`outliers`); None: 1.
    """

    surface: DisplacementSurface
    anchors_px: Float[Array, "F P 2"]
    projections_px: Float[Array, "F 4 4"]
    centre_px: Float[Array, "3"]
    points_px: Float[Array, "F P 3"]
    motion: MotionModel
    deformation: DeformationModel
    precision: Float[Array, "N"]
    free: Bool[Array, "N"]
    pair_weights: Float[Array, "F P"] | None = None

    @property
    def layout(self) -> Layout:
        """Blocks of the flat vectors."""
        tilts, particles = self.surface.visible.shape
        return Layout(
            tilts=tilts,
            particles=particles,
            motion_shape=self.motion.shape,
            warp_shape=self.deformation.shape,
        )

    @cached_property
    def held(self) -> Int[Array, "n"]:
        """Indices of the parameters that may not move."""
        return np.flatnonzero(~self.free)

    @property
    def warps(self) -> bool:
        """Whether there is a deformation, free or fixed."""
        return type(self.deformation) is not NoDeformation

    def log_prior(self, vector: Float[Array, "N"]) -> float:
        """Return the logarithm of the Gaussian prior at a point, up to a constant."""
        return -0.5 * float(np.sum(self.precision * vector**2))


@dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """The objective and its derivatives at one point, with all that products with the Hessian need.

    Attributes
    ----------
    log_likelihood, log_prior
        Their sum is the objective.
    own_gradient
        Gradient of the objective, flat, where motion's coefficients lack what they collect from `forces`
        (`gradient`); zero for parameters that are not free.
    forces
        Gradient with respect to the position of each particle in each tilt image.
    curvature
        Negative Hessian of each pair's surface with respect to its unwarped 2D position (xx, xy, yy).
    spread
        Threads over which products spread tilt images, if there are many pairs; results do not depend on it.
    """

    vector: Float[Array, "N"]
    log_likelihood: float
    log_prior: float
    own_gradient: Float[Array, "N"]
    forces: Float[Array, "F P 3"]
    curvature: Float[Array, "F P 3"]
    rotations: Float[Array, "F 3 3"]
    turned: Float[Array, "F P 3"]
    turn_rate: Float[Array, "F 3 3"]
    positions_2d_px: Float[Array, "F P 2"]
    warp: WarpAt | None
    spread: Spread = alone

    @property
    def objective(self) -> float:
        """Log-posterior up to a constant."""
        return self.log_likelihood + self.log_prior


def unwarped_positions(
    problem: Problem, parameters: Parameters
) -> tuple[Float[Array, "F P 2"], Float[Array, "F P 3"], Float[Array, "F 3 3"]]:
    """Return 2D positions before the warp, points relative to the projected centre, and rotations."""
    tilts, particles = problem.surface.visible.shape
    positions, turned = np.empty((tilts, particles, 2)), np.empty((tilts, particles, 3))
    R = current_rotations(problem, parameters)
    _place(problem, parameters, R, _moved(problem, parameters, None), slice(None), positions, turned)
    return positions, turned, R


def current_rotations(problem: Problem, parameters: Parameters) -> Float[Array, "F 3 3"]:
    """Return the rotation of every projection."""
    rotations: Array = rotation_from_vector(parameters.angles) @ problem.projections_px[:, :3, :3]
    return rotations


def _moved(
    problem: Problem, parameters: Parameters, offsets_px: Float[Array, "F P 3"] | None
) -> Float[Array, "G P 3"]:
    """Sum the displacements from the input positions, common to all tilt images (G = 1) or in each."""
    static: Array = parameters.positions_px[None]
    if offsets_px is None and parameters.motion.any():
        offsets_px = problem.motion.offsets_px(parameters.motion)
    return static if offsets_px is None else static + offsets_px


def _place(
    problem: Problem,
    parameters: Parameters,
    R: Array,
    moved: Array,
    part: slice,
    positions: Array,
    turned: Array,
) -> None:
    """Write 2D positions before the warp, and turned points, of some tilt images."""
    points = problem.points_px[part] + (moved[part] if len(moved) > 1 else moved) - problem.centre_px
    np.matmul(points, np.swapaxes(R[part], 1, 2), out=turned[part])
    projections = problem.projections_px[part]
    pivot = projections[:, :2, :3] @ problem.centre_px + projections[:, :2, 3]
    np.add(turned[part, :, :2], (pivot + parameters.shifts_px[part])[:, None], out=positions[part])


def predicted_positions(problem: Problem, parameters: Parameters) -> Float[Array, "F P 2"]:
    """Return the 2D position of every particle in every tilt image, px, warp included."""
    positions = unwarped_positions(problem, parameters)[0]
    if problem.warps:
        positions = positions + problem.deformation.displacement_px(positions, parameters.warp)
    return positions


def pair_values(problem: Problem, vector: Float[Array, "N"]) -> Float[Array, "F P"]:
    """Return the log-likelihood of each pair at a point, without the pairs' weights."""
    positions = predicted_positions(problem, problem.layout.unpack(vector))
    return evaluate_surface(problem.surface, positions - problem.anchors_px).value


def pair_gradients(problem: Problem, state: State) -> Float[Array, "F P 2"]:
    """Return the gradient of each pair's log-likelihood by its 2D position, without the pairs' weights."""
    positions = state.positions_2d_px
    if problem.warps:
        warp = problem.layout.unpack(state.vector).warp
        positions = positions + problem.deformation.displacement_px(positions, warp)
    return evaluate_surface(problem.surface, positions - problem.anchors_px).gradient


def evaluate(
    problem: Problem,
    vector: Float[Array, "N"],
    spread: Spread = alone,
    offsets_px: Float[Array, "F P 3"] | None = None,
) -> State:
    """Return the objective, gradient and pair curvatures at a point.

    Parameters
    ----------
    spread
        Threads over which tilt images are spread; the result does not depend on them.
    offsets_px
        Motion of the coefficients; None: it is computed.
    """
    layout, parameters = problem.layout, problem.layout.unpack(vector)
    pairs, moved = problem.surface.visible.shape, _moved(problem, parameters, offsets_px)
    R, turn_rate = current_rotations(problem, parameters), left_jacobian(parameters.angles)
    positions, turned = np.empty((*pairs, 2)), np.empty((*pairs, 3))
    curvature, forces, likelihood = np.empty((*pairs, 3)), np.empty((*pairs, 3)), np.empty(len(R))
    blocks = layout.unpack(own_gradient := np.zeros(layout.size))

    def place(part: slice) -> None:
        _place(problem, parameters, R, moved, part, positions, turned)

    warp = None
    if problem.warps:
        spread(len(R), place)
        warp = warp_at(problem.deformation, positions, parameters.warp)
        warp_force = np.empty(positions.shape)

    def look(part: slice) -> None:
        if warp is None:
            place(part)
        warped = positions[part] if warp is None else positions[part] + warp.displacement_px[part]
        displacement = warped - problem.anchors_px[part]
        surface = evaluate_surface(problem.surface.of_tilts(part), displacement)
        if problem.pair_weights is not None:
            surface = surface.times(problem.pair_weights[part])
        likelihood[part] = surface.value.sum(axis=1)
        force, curvature[part] = surface.gradient, -surface.hessian
        if warp is not None:
            warp_force[part] = force
            force, curvature[part] = _through_warp(warp.jacobian[part], force, curvature[part])
        pair_kernels.pull(
            problem.surface.visible[part], R[part], turned[part], turn_rate[part], force, blocks.angles[part],
            blocks.shifts_px[part], forces[part],
        )  # fmt: skip

    spread(len(R), look)
    blocks.positions_px[...] = forces.sum(axis=0)
    if layout.unpack(problem.free).warp.any() and warp is not None:
        blocks.warp[...] = warp.adjoint(warp_force)
    own_gradient -= problem.precision * vector
    own_gradient[~problem.free] = 0
    return State(
        vector=vector,
        log_likelihood=float(likelihood.sum()),
        log_prior=problem.log_prior(vector),
        own_gradient=own_gradient,
        forces=forces,
        curvature=curvature,
        rotations=R,
        turned=turned,
        turn_rate=turn_rate,
        positions_2d_px=positions,
        warp=warp,
        spread=spread,
    )


def _through_warp(J: Array, force: Array, curvature: Array) -> tuple[Array, Array]:
    """Pull gradient and curvature with respect to warped positions back to unwarped ones."""
    a, b, c, d = J[..., 0, 0], J[..., 0, 1], J[..., 1, 0], J[..., 1, 1]
    fx, fy = force[..., 0], force[..., 1]
    xx, xy, yy = np.moveaxis(curvature, -1, 0)
    pulled = np.stack([a * fx + c * fy, b * fx + d * fy], axis=-1)
    bent = np.stack(
        [
            a * a * xx + 2 * a * c * xy + c * c * yy,
            a * b * xx + (a * d + b * c) * xy + c * d * yy,
            b * b * xx + 2 * b * d * xy + d * d * yy,
        ],
        axis=-1,
    )
    return pulled, bent


def gradient(problem: Problem, state: State) -> Float[Array, "N"]:
    """Return the gradient of the objective, flat; zero for parameters that are not free."""
    total = state.own_gradient.copy()
    if problem.layout.unpack(problem.free).motion.any():
        problem.layout.unpack(total).motion[...] += problem.motion.adjoint(state.forces)
    return total
