"""A linear warp about the image's centre (docs/dev/conventions.md, Objective)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tomopolish.shapes import Array, Float


@dataclass(frozen=True, kw_only=True)
class LinearWarp:
    """Displacement g = (a x', b x' + c y'), (x', y') the position relative to (w/2, h/2).

    The missing fourth term would be a rotation of the image, which belongs to the projections.

    Attributes
    ----------
    warps
        1 for a warp that all tilt images share, or F.
    regulariser
        λ of the penalty λΣc².
    """

    image_size_px: tuple[int, int]
    warps: int = 1
    regulariser: float = 0.0

    @property
    def shape(self) -> tuple[int, int]:
        """(warps, 3): a, b, c of each warp."""
        return (self.warps, 3)

    @property
    def penalty_weights(self) -> Float[Array, "n"]:
        """λ for every coefficient."""
        return np.full(3, self.regulariser)

    @property
    def unit_px(self) -> float:
        """Half of the image's diagonal."""
        return float(np.hypot(*self.image_size_px)) / 2

    def displacement_px(
        self, positions_px: Float[Array, "F P 2"], coefficients: Float[Array, "G n"]
    ) -> Float[Array, "F P 2"]:
        """Return the displacement at the positions."""
        x, y = self._centred(positions_px)
        a, b, c = (coefficients[:, i, None] for i in range(3))
        return np.stack([a * x, b * x + c * y], axis=-1)

    def functions(self, positions_px: Float[Array, "F P 2"]) -> None:
        """Return None: the two components are not sums of the same functions."""

    def jacobian(
        self, positions_px: Float[Array, "F P 2"], coefficients: Float[Array, "G n"]
    ) -> Float[Array, "F P 2 2"]:
        """Return ∂g_i/∂q_j, the same everywhere in an image."""
        result = np.zeros((*positions_px.shape, 2))
        a, b, c = (coefficients[:, i, None] for i in range(3))
        result[..., 0, 0] = a
        result[..., 1, 0] = b
        result[..., 1, 1] = c
        return result

    def adjoint(
        self, positions_px: Float[Array, "F P 2"], gradient: Float[Array, "F P 2"]
    ) -> Float[Array, "G n"]:
        """Return the gradient with respect to the coefficients from that with respect to displacements."""
        x, y = self._centred(positions_px)
        along_x, along_y = gradient[..., 0], gradient[..., 1]
        terms = x * along_x, x * along_y, y * along_y
        by_tilt = np.stack([term.sum(axis=1) for term in terms], axis=-1)
        return by_tilt if self.warps > 1 else by_tilt.sum(axis=0, keepdims=True)

    def _centred(self, positions_px: Array) -> tuple[Array, Array]:
        width, height = self.image_size_px
        return positions_px[..., 0] - width / 2, positions_px[..., 1] - height / 2
