"""The gauge: the net rotation and shift of a solution, which 2D positions do not determine.

Rotating all positions about a point and all projections the opposite way changes no 2D position, but it
changes the particles' views. `choose_frame` chooses the net rotation of a refined tomogram.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tomopolish.physics.geometry import mean_rotation, rotation_from_vector
from tomopolish.shapes import Array, Bool, Float
from tomopolish.solve.net_rotation import NO_ROTATION, choose_net_rotation
from tomopolish.solve.outliers import SHOWN, Trust
from tomopolish.solve.problem import Problem, pair_values
from tomopolish.solve.uncertainty import ExpectedCurvature

SUPPORTED = 0.5
"""A particle counts as shown when its share of the predicted log-likelihood, divided by the median share,
is at least this."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """The rotation that takes a solution to the frame in which it is written.

    Attributes
    ----------
    rotation
        W: positions are multiplied by its transpose, projections by itself (`remove_rotation`).
    positions_share
        Weight of the positions in the choice of the frame (`NetRotation.share`); projections have the rest.
    """

    rotation: Float[Array, "3 3"]
    positions_share: Float[Array, "3 3"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Origin:
    """Rotations and positions against which the net rotation of a solution is chosen."""

    rotations: Float[Array, "F 3 3"]
    positions_px: Float[Array, "P 3"]


def choose_frame(
    problem: Problem,
    vector: Float[Array, "N"],
    curvature: ExpectedCurvature,
    moved_px: Float[Array, "P 3"],
    power: Float[Array, "F P"],
    trust: Trust | None = None,
    origin: Origin | None = None,
) -> Frame | None:
    """Choose the net rotation of a solution; None where angles or positions are not free.

    Parameters
    ----------
    moved_px
        Displacement of each particle, mean over the exposure.
    power
        Weighted power of each pair's prediction (`CorrelationWindows.power`).
    trust
        Each particle counts by its probability, and empty images do not count; None: all count.
    origin
        Input from which `moved_px` counts; None: that of the problem.
    """
    free, visible = problem.layout.unpack(problem.free), problem.surface.visible
    if not (free.angles.any() and free.positions_px.any() and visible.any()):
        return None
    if origin is None:
        origin = Origin(
            rotations=problem.projections_px[:, :3, :3], positions_px=problem.points_px.mean(axis=0)
        )
    R0, input_px = origin.rotations, origin.positions_px
    seen = visible.any(axis=1)
    if trust is not None and (seen & (trust.tilts >= SHOWN)).any():
        seen = seen & (trust.tilts >= SHOWN)
    # Multiplied by this rotation, the projections have no net rotation against the input.
    turn = mean_rotation((np.swapaxes(R0, 1, 2) @ curvature.state.rotations)[seen]).T
    information = position_information(curvature, visible)
    weights = supported(problem, vector, information, power).astype(np.float64)
    if trust is not None:
        weights = weights * np.where(trust.particles >= SHOWN, trust.particles, 0.0)
    shown = np.flatnonzero(weights)
    covariances = np.linalg.inv(information[shown])
    # Without the prior, the images would have moved the particles slightly further.
    prior = problem.layout.unpack(problem.precision).positions_px * problem.layout.unpack(vector).positions_px
    moved = moved_px[shown] + np.einsum("pij,pj->pi", covariances, prior[shown])
    net = NO_ROTATION
    if len(shown):
        net = choose_net_rotation(
            (input_px[shown] + moved) @ turn, input_px[shown], turn.T @ covariances @ turn, weights[shown]
        )
    return Frame(rotation=turn @ rotation_from_vector(net.vector), positions_share=net.share)


def position_information(curvature: ExpectedCurvature, visible: Bool[Array, "F P"]) -> Float[Array, "P 3 3"]:
    """Return each position's inverse covariance by its images at known projections, 1/px²."""
    x, y = curvature.state.rotations[:, 0], curvature.state.rotations[:, 1]
    products = np.stack(
        [
            x[:, :, None] * x[:, None, :],
            x[:, :, None] * y[:, None, :] + y[:, :, None] * x[:, None, :],
            y[:, :, None] * y[:, None, :],
        ],
        axis=1,
    )
    seen = np.where(visible[..., None], curvature.state.curvature, 0.0)
    information: Array = np.tensordot(seen, products, axes=([0, 2], [0, 1])) / curvature.dispersion
    return information


def supported(
    problem: Problem,
    vector: Float[Array, "N"],
    information: Float[Array, "P 3 3"],
    power: Float[Array, "F P"],
) -> Bool[Array, "P"]:
    """Return which particles the images locate, and which they show.

    The images locate a particle when their information exceeds that of the prior along every direction, and
    show it when it gains the log-likelihood that is expected of a particle.
    """
    visible = problem.surface.visible
    prior = problem.layout.unpack(problem.precision).positions_px
    placed = np.linalg.eigvalsh(information)[:, 0] > prior.max(axis=1)
    gained = np.where(visible, pair_values(problem, vector), 0.0).sum(axis=0)
    possible = np.where(visible, power, 0.0).sum(axis=0)
    share = np.divide(gained, possible, out=np.zeros_like(gained), where=possible > 0)
    if not placed.any():
        return placed
    shown: Array = placed & (share > SUPPORTED * max(float(np.median(share[placed])), 0.0))
    return shown


def remove_rotation(
    projections_px: Float[Array, "F 4 4"],
    positions_px: Float[Array, "P 3"],
    W: Float[Array, "3 3"],
    about_px: Float[Array, "3"],
) -> tuple[Float[Array, "F 4 4"], Float[Array, "P 3"]]:
    """Rotate positions by Wᵀ about a point and projections by W, so that 2D positions do not change."""
    forward = np.eye(4)
    forward[:3, :3] = W
    forward[:3, 3] = about_px - W @ about_px
    return projections_px @ forward, about_px + (positions_px - about_px) @ W
