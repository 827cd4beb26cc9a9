"""A tomogram as linear measurements of its particles' positions, about a solution (docs/tuning.md).

Near the most probable geometry every pair's log-likelihood is a paraboloid in its 2D position, equivalent to
a measured position with a known error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tomopolish.shapes import Array, Float, Int
from tomopolish.solve.elimination import tilt_jacobian
from tomopolish.solve.problem import Problem, State, evaluate, pair_gradients
from tomopolish.solve.uncertainty import expected_state

FLAT = 1e-6
"""Pairs whose curvature in one direction is below this fraction of that in the other are not used."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearFrame:
    """One tilt image's measurements, in units of their standard errors.

    ``value = design · x + tilt_design · t + noise`` with x a particle's 3D displacement from its static input
    position, px, t the projection's parameters in units of their prior, and independent noise of variance 1.

    Attributes
    ----------
    particles
        Indices of the particles that are measured.
    """

    particles: Int[Array, "V"]
    design: Float[Array, "V 2 3"]
    tilt_design: Float[Array, "V 2 5"]
    value: Float[Array, "V 2"]


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearTomogram:
    """A tomogram's measurements of its particles' positions, tilt images in order of exposure.

    Attributes
    ----------
    positions_px
        Positions between which the prior's distances are taken.
    position_variance
        Variance of the static positions' prior, px².
    scale_px
        Factor from `--s_vel` to px per tilt image, and from `--s_div` to px.
    step_weights
        Variance of motion from each tilt image to the next, divided by that of a typical step.
    """

    name: str
    positions_px: Float[Array, "P 3"]
    frames: tuple[LinearFrame, ...]
    position_variance: float
    scale_px: float
    step_weights: Float[Array, "T"]

    def with_noise(self, variances: Sequence[Float[Array, "V"]]) -> LinearTomogram:
        """Return the measurements with these variances of each pair's errors, by tilt image."""
        frames = []
        for frame, variance in zip(self.frames, variances, strict=True):
            s = 1 / np.sqrt(variance)[:, None]
            frames.append(
                replace(
                    frame,
                    design=frame.design * s[..., None],
                    tilt_design=frame.tilt_design * s[..., None],
                    value=frame.value * s,
                )
            )
        return replace(self, frames=tuple(frames))


def linearise(
    name: str,
    problem: Problem,
    vector: Float[Array, "N"],
    power: Float[Array, "F P"],
    positions_px: Float[Array, "P 3"],
    scale_px: float,
) -> LinearTomogram:
    """Expand a problem with motion about a solution, with the pairs' expected curvature.

    A pair's own curvature is larger where its noise peaks, and noise also draws the solution there. The
    expected curvature is free of that bias (see `solve.uncertainty`).

    Parameters
    ----------
    problem
        Problem about whose input geometry the priors of projections and positions are taken; they should be
        wide.
    power
        Weighted power of each pair's prediction.
    """
    state = evaluate(problem, vector)
    layout = problem.layout
    C = expected_state(problem, state, power).curvature[..., [0, 1, 1, 2]]
    C = C.reshape(*problem.surface.visible.shape, 2, 2)
    trace = np.trace(C, axis1=-2, axis2=-1)
    sound = problem.surface.visible & (trace > 0) & (np.linalg.det(C) > FLAT * trace**2)
    forces = _forces(problem, state)
    A = state.rotations[:, :2]
    offsets = problem.motion.offsets_px(layout.unpack(vector).motion)
    offsets = offsets + layout.unpack(vector).positions_px
    B = tilt_jacobian(state)
    blocks = layout.unpack(vector)
    tilt_parameters = np.concatenate([blocks.angles, blocks.shifts_px], axis=1)
    prior, free = layout.unpack(problem.precision), layout.unpack(problem.free)
    deviation = np.concatenate([free.angles, free.shifts_px], axis=1) / np.sqrt(
        np.concatenate([prior.angles, prior.shifts_px], axis=1)
    )
    frames = []
    for f in problem.motion.chronological:
        seen = np.flatnonzero(sound[f])
        L = np.linalg.cholesky(C[f, seen])
        upper = np.swapaxes(L, 1, 2)
        here = offsets[f, seen] @ A[f].T + B[f, seen] @ tilt_parameters[f]
        frames.append(
            LinearFrame(
                particles=seen,
                design=upper @ A[f],
                tilt_design=(upper @ B[f, seen]) * deviation[f],
                value=np.linalg.solve(L, forces[f, seen][..., None])[..., 0]
                + np.einsum("pij,pj->pi", upper, here),
            )
        )
    return LinearTomogram(
        name=name,
        positions_px=positions_px,
        frames=tuple(frames),
        position_variance=1.0 / float(prior.positions_px.mean()),
        scale_px=scale_px,
        step_weights=problem.motion.step_scales**2,
    )


def _forces(problem: Problem, state: State) -> Float[Array, "F P 2"]:
    """Return the gradient of each pair's log-likelihood with respect to its unwarped 2D position."""
    gradient = pair_gradients(problem, state)
    if state.warp is None:
        return gradient
    return np.einsum("fpji,fpj->fpi", state.warp.jacobian, gradient)
