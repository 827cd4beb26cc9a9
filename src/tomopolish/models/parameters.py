"""The unknowns of one tomogram, as named blocks and as one flat vector."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np

from tomopolish.shapes import Array, Float


@dataclass(frozen=True, kw_only=True, eq=False)
class Parameters:
    """Changes against the input geometry.

    Attributes
    ----------
    angles
        Rotation vector of each projection, radians, in the image's frame, about the projected centre of the
        tomogram.
    shifts_px
        Shift of each projection in its image.
    positions_px
        Static displacement of each particle, tomogram frame.
    motion
        Whitened coefficients of the motion model.
    warp
        Coefficients of the deformation model.
    """

    angles: Float[Array, "F 3"]
    shifts_px: Float[Array, "F 2"]
    positions_px: Float[Array, "P 3"]
    motion: Float[Array, "..."]
    warp: Float[Array, "G n"]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Order of the blocks in the flat vector; no other code depends on it."""

    tilts: int
    particles: int
    motion_shape: tuple[int, ...] = (0,)
    warp_shape: tuple[int, int] = (1, 0)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every block, in order."""
        return {
            "angles": (self.tilts, 3),
            "shifts_px": (self.tilts, 2),
            "positions_px": (self.particles, 3),
            "motion": self.motion_shape,
            "warp": self.warp_shape,
        }

    @property
    def size(self) -> int:
        """Length of the flat vector."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def static_size(self) -> int:
        """Length of the part before the coefficients of motion and warp."""
        return 5 * self.tilts + 3 * self.particles

    def pack(self, parameters: Parameters) -> Float[Array, "N"]:
        """Return the flat vector of the blocks."""
        return np.concatenate([np.ravel(getattr(parameters, f.name)) for f in fields(parameters)])

    def unpack(self, vector: Float[Array, "N"]) -> Parameters:
        """Return the blocks of a flat vector, as views."""
        blocks: dict[str, Array] = {}
        start = 0
        for name, shape in self.shapes.items():
            stop = start + math.prod(shape)
            blocks[name] = vector[start:stop].reshape(shape)
            start = stop
        return Parameters(**blocks)

    def fill(self, **values: Array | float) -> Float[Array, "N"]:
        """Return a flat vector whose blocks are constants or arrays, by name; unnamed blocks are 0."""
        vector = np.zeros(self.size)
        blocks = self.unpack(vector)
        for name, value in values.items():
            getattr(blocks, name)[...] = value
        return vector
