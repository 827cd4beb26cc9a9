"""Approximate inverse of the curvature of motion's leading modes (`leading_modes`).

Images tell nothing about velocities that projections can follow, such as those of all particles alike: only
priors limit them. A curvature that counted them like all others would leave them to hundreds of iterations.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import eigh

from tomopolish.models.motion_inverse import MotionInverse
from tomopolish.shapes import Array, Bool, Float, Int

INDEPENDENT = 1e-8
"""Share of the fields' mean square down to which they count as independent of each other."""
REPRESENTED = 0.7
"""Share of a field's velocities, squared, that modes must represent."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FieldCoefficients:
    """Z, the coefficients of fields of velocities: one column for each time step and field.

    Attributes
    ----------
    shapes
        Whitened velocity of each mode of space in each field, by component.
    courses, counts
        As in `LeadingModes`.
    represented
        Whether a course has enough modes of space to represent a field.
    inner
        Products of the fields' velocities with each other, summed over particles.
    variances
        Variance of each mode of space.
    """

    shapes: Float[Array, "J 3 K"]
    courses: Float[Array, "steps 3 Q"]
    counts: Int[Array, "Q"]
    represented: Bool[Array, "Q J"]
    inner: Float[Array, "J J"]
    variances: Float[Array, "K"]

    @classmethod
    def of(
        cls,
        fields: Float[Array, "J P 3"],
        factor: Float[Array, "P K"],
        variances: Float[Array, "K"],
        courses: Float[Array, "T Q"],
        counts: Int[Array, "Q"],
    ) -> FieldCoefficients:
        """Return the coefficients of fields.

        Parameters
        ----------
        fields
            Velocity of each particle.
        factor, variances
            Modes of space, and their variances.
        """
        onto = np.array([field.T @ factor for field in fields]).reshape(len(fields), 3, len(variances))
        covered = np.cumsum(np.sum(onto**2, axis=1) / variances, axis=1)
        inner = np.einsum("jpa,kpa->jk", fields, fields)
        return cls(
            shapes=onto / variances,
            courses=courses.reshape(-1, 3, len(counts)),
            counts=counts,
            represented=np.diag(inner) * REPRESENTED < covered[:, counts - 1].T,
            inner=inner,
            variances=variances,
        )

    @cached_property
    def gram(self) -> Float[Array, "TJ TJ"]:
        """Products of all columns with each other, ZᵀZ."""
        return self._products(self._flat)

    def _products(self, flat: Float[Array, "J3 K"]) -> Float[Array, "TJ TJ"]:
        """Return the products of columns whose shapes are these."""
        steps, fields = len(self.courses), len(self.shapes)
        products = np.zeros((3 * fields, 3 * fields))
        gram, done = np.zeros((steps, fields, steps, fields)), 0
        for count in np.unique(self.counts):
            products += flat[:, done:count] @ flat[:, done:count].T
            done = count
            courses = self.courses[:, :, self.counts == count]
            along = np.einsum("taq,sbq->tasb", courses, courses)
            shown = self.represented[self.counts == count][0]
            own = products.reshape(fields, 3, fields, 3) * np.outer(shown, shown)[:, None, :, None]
            gram += np.einsum("tasb,jakb->tjsk", along, own, optimize=True)
        return np.asarray(gram.reshape(steps * fields, steps * fields))

    def times(self, amounts: Float[Array, "TJ"]) -> Float[Array, "N"]:
        """Return the coefficients of velocities that are fields times amounts."""
        along = np.tensordot(self.courses, amounts.reshape(len(self.courses), -1), ([0], [0]))  # axis, q, j
        along = along.transpose(1, 2, 0) * self.represented[:, :, None]
        coefficients: Array = (along.reshape(len(self.counts), -1) @ self._flat)[self._chosen]
        return coefficients

    def transposed_times(self, coefficients: Float[Array, "N"]) -> Float[Array, "TJ"]:
        """Return the transpose of `times` applied to coefficients."""
        table = np.zeros(self._chosen.shape)
        table[self._chosen] = coefficients
        along = (table @ self._flat.T).reshape(len(table), -1, 3) * self.represented[:, :, None]
        return np.asarray(np.tensordot(self.courses, along, ([1, 2], [2, 0]))).ravel()

    @cached_property
    def _chosen(self) -> Bool[Array, "Q K"]:
        """Which modes of space follow each course."""
        return np.arange(len(self.variances)) < self.counts[:, None]

    @cached_property
    def _flat(self) -> Float[Array, "J3 K"]:
        return self.shapes.reshape(-1, self.shapes.shape[2])

    @cached_property
    def independent(self) -> Float[Array, "TJ I"]:
        """Combinations of columns that are orthonormal, and whose velocities are those of the fields."""
        size = len(self.courses) * len(self.shapes)
        wanted = np.kron(np.eye(len(self.courses)), self.inner)
        wanted[np.diag_indices(size)] += INDEPENDENT * np.trace(wanted) / max(size, 1) + np.finfo(float).tiny
        reached = self._products(self._flat * np.sqrt(self.variances))
        shares, combined = eigh(reached, wanted)
        combined = combined[:, shares > REPRESENTED]
        values, vectors = np.linalg.eigh(combined.T @ self.gram @ combined)
        return np.asarray(combined @ (vectors / np.sqrt(values)))


def inverse_for_fields(
    basis: Float[Array, "TJ I"], held: Float[Array, "TJ TJ"], prior: float
) -> Float[Array, "TJ TJ"]:
    """Return S⁻¹, the inverse of the curvature that priors alone have over the amounts of fields.

    Parameters
    ----------
    basis
        Combinations of fields whose coefficients are orthonormal.
    held
        Curvature that the projections' priors add for the fields.
    prior
        Precision of the coefficients' prior.
    """
    remaining = basis.T @ held @ basis
    remaining[np.diag_indices_from(remaining)] += prior
    return np.asarray(basis @ np.linalg.solve(remaining, basis.T))


@dataclass(frozen=True, kw_only=True, eq=False)
class LeadingInverse:
    """Z S⁻¹ Zᵀ + (1 − Π) D⁻¹ (1 − Π), with Π the projection on the columns of Z.

    Attributes
    ----------
    apart
        D⁻¹, the inverse of the curvature of motion that projections cannot follow.
    fields
        Z, of fields that projections follow.
    of_fields
        S⁻¹, the inverse of the curvature that priors alone have over the amounts of fields.
    """

    apart: MotionInverse
    fields: FieldCoefficients
    of_fields: Float[Array, "TJ TJ"]

    def solve(self, coefficients: Float[Array, "..."]) -> Float[Array, "..."]:
        """Apply the inverse."""
        if not len(self.fields.shapes):
            return self.apart.solve(coefficients)
        along = self.fields.transposed_times(coefficients)
        basis = self.fields.independent
        result = self.apart.solve(coefficients - self.fields.times(basis @ (basis.T @ along)))
        back = self.of_fields @ along - basis @ (basis.T @ self.fields.transposed_times(result))
        result += self.fields.times(back)
        return result
