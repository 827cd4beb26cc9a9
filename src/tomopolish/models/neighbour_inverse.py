"""Approximate inverse of the curvature of motion that neighbours predict (`neighbour_motion`)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tomopolish.models import neighbour_kernels
from tomopolish.models.leading_inverse import INDEPENDENT
from tomopolish.models.neighbour_predictions import BLOCK, Predictions, over_blocks
from tomopolish.shapes import Float, Float32

Array = np.ndarray

SIMILAR = 0.15
"""Relative change of information for which an inverse is used again, since a new one takes long."""
UNSEEN = 1e-6
"""Information over the largest of all courses that counts as none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SharedVelocities:
    """Z, the coefficients of fields of velocities: one column for each time step and field.

    Attributes
    ----------
    shapes
        White noise of each particle in each field, by component.
    courses
        As in `NeighbourMotion`, by time step and component.
    """

    shapes: Float[Array, "J 3 P"]
    courses: Float[Array, "steps 3 Q"]

    @cached_property
    def independent(self) -> Float[Array, "TJ I"]:
        """Combinations of columns that are orthonormal; courses are complete."""
        inner = np.einsum("jap,kap->jk", self.shapes, self.shapes)
        length = np.sqrt(np.diag(inner)) + np.finfo(float).tiny
        values, vectors = np.linalg.eigh(inner / np.outer(length, length))
        apart = values > INDEPENDENT
        return np.kron(
            np.eye(len(self.courses)), vectors[:, apart] / np.sqrt(values[apart]) / length[:, None]
        )

    def times(self, amounts: Float[Array, "TJ"]) -> Float[Array, "P Q"]:
        """Return the coefficients of velocities that are fields times amounts."""
        along = np.tensordot(amounts.reshape(len(self.courses), -1), self.courses, ([0], [0]))
        return np.asarray(np.tensordot(self.shapes, along, ([0, 1], [0, 1])))

    def transposed_times(self, coefficients: Float[Array, "P Q"]) -> Float[Array, "TJ"]:
        """Return the transpose of `times` applied to coefficients."""
        along = self.shapes.reshape(-1, self.shapes.shape[2]) @ coefficients
        return np.asarray(
            np.tensordot(self.courses, along.reshape(len(self.shapes), 3, -1), ([1, 2], [1, 2]))
        ).ravel()


@dataclass(frozen=True, kw_only=True, eq=False)
class MeasuredInverse:
    """(prior (1 + λ LᵀL))⁻¹ for each course, with λ the images' information about velocities; approximate.

    L makes velocities of white noise. Rough predictions suffice for (LLᵀ)⁻¹ + λ, which is factorised.

    Attributes
    ----------
    average
        λ of each course for an average particle.
    factors
        Pivots and links of each block of courses (`neighbour_kernels.eliminate`).
    threads
        Threads over which blocks of courses are spread.
    """

    predictions: Predictions
    rough: Predictions
    average: Float[Array, "Q"]
    factors: tuple[tuple[Float32[Array, "P q"], Float32[Array, "P M q"]], ...]
    prior: float
    threads: int

    @classmethod
    def of(
        cls,
        predictions: Predictions,
        rough: Predictions,
        average: Float[Array, "Q"],
        shares: Float[Array, "P"],
        prior: float,
        threads: int,
    ) -> MeasuredInverse:
        """Return the inverse.

        Parameters
        ----------
        average
            λ of each course for an average particle.
        shares
            λ of each particle over that.
        """
        places = rough.places

        def factor(block: slice) -> tuple[Array, Array]:
            some = np.outer(shares, average[block] / prior)
            pivots = np.empty(some.shape, dtype=np.float32)
            links = np.empty((*rough.neighbours.shape, some.shape[1]), dtype=np.float32)
            neighbour_kernels.eliminate(
                rough.neighbours, rough.weights, rough.deviations, places, some, pivots, links
            )
            return pivots, links

        factors = tuple(over_blocks(factor, len(average), threads))
        return cls(
            predictions=predictions,
            rough=rough,
            average=average,
            factors=factors,
            prior=prior,
            threads=threads,
        )

    def is_for(self, average: Float[Array, "Q"]) -> bool:
        """Return whether the inverse is good enough for another information of an average particle."""
        unseen = UNSEEN * float(self.average.max(initial=0.0))
        return bool(np.allclose(average, self.average, rtol=SIMILAR, atol=unseen))

    def solve(self, coefficients: Float[Array, "P Q"]) -> Float[Array, "P Q"]:
        """Apply the inverse."""
        fine, rough = self.predictions, self.rough
        result = np.empty(coefficients.shape)

        def work(block: slice) -> None:
            pivots, links = self.factors[block.start // BLOCK]
            some: Array = coefficients[:, block] / self.prior
            neighbour_kernels.whiten_transposed(fine.neighbours, fine.weights, fine.deviations, some)
            neighbour_kernels.solve(rough.neighbours, rough.weights, pivots, links, some)
            neighbour_kernels.whiten(fine.neighbours, fine.weights, fine.deviations, some)
            result[:, block] = some

        over_blocks(work, coefficients.shape[1], self.threads)
        return result
