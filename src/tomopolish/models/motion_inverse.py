"""Approximate inverses of the curvature of motion's coefficients, once positions and shifts are eliminated.

Each model makes its own from the curvature over time of an average particle (`MotionModel.near_inverse`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from tomopolish.shapes import Array, Float, Float32


@runtime_checkable
class MotionInverse(Protocol):
    """A symmetric positive-definite matrix that multiplies coefficients."""

    def solve(self, coefficients: Float[Array, "..."]) -> Float[Array, "..."]:
        """Apply the matrix."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Followed:
    """Velocities of all particles that the projections can follow, so that images do not show them.

    Attributes
    ----------
    shares
        Information that images have about each particle, over that about an average one.
    fields
        Velocities of the particles.
    curvature
        Curvature that the priors of the projections which follow have over the fields' whitened velocities,
        by time step and field.
    """

    shares: Float[Array, "P"]
    fields: Float[Array, "J P 3"]
    curvature: Float[Array, "TJ TJ"]


@dataclass(frozen=True, kw_only=True, eq=False)
class DiagonalInverse:
    """Inverse of a curvature that couples no coefficients."""

    curvature: Float[Array, "..."]

    def solve(self, coefficients: Float[Array, "..."]) -> Float[Array, "..."]:
        """Apply the inverse."""
        return coefficients / self.curvature


@dataclass(frozen=True, kw_only=True, eq=False)
class ProductInverse:
    """Inverse of prior + Λ ⊗ T in the eigenbases of both, an approximation in float32.

    Attributes
    ----------
    times
        (T, T), eigenvectors of the curvature over time and component, columns.
    curvature
        (K, T), prior plus product of both eigenvalues.
    """

    times: Float32[Array, "T T"]
    curvature: Float32[Array, "K T"]

    @classmethod
    def of(cls, variances: Float[Array, "K"], time: Float[Array, "T T"], prior: float) -> ProductInverse:
        """Return the inverse for independent modes.

        Parameters
        ----------
        variances
            Eigenvalues of Λ.
        time
            T.
        prior
            Precision of the coefficients' prior.
        """
        values, times = np.linalg.eigh(time)
        curvature = prior + np.outer(variances, np.maximum(values, 0))
        return cls(times=times.astype(np.float32), curvature=curvature.astype(np.float32))

    def solve(self, coefficients: Float[Array, "K steps 3"]) -> Float[Array, "K steps 3"]:
        """Apply the inverse."""
        flat = coefficients.reshape(len(self.curvature), -1).astype(np.float32)
        result = ((flat @ self.times) / self.curvature) @ self.times.T
        return result.reshape(coefficients.shape).astype(np.float64)
