"""Transforms of boxes that several passes over the same pairs share.

Cutting and transforming a box takes longer than comparing it at few frequencies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tomopolish.imaging.kernels import packed as kernels
from tomopolish.shapes import Float32, Int, Int16

Array = np.ndarray

BYTES_PER_FREQUENCY = 4


@dataclass(eq=False)
class KeptSpectra:
    """Listed frequencies of the boxes of some pairs of one tilt image, as 16-bit integers.

    Attributes
    ----------
    pairs
        Particle of each pair.
    corners
        (x, y) of the first pixel of each box.
    place
        Index of each frequency in the planes of `windows.box_spectra`.
    numbers, units
        Real and imaginary parts as multiples of each pair's unit.
    is_filled
        Whether all pairs have been put.
    """

    pairs: Int[Array, "B"]
    corners: Int[Array, "B 2"]
    place: Int[Array, "K"]
    numbers: Int16[Array, "B 2 K"]
    units: Float32[Array, "B"]
    is_filled: bool = False

    @classmethod
    def empty(cls, pairs: Int[Array, "B"], corners: Int[Array, "B 2"], place: Int[Array, "K"]) -> KeptSpectra:
        """Return memory for the spectra of some pairs."""
        return cls(
            pairs=pairs,
            corners=corners,
            place=place,
            numbers=np.zeros((len(pairs), 2, len(place)), dtype=np.int16),
            units=np.zeros(len(pairs), dtype=np.float32),
        )

    def put(self, part: Int[Array, "b"], spectra: Float32[Array, "b 2 2 R C"]) -> Float32[Array, "b 2 1 1 K"]:
        """Keep the spectra of some of the pairs; returns what `listed` returns from now on, unrounded."""
        listed = np.take(spectra.reshape(len(part), 2, -1), self.place, axis=2)
        numbers, units = np.zeros(listed.shape, dtype=np.int16), np.zeros(len(part), dtype=np.float32)
        kernels.pack(listed, numbers, units)
        self.numbers[part], self.units[part] = numbers, units
        return listed[:, :, None, None]

    def listed(self, part: Int[Array, "b"]) -> Float32[Array, "b 2 1 1 K"]:
        """Return the frequencies of some of the pairs, in the order of the list."""
        listed = np.empty((len(part), *self.numbers.shape[1:]), dtype=np.float32)
        kernels.unpack(self.numbers[part], self.units[part], listed)
        return listed[:, :, None, None]
