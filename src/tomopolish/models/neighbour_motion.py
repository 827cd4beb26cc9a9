"""Motion of thousands of particles, whose velocities follow from those of their nearest neighbours.

Particles are put in order: first a few that are far apart, then those between them. Given the velocities of
the nearest particles before it, a particle's velocity hardly depends on those further away, because the
covariance exp(−x/σ_d) is not smooth. Sparse products thus replace those with a matrix of all particles: the
number of operations grows with the number of particles, not with its square (Vecchia 1988, J. R. Stat. Soc. B
50:297; Datta et al. 2016, J. Am. Stat. Assoc. 111:800; for the order Guinness 2018, Technometrics 60:415).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from tomopolish.models import motion_kernels, neighbour_kernels
from tomopolish.models.courses import PANEL, on_threads, parts, paths
from tomopolish.models.leading_inverse import inverse_for_fields
from tomopolish.models.motion_inverse import Followed, MotionInverse
from tomopolish.models.neighbour_inverse import MeasuredInverse, NeighbourInverse, SharedVelocities
from tomopolish.models.neighbour_predictions import Predictions, far_apart, nearest_before
from tomopolish.shapes import Array, Float, Float32, Int

NEIGHBOURS, ROUGHLY = 128, 16
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
        self.predictions.apply(neighbour_kernels.correlate, velocities, self.threads)
        return self._offsets(velocities, self._offsets_of_courses)

    def adjoint(self, gradient: Float[Array, "F P 3"], rough: bool = False) -> Float[Array, "P Q"]:
        """Return the gradient with respect to the coefficients from that with respect to the offsets."""
        values = self._pulled(gradient, self._offsets_of_courses)
        self.predictions.apply(neighbour_kernels.correlate_transposed, values, self.threads)
        return values

    def step(
        self, inverse: MotionInverse, residual: Float[Array, "P Q"], forces: Float[Array, "F P 3"]
    ) -> tuple[Float[Array, "P Q"], Float[Array, "F P 3"]]:
        """Return a step of the coefficients, and the offsets that it makes; see `MotionModel`."""
        assert isinstance(inverse, NeighbourInverse)
        pulled = inverse.pulled(residual) + self._pulled(forces, self._rough_offsets_of_courses)
        velocities = inverse.velocities(pulled)
        offsets = self._offsets(velocities, self._rough_offsets_of_courses)
        return inverse.coefficients(velocities), offsets

    def coefficients(self, offsets_px: Float[Array, "F P 3"]) -> Float[Array, "P Q"]:
        """Return the coefficients of the offsets' velocities."""
        velocities = np.diff(offsets_px[self.chronological], axis=0) / self.step_scales[:, None, None]
        along = velocities.swapaxes(0, 1).reshape(len(self.order), -1)[self.order] @ self.courses
        return self.predictions.whitening[0].times(along, self.threads)

    def near_inverse(
        self,
        time: Float[Array, "T T"],
        prior: float,
        followed: Followed,
        near: MotionInverse | None = None,
    ) -> NeighbourInverse:
        """Return an approximate inverse of the coefficients' curvature; see `MotionModel`."""
        average = np.maximum(np.sum(self.courses * (time @ self.courses), axis=0), 0)
        known = near if isinstance(near, NeighbourInverse) else None
        shares = followed.shares[self.order]
        if known and known.apart.is_for(average, shares, prior):
            apart = known.apart
        else:
            apart = MeasuredInverse.of(self.rough_predictions, average, shares, prior, self.threads)
        fields = (
            known.fields
            if known
            else SharedVelocities.of(followed.fields[:, self.order], self.predictions, self.courses)
        )
        whitening, transposed = self.predictions.rough_whitening
        return NeighbourInverse(
            whitening=whitening,
            transposed=transposed,
            apart=apart,
            fields=fields,
            of_fields=inverse_for_fields(fields.independent, followed.curvature, prior),
        )

    def _offsets(self, velocities: Float[Array, "P Q"], of_courses: Float[Array, "T Q"]) -> Array:
        """Return offsets, by tilt image and particle, from velocities of ordered particles."""
        offsets = np.empty((len(self.chronological), len(self.order), 3))

        def move(panel: slice) -> None:
            moved = velocities[self._places[panel]] @ of_courses.T
            motion_kernels.place(moved, panel.start, self.chronological, offsets)

        on_threads(move, parts(len(self.order), PANEL), self.threads)
        return offsets

    def _pulled(self, forces: Float[Array, "F P 3"], of_courses: Float[Array, "T Q"]) -> Array:
        """Return what velocities of ordered particles collect from forces on the offsets."""
        pulled = np.empty((len(self.order), of_courses.shape[1]), dtype=of_courses.dtype)

        def pull(panel: slice) -> None:
            places = self._places[panel]
            gathered = np.empty((len(places), len(of_courses)), dtype=of_courses.dtype)
            motion_kernels.gather(forces, panel.start, self.chronological, gathered)
            pulled[places] = gathered @ of_courses

        on_threads(pull, parts(len(self.order), PANEL), self.threads)
        return pulled

    @cached_property
    def _places(self) -> Int[Array, "P"]:
        """Place of each particle in the order."""
        return np.argsort(self.order)

    @cached_property
    def _offsets_of_courses(self) -> Float[Array, "T Q"]:
        """Offset in each later tilt image and component, for each course of velocities."""
        return paths(self.courses, self.step_scales)

    @cached_property
    def _rough_offsets_of_courses(self) -> Float32[Array, "T Q"]:
        return self._offsets_of_courses.astype(np.float32)
