"""Approximate inverse of the curvature of motion that neighbours predict (`neighbour_motion`).

It is applied to velocities, in single precision: white noise c and velocities v = Lc have the inverses
L⁻¹ V L⁻ᵀ and V, and what coefficients collect from forces is Lᵀ times what velocities collect. A step thus
needs L only once each way, to whiten the residual of the coefficients and the velocities that it leads to.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tomopolish.models import neighbour_kernels
from tomopolish.models.courses import on_threads, parts
from tomopolish.models.leading_inverse import INDEPENDENT
from tomopolish.models.neighbour_predictions import BLOCK, Predictions, SparseRows
from tomopolish.shapes import Array, Float, Float32

SIMILAR = 0.15
"""Relative change of information for which an inverse is used again, since a new one takes long."""
UNSEEN = 1e-6
"""Information over the largest of all courses that counts as none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SharedVelocities:
    """F, fields of velocities that projections follow: one column for each time step and field.

    Attributes
    ----------
    shapes, pulled
        Velocity of each particle in each field by component, and K⁻¹ times it, with K the covariance LLᵀ.
    courses
        As in `NeighbourMotion`, by time step and component.
    independent
        Combinations of columns that are orthonormal by K⁻¹.
    """

    shapes: Float32[Array, "J 3 P"]
    pulled: Float32[Array, "J 3 P"]
    courses: Float32[Array, "steps 3 Q"]
    independent: Float[Array, "TJ I"]

    @classmethod
    def of(
        cls, fields: Float[Array, "J P 3"], predictions: Predictions, courses: Float[Array, "T Q"]
    ) -> SharedVelocities:
        """Return the fields of ordered particles; courses are complete."""
        shapes = np.array(np.swapaxes(fields, 1, 2), order="C")
        whitening, transposed = predictions.whitening
        white = whitening.times(shapes.reshape(-1, shapes.shape[2]).T, 1)
        each = white.reshape(len(white), -1, 3)
        inner = np.einsum("pja,pka->jk", each, each)
        pulled = transposed.times(white, 1).T
        length = np.sqrt(np.diag(inner)) + np.finfo(float).tiny
        shares, vectors = np.linalg.eigh(inner / np.outer(length, length))
        apart, steps = shares > INDEPENDENT, len(courses) // 3
        return cls(
            shapes=shapes.astype(np.float32),
            pulled=np.array(pulled.reshape(shapes.shape), dtype=np.float32, order="C"),
            courses=courses.reshape(steps, 3, -1).astype(np.float32),
            independent=np.kron(np.eye(steps), vectors[:, apart] / np.sqrt(shares[apart]) / length[:, None]),
        )

    def times(self, shapes: Float32[Array, "J 3 P"], amounts: Float[Array, "TJ"]) -> Float32[Array, "P Q"]:
        """Return F times amounts, or K⁻¹F times amounts, of `shapes` or `pulled`."""
        table = amounts.astype(np.float32).reshape(len(self.courses), -1)
        along = np.tensordot(table, self.courses, ([0], [0]))
        return np.asarray(np.tensordot(shapes, along, ([0, 1], [0, 1])))

    def transposed_times(
        self, shapes: Float32[Array, "J 3 P"], values: Float32[Array, "P Q"]
    ) -> Float[Array, "TJ"]:
        """Return the transpose of `times` applied to values of particles."""
        along = (shapes.reshape(-1, shapes.shape[2]) @ values).reshape(len(shapes), 3, -1)
        return np.tensordot(self.courses, along, ([1, 2], [1, 2])).ravel().astype(np.float64)


@dataclass(frozen=True, kw_only=True, eq=False)
class MeasuredInverse:
    """(prior K⁻¹ + λ)⁻¹ for each course, with λ the images' information about velocities; approximate.

    Rough predictions suffice for the sum, which is factorised.

    Attributes
    ----------
    average
        λ of each course for an average particle.
    shares
        λ of each particle over that.
    factors
        Pivots and links of each block of courses (`neighbour_kernels.eliminate`).
    threads
        Threads over which blocks of courses are spread.
    """

    rough: Predictions
    average: Float[Array, "Q"]
    shares: Float[Array, "P"]
    factors: tuple[tuple[Float32[Array, "P q"], Float32[Array, "P M q"]], ...]
    prior: float
    threads: int

    @classmethod
    def of(
        cls,
        rough: Predictions,
        average: Float[Array, "Q"],
        shares: Float[Array, "P"],
        prior: float,
        threads: int,
    ) -> MeasuredInverse:
        """Return the inverse; arguments are as the attributes."""
        places = rough.places

        def factor(block: slice) -> tuple[Array, Array]:
            some = np.outer(shares, average[block] / prior)
            pivots = np.empty(some.shape, dtype=np.float32)
            links = np.empty((*rough.neighbours.shape, some.shape[1]), dtype=np.float32)
            neighbour_kernels.eliminate(
                rough.neighbours, rough.weights, rough.deviations, places, some, pivots, links
            )
            return pivots, links

        factors = tuple(on_threads(factor, parts(len(average), BLOCK), threads))
        return cls(rough=rough, average=average, shares=shares, factors=factors, prior=prior, threads=threads)

    def is_for(self, average: Float[Array, "Q"], shares: Float[Array, "P"], prior: float) -> bool:
        """Return whether the inverse is good enough for other information and another prior."""
        unseen = UNSEEN * float(self.average.max(initial=0.0))
        alike = np.allclose(average, self.average, rtol=SIMILAR, atol=unseen)
        return bool(alike and np.abs(shares - self.shares).mean() < SIMILAR and prior == self.prior)

    def velocities(self, pulled: Float32[Array, "P Q"]) -> Float32[Array, "P Q"]:
        """Apply the inverse to what velocities collect."""
        result = np.empty(pulled.shape, dtype=np.float32)

        def work(block: slice) -> None:
            pivots, links = self.factors[block.start // BLOCK]
            some: Array = pulled[:, block] / np.float32(self.prior)
            neighbour_kernels.solve(self.rough.neighbours, pivots, links, some)
            result[:, block] = some

        on_threads(work, parts(pulled.shape[1], BLOCK), self.threads)
        return result


@dataclass(frozen=True, kw_only=True, eq=False)
class NeighbourInverse:
    """V = F S⁻¹ Fᵀ + (1 − Π) D⁻¹ (1 − Π)ᵀ over velocities, with Π = F B Bᵀ Fᵀ K⁻¹ and L⁻¹FB orthonormal.

    Attributes
    ----------
    whitening, transposed
        L⁻¹ and its transpose.
    apart
        D⁻¹, for velocities that projections cannot follow.
    fields
        F, of velocities that they follow, and B.
    of_fields
        S⁻¹, the inverse of the curvature that priors alone have over the amounts of fields.
    """

    whitening: SparseRows
    transposed: SparseRows
    apart: MeasuredInverse
    fields: SharedVelocities
    of_fields: Float[Array, "TJ TJ"]

    def velocities(self, pulled: Float32[Array, "P Q"]) -> Float32[Array, "P Q"]:
        """Apply the inverse to what velocities collect."""
        fields, basis = self.fields, self.fields.independent
        if not len(fields.shapes):
            return self.apart.velocities(pulled)
        along = fields.transposed_times(fields.shapes, pulled)
        prior_forces = fields.times(fields.pulled, basis @ (basis.T @ along))
        result = self.apart.velocities(pulled - prior_forces)
        back = self.of_fields @ along - basis @ (basis.T @ fields.transposed_times(fields.pulled, result))
        result += fields.times(fields.shapes, back)
        return result

    def pulled(self, coefficients: Float[Array, "P Q"]) -> Float32[Array, "P Q"]:
        """Return what velocities collect where coefficients collect these."""
        return self.transposed.times(coefficients, self.apart.threads)

    def coefficients(self, velocities: Float32[Array, "P Q"]) -> Float[Array, "P Q"]:
        """Return the coefficients of velocities."""
        return self.whitening.times(velocities, self.apart.threads).astype(np.float64)

    def solve(self, coefficients: Float[Array, "P Q"]) -> Float[Array, "P Q"]:
        """Apply the inverse to coefficients."""
        return self.coefficients(self.velocities(self.pulled(coefficients)))
