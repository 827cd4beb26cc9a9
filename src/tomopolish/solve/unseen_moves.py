"""Directions in which a solution may move without any effect on the images, and their removal.

Moving or rotating all particles and all projections together changes no image (an S-transformation, Baarda
1973, takes that part out).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tomopolish.shapes import Array, Bool, Float
from tomopolish.solve.problem import Problem, State


class Gauge:
    """Directions that change no image, and their removal.

    Parameters
    ----------
    positions_share
        Weight of the positions in the net rotation; projections have the rest. None: the identity.
    """

    def __init__(
        self, problem: Problem, state: State, positions_share: Float[Array, "3 3"] | None = None
    ) -> None:
        layout = problem.layout
        free = layout.unpack(problem.free)
        seen = np.asarray(problem.surface.visible.any(axis=0))
        directions: list[Array] = []
        amounts: list[Array] = []
        if seen.any() and free.positions_px.any() and free.shifts_px.any():
            for axis in np.eye(3):
                shifts = -(state.rotations[:, :2] @ axis)
                directions.append(layout.fill(positions_px=axis, shifts_px=shifts))
                amounts.append(layout.fill(positions_px=axis * seen[:, None] / seen.sum()))
        if seen.any() and free.positions_px.any() and free.angles.any():
            share = np.eye(3) if positions_share is None else positions_share
            turns, by_positions, by_projections = _common_turns(problem, state, seen)
            directions.extend(turns)
            amounts.extend(share @ by_positions + (np.eye(3) - share) @ by_projections)
        self._directions = np.array(directions).reshape(-1, layout.size)
        self._amounts = np.array(amounts).reshape(-1, layout.size)

    def remove(self, vector: Float[Array, "N"]) -> Float[Array, "N"]:
        """Remove the combination of gauge directions so that no net shift and no net rotation remain."""
        result: Array = vector - (self._amounts @ vector) @ self._directions
        return result

    def left_of(
        self, variances: Float[Array, "N"], covariance: Callable[[Array], Array]
    ) -> Float[Array, "N"]:
        """Return the variances after `remove`.

        Parameters
        ----------
        variances
            Diagonal of the covariance.
        covariance
            Function that multiplies the covariance with a vector.
        """
        along = self._directions
        shared = np.array([covariance(row) for row in self._amounts]).reshape(along.shape)
        between = shared @ self._amounts.T
        left: Array = variances - np.sum(along * (2 * shared - between @ along), axis=0)
        return np.maximum(left, 0)


def _common_turns(
    problem: Problem, state: State, seen: Bool[Array, "P"]
) -> tuple[Float[Array, "3 N"], Float[Array, "3 N"], Float[Array, "3 N"]]:
    """Return common rotations about x, y and z, and two matrices that yield a vector's net rotation.

    The first matrix yields the net rotation of the vector's positions, the second that of its projections.
    """
    layout = problem.layout
    points = problem.points_px.mean(axis=0) + layout.unpack(state.vector).positions_px
    centre = points[seen].mean(axis=0)
    # Where the shifts are fixed, only a rotation about the projected centre changes no image.
    pivot = centre if layout.unpack(problem.free).shifts_px.any() else problem.centre_px
    shown = np.flatnonzero(problem.surface.visible.any(axis=1))
    turns, levers, by_projections = [], [], []
    for axis in np.eye(3):
        turned = state.rotations @ axis
        about = np.cross(turned, state.rotations @ (problem.centre_px - pivot))
        rates = np.linalg.solve(state.turn_rate, -turned[..., None])[..., 0]
        turns.append(
            layout.fill(angles=rates, shifts_px=-about[:, :2], positions_px=np.cross(axis, points - pivot))
        )
        levers.append(layout.fill(positions_px=np.cross(axis, points - centre) * seen[:, None]))
        mean = np.zeros((layout.tilts, 3))
        mean[shown] = -np.einsum("fi,fij->fj", turned, state.turn_rate)[shown] / len(shown)
        by_projections.append(layout.fill(angles=mean))
    directions, constraints = np.array(turns), np.array(levers)
    by_positions = np.linalg.pinv(constraints @ directions.T, hermitian=True) @ constraints
    return directions, by_positions, np.array(by_projections)
