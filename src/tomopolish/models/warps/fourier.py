"""A smooth warp as a sum of plane waves (docs/dev/conventions.md, Objective)."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

import numpy as np

from tomopolish.models.warps import fourier_kernels
from tomopolish.models.warps.compiled import CompiledWarp
from tomopolish.shapes import Array, Float, Int


@dataclass(frozen=True, kw_only=True)
class FourierWarp(CompiledWarp):
    """Waves cos(k·q) and sin(k·q), k = (πx/w, πy/h), q counted from the image's first pixel.

    The frequencies (x, y) are those of a gw×gh half plane without its origin. Periods reach up to twice the
    image, so that a warp need not be equal at opposite borders. Coefficients run over component (dx, dy),
    frequency, and (cosine, sine).

    Attributes
    ----------
    grid
        (gw, gh).
    warps
        1 for a warp that all tilt images share, or F.
    regulariser
        λ of the penalty λΣ|k|²c², |k| in radians per px.
    """

    kernels: ClassVar[ModuleType] = fourier_kernels

    image_size_px: tuple[int, int]
    grid: tuple[int, int]
    warps: int = 1
    regulariser: float = 0.0

    @property
    def frequencies(self) -> Int[Array, "waves 2"]:
        """(x, y) of every wave: row by row, y = 0 … ⌊gh/2⌋ − 1, then −⌈gh/2⌉ … −1; x ≤ ⌊gw/2⌋.

        x starts from 1 in row 0 and in the negative rows, from 0 in the positive rows.
        """
        columns, half = self.grid[0] // 2 + 1, self.grid[1] // 2
        rows = [(y, 0 if y > 0 else 1) for y in (*range(half), *range(half - self.grid[1], 0))]
        waves = [(x, y) for y, first in rows for x in range(first, columns)]
        return np.array(waves, dtype=np.int64).reshape(-1, 2)

    @property
    def shape(self) -> tuple[int, int]:
        """(warps, 4 × number of waves)."""
        return (self.warps, 4 * len(self.frequencies))

    @property
    def penalty_weights(self) -> Float[Array, "n"]:
        """λ|k|² for every coefficient."""
        unit, frequencies = self._constants()
        squared = np.sum((unit * frequencies) ** 2, axis=1)
        return np.asarray(self.regulariser * np.tile(np.repeat(squared, 2), 2))

    def _constants(self) -> tuple[Array, ...]:
        """Return the angular frequency of x = 1 and y = 1, radians per px; and all frequencies."""
        return np.pi / np.asarray(self.image_size_px, dtype=np.float64), self.frequencies

    def _view(self, coefficients: Array) -> Array:
        """View coefficients as [warp, component, wave, cosine or sine]."""
        return coefficients.reshape(len(coefficients), 2, len(self.frequencies), 2)
