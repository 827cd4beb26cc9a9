"""The size of a tomogram, which some files lack and most computations do not need.

Positions in Å from the tomogram's centre and projections by angles about that centre make the size cancel:
RELION 5's tilt-series jobs write no size, and other programs 0. An assumed size is even, so that the centre
(W, H, D)/2 of the positions and the origin ⌊W/2⌋, ⌊H/2⌋, ⌊D/2⌋ of the projections coincide, as with a size
of 0. Only the corner, the origin of files of meshes and points, still depends on it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tomopolish.dataset.relion.numbers import number, positive_integer
from tomopolish.dataset.remarks import Remark
from tomopolish.dataset.star import StarTable
from tomopolish.shapes import Array, Float

SIZES = ("rlnTomoSizeX", "rlnTomoSizeY", "rlnTomoSizeZ")


@dataclass(frozen=True, kw_only=True)
class TomogramSize:
    """(W, H, D) of a tomogram in px, and the axes along which it is assumed because it is not stated."""

    px: tuple[int, int, int]
    is_assumed: tuple[bool, bool, bool] = (False, False, False)

    @property
    def file_origin_px(self) -> Float[Array, "3"]:
        """Origin of positions in px, which is the centre for files without a size."""
        return np.where(self.is_assumed, np.asarray(self.px) // 2, 0).astype(np.float64)

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """Remarks on an assumed size."""
        missing = [label for label, assumed in zip(SIZES, self.is_assumed, strict=True) if assumed]
        if not missing:
            return ()
        w, h, d = self.px
        return (
            Remark(
                sentence=f"{', '.join(missing)} not set; no position or angle depends on it, and a tomogram "
                f"of {w} x {h} x {d} px is assumed, whose corner is the origin of meshes and points for "
                "other programs"
            ),
        )


def is_set(general: StarTable, label: str, row: int) -> bool:
    """Whether a tomogram's size is stated along an axis; InputError naming the cell if it is no number."""
    return number(general, label, row, default=0.0) > 0


def read_tomogram_size(general: StarTable, row: int, image_size_px: tuple[int, int]) -> TomogramSize:
    """Return the size of a tomogram; along axes without one, it is even and about that of the images.

    Raises InputError, which names the cell, when a size is not a whole number.
    """
    edges = (*image_size_px, min(image_size_px))
    sizes, is_assumed = [], []
    for label, edge in zip(SIZES, edges, strict=True):
        assumed = not is_set(general, label, row)
        is_assumed.append(assumed)
        sizes.append(2 * max(edge // 2, 1) if assumed else positive_integer(general, label, row))
    w, h, d = sizes
    x, y, z = is_assumed
    return TomogramSize(px=(w, h, d), is_assumed=(x, y, z))
