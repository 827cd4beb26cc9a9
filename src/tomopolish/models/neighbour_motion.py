"""Motion of thousands of particles, whose velocities follow from those of their nearest neighbours.

Particles are put in order: first a few that are far apart, then those between them. Given the velocities of
the nearest particles before it, a particle's velocity hardly depends on those further away, because the
covariance exp(−x/σ_d) is not smooth. Sparse products thus replace those with a matrix of all particles: the
number of operations grows with the number of particles, not with its square (Vecchia 1988, J. R. Stat. Soc. B
50:297; Datta et al. 2016, J. Am. Stat. Assoc. 111:800; for the order Guinness 2018, Technometrics 60:415).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from tomopolish.models import motion_kernels, neighbour_kernels
from tomopolish.models.courses import paths
from tomopolish.models.leading_inverse import Fields, LeadingInverse
from tomopolish.models.motion_inverse import Followed, MotionInverse
from tomopolish.models.neighbour_inverse import MeasuredInverse, SharedVelocities
from tomopolish.models.neighbour_predictions import Predictions, far_apart, nearest_before, over_blocks
from tomopolish.shapes import Float, Int

Array = np.ndarray

NEIGHBOURS, ROUGHLY = 128, 32
"""Number of particles from which a particle's velocity is predicted, and for the solver's approximations."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NeighbourMotion:
    """Motion whose velocities particles predict for each other; use `build`.

    Coefficients are (P, Q), white noise of each particle (in order) and course; their prior is ½Σc².

    Attributes
    ----------
    order
        Particle at each place of the order.
    predictions, rough_predictions
        By all neighbours, and by the nearest of them for approximations.
    courses
        Orthonormal courses of whitened velocities over time step and component, columns.
    chronological, step_scales
        As in `GaussianProcessMotion`.
    threads
        Threads over which products are spread; results do not depend on them.
    """

    order: Int[Array, "P"]
    predictions: Predictions
    rough_predictions: Predictions
    courses: Float[Array, "T Q"]
    chronological: Int[Array, "F"]
    step_scales: Float[Array, "steps"]
    threads: int = 1

    left_out_px2 = 0.0
    """No offset that the process allows is left out."""

    @classmethod
    def build(
        cls,
        positions_px: Float[Array, "P 3"],
        chronological: Int[Array, "F"],
        *,
        sigma_velocity_px: float,
        sigma_distance_px: float,
        step_weights: Float[Array, "T"] | None = None,
    ) -> NeighbourMotion:
        """Return the motion; arguments are those of `GaussianProcessMotion.build`."""
        order = far_apart(positions_px)
        ordered = positions_px[order]
        neighbours = nearest_before(ordered, NEIGHBOURS)
        predictions, rough = (
            Predictions.of(
                ordered / sigma_distance_px, np.ascontiguousarray(neighbours[:, :number]), sigma_velocity_px
            )
            for number in (NEIGHBOURS, ROUGHLY)
        )
        steps = max(len(chronological) - 1, 0)
        return cls(
            order=order,
            predictions=predictions,
            rough_predictions=rough,
            courses=np.eye(3 * steps),
            chronological=chronological,
            step_scales=np.sqrt(np.ones(steps) if step_weights is None else step_weights),
        )

    def along(self, time: Float[Array, "T T"], threads: int = 1) -> NeighbourMotion:
        """Return the same motion in courses about which an average particle's images tell independently."""
        return replace(self, courses=np.ascontiguousarray(np.linalg.eigh(time)[1]), threads=threads)

    @property
    def shape(self) -> tuple[int, int]:
        """(P, Q)."""
        return len(self.order), self.courses.shape[1]

    def offsets_px(self, coefficients: Float[Array, "P Q"], rough: bool = False) -> Float[Array, "F P 3"]:
        """Return each particle's offset from its static position in each tilt image (file order), px."""
        velocities = coefficients.copy()
        self._over_courses(neighbour_kernels.correlate, velocities)
        moved = np.empty((len(self.order), len(self.courses)))
        moved[self.order] = velocities @ self._offsets_of_courses.T
        offsets = np.empty((len(self.chronological), len(self.order), 3))
        motion_kernels.place(moved, 0, self.chronological, offsets)
        return offsets

    def adjoint(self, gradient: Float[Array, "F P 3"], rough: bool = False) -> Float[Array, "P Q"]:
        """Return the gradient with respect to the coefficients from that with respect to the offsets."""
        gathered = np.empty((len(self.order), len(self.courses)))
        motion_kernels.gather(gradient, 0, self.chronological, gathered)
        values = gathered[self.order] @ self._offsets_of_courses
        self._over_courses(neighbour_kernels.correlate_transposed, values)
        return values

    def coefficients(self, offsets_px: Float[Array, "F P 3"]) -> Float[Array, "P Q"]:
        """Return the coefficients of the offsets' velocities."""
        velocities = np.diff(offsets_px[self.chronological], axis=0) / self.step_scales[:, None, None]
        along = velocities.swapaxes(0, 1).reshape(len(self.order), -1)[self.order] @ self.courses
        self._over_courses(neighbour_kernels.whiten, along)
        return along

    def near_inverse(
        self,
        time: Float[Array, "T T"],
        prior: float,
        followed: Followed,
        near: MotionInverse | None = None,
    ) -> LeadingInverse:
        """Return an approximate inverse of the coefficients' curvature; see `MotionModel`."""
        average = np.maximum(np.sum(self.courses * (time @ self.courses), axis=0), 0)
        known = near.apart if isinstance(near, LeadingInverse) else None
        if isinstance(known, MeasuredInverse) and known.is_for(average):
            apart = known
        else:
            apart = MeasuredInverse.of(
                self.predictions,
                self.rough_predictions,
                average,
                followed.shares[self.order],
                prior,
                self.threads,
            )
        fields: Fields
        fields = near.fields if isinstance(near, LeadingInverse) else self._coefficients_of(followed.fields)
        return LeadingInverse.of(apart, prior, fields, followed.curvature)

    def _coefficients_of(self, fields: Float[Array, "J P 3"]) -> SharedVelocities:
        values = np.array(np.moveaxis(fields[:, self.order], 1, 0), order="C").reshape(len(self.order), -1)
        self._over_courses(neighbour_kernels.whiten, values)
        return SharedVelocities(
            shapes=values.T.reshape(len(fields), 3, len(self.order)),
            courses=self.courses.reshape(-1, 3, self.courses.shape[1]),
        )

    @cached_property
    def _offsets_of_courses(self) -> Float[Array, "T Q"]:
        """Offset in each later tilt image and component, for each course of velocities."""
        return paths(self.courses, self.step_scales)

    def _over_courses(self, kernel: Callable[..., None], values: Float[Array, "P Q"]) -> None:
        """Call a kernel that changes the values in place."""

        def work(block: slice) -> None:
            some = np.ascontiguousarray(values[:, block])
            kernel(self.predictions.neighbours, self.predictions.weights, self.predictions.deviations, some)
            values[:, block] = some

        over_blocks(work, values.shape[1], self.threads)
