"""A warp evaluated at the positions of one state, for repeated products with the Hessian."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tomopolish.models.protocols import DeformationModel
from tomopolish.shapes import Array, Float

MOST_FUNCTIONS = 64
MOST_VALUES = 2**22
"""Maximum number of function values that are stored: more would take too much memory without saving time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class WarpAt:
    """A warp q → q + g(q) at some positions.

    Attributes
    ----------
    displacement_px
        g for the coefficients of the state.
    jacobian, inverse
        Jacobian of q + g(q) with respect to q, and its inverse.
    functions
        Values of `DeformationModel.functions` where these are few enough, else None.
    """

    model: DeformationModel
    positions_px: Float[Array, "F P 2"]
    displacement_px: Float[Array, "F P 2"]
    jacobian: Float[Array, "F P 2 2"]
    inverse: Float[Array, "F P 2 2"]
    functions: Float[Array, "F P m"] | None

    def step(self, coefficients: Float[Array, "G n"]) -> Float[Array, "F P 2"]:
        """Return the displacement by the coefficients of a step."""
        if self.functions is None:
            return self.model.displacement_px(self.positions_px, coefficients)
        return _sum(self.functions, coefficients)

    def adjoint(self, gradient: Float[Array, "F P 2"]) -> Float[Array, "G n"]:
        """Return the gradient with respect to the coefficients from that with respect to displacements."""
        if self.functions is None:
            return self.model.adjoint(self.positions_px, gradient)
        by_tilt = np.swapaxes(gradient, 1, 2) @ self.functions
        total = by_tilt if self.model.shape[0] > 1 else by_tilt.sum(axis=0)
        return total.reshape(self.model.shape)

    def basis(self) -> Float[Array, "F P 2 n"]:
        """Return the displacements by each coefficient alone."""
        warps, size = self.model.shape
        result = np.zeros((*self.positions_px.shape, size))
        if self.functions is not None:
            half = size // 2
            result[:, :, 0, :half] = result[:, :, 1, half:] = self.functions
            return result
        for i, unit in enumerate(np.eye(size)):
            result[..., i] = self.model.displacement_px(self.positions_px, np.tile(unit, (warps, 1)))
        return result


def warp_at(
    model: DeformationModel, positions_px: Float[Array, "F P 2"], coefficients: Float[Array, "G n"]
) -> WarpAt:
    """Evaluate a warp at unwarped positions."""
    size = model.shape[1] // 2
    few = size <= MOST_FUNCTIONS and size * positions_px[..., 0].size <= MOST_VALUES
    functions = model.functions(positions_px) if few else None
    if functions is None:
        displacement = model.displacement_px(positions_px, coefficients)
    else:
        displacement = _sum(functions, coefficients)
    jacobian = np.eye(2) + model.jacobian(positions_px, coefficients)
    return WarpAt(
        model=model,
        positions_px=positions_px,
        displacement_px=displacement,
        jacobian=jacobian,
        inverse=_inverse(jacobian),
        functions=functions,
    )


def _sum(functions: Float[Array, "F P m"], coefficients: Float[Array, "G n"]) -> Float[Array, "F P 2"]:
    by_component = coefficients.reshape(len(coefficients), 2, -1)
    displacements: Array = np.matmul(functions, np.swapaxes(by_component, 1, 2))
    return displacements


def _inverse(matrices: Float[Array, "F P 2 2"]) -> Float[Array, "F P 2 2"]:
    """Return the inverses of many 2×2 matrices."""
    a, b, c, d = (matrices[..., i, j] for i in range(2) for j in range(2))
    result = np.empty_like(matrices)
    determinant = a * d - b * c
    result[..., 0, 0], result[..., 0, 1] = d / determinant, -b / determinant
    result[..., 1, 0], result[..., 1, 1] = -c / determinant, a / determinant
    return result


def apply(matrices: Float[Array, "F P 2 2"], vectors: Float[Array, "F P 2"]) -> Float[Array, "F P 2"]:
    """Return the products of many 2×2 matrices with a vector each."""
    x, y = vectors[..., 0], vectors[..., 1]
    return np.stack([matrices[..., i, 0] * x + matrices[..., i, 1] * y for i in range(2)], axis=-1)
