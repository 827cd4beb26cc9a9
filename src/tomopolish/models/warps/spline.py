"""A smooth warp from values and slopes at the nodes of a grid: bicubic Hermite splines.

See docs/dev/conventions.md, Objective.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

import numpy as np

from tomopolish.errors import InputError
from tomopolish.models.warps import spline_kernels
from tomopolish.models.warps.compiled import CompiledWarp
from tomopolish.shapes import Array, Float


@dataclass(frozen=True, kw_only=True)
class SplineWarp(CompiledWarp):
    """Bicubic Hermite interpolation between nodes; the outermost lie on the image's borders.

    Node (i, j) sits at x = i·w/(gw − 1), y = j·h/(gh − 1). Coefficients run over component (dx, dy), row,
    column, and (value, slope along x, slope along y, twist); slopes are per grid spacing. Outside the image
    the polynomials of the nearest cell are extended.

    Attributes
    ----------
    grid
        (gw, gh), 2 or more.
    warps
        1 for a warp that all tilt images share, or F.
    regulariser
        λ of the penalty λΣc².

    Raises
    ------
    InputError
        When the grid has fewer than two nodes along an axis.
    """

    kernels: ClassVar[ModuleType] = spline_kernels

    image_size_px: tuple[int, int]
    grid: tuple[int, int]
    warps: int = 1
    regulariser: float = 0.0

    def __post_init__(self) -> None:
        if min(self.grid) < 2:
            raise InputError(
                f"a spline deformation on a grid of {self.grid[0]} × {self.grid[1]} nodes is not defined: "
                "give 2 or more along each axis"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(warps, 8 gw gh)."""
        return (self.warps, 8 * self.grid[0] * self.grid[1])

    @property
    def penalty_weights(self) -> Float[Array, "n"]:
        """λ for every coefficient."""
        return np.full(self.shape[1], self.regulariser)

    def _constants(self) -> tuple[Array, ...]:
        """Return the distance between nodes along x and y, px."""
        return (np.asarray(self.image_size_px) / (np.asarray(self.grid) - 1.0),)

    def _view(self, coefficients: Array) -> Array:
        """View coefficients as [warp, component, row, column, kind]."""
        return coefficients.reshape(-1, 2, self.grid[1], self.grid[0], 4)
