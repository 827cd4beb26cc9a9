"""Transforms of boxes that several passes over the same pairs share.

Reading a tilt image, and cutting and transforming its boxes, takes about as long as comparing them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tomopolish.imaging.kernels import packed as kernels
from tomopolish.shapes import Array, Float32, Int, Int8

BYTES_PER_FREQUENCY = 2


def kept_bytes(pairs: int, limit: float) -> int:
    """Return the memory that the spectra of some pairs take at most, up to a limit in Fourier px."""
    column = np.arange(int(limit) + 1)
    frequencies = 2 * np.floor(np.sqrt(limit**2 - column**2)) + 1
    return BYTES_PER_FREQUENCY * pairs * int(frequencies.sum())


@dataclass(eq=False)
class KeptSpectra:
    """Frequencies in use of the boxes of some pairs of one tilt image, as 8-bit integers.

    They are weighted, which makes noise alike at all frequencies. Rounding then adds no more than about a
    ten thousandth of its power.

    Attributes
    ----------
    pairs
        Particle of each pair, ascending.
    corners
        (x, y) of the first pixel of each box.
    place, weight
        Index of each frequency in the planes of `windows.box_spectra`, and factor by which it is multiplied.
    numbers, units
        Real and imaginary parts as multiples of each pair's unit.
    is_filled
        Whether all pairs have been put.
    """

    pairs: Int[Array, "B"]
    corners: Int[Array, "B 2"]
    place: Int[Array, "K"]
    weight: Float32[Array, "K"]
    numbers: Int8[Array, "B 2 K"]
    units: Float32[Array, "B"]
    is_filled: bool = False

    @classmethod
    def within(
        cls,
        memory: Int8[Array, "M"],
        pairs: Int[Array, "B"],
        corners: Int[Array, "B 2"],
        place: Int[Array, "K"],
        weight: Float32[Array, "K"],
    ) -> KeptSpectra:
        """Return spectra of some pairs, yet unknown, in memory of at least `kept_bytes`."""
        shape = len(pairs), 2, len(place)
        return cls(
            pairs=pairs,
            corners=corners,
            place=place,
            weight=weight,
            numbers=memory[: int(np.prod(shape))].reshape(shape),
            units=np.zeros(len(pairs), dtype=np.float32),
        )

    def rows_of(self, chosen: Int[Array, "b"]) -> Int[Array, "b"]:
        """Return the indices of some of the pairs."""
        return np.searchsorted(self.pairs, chosen)

    def put(self, rows: Int[Array, "b"], spectra: Float32[Array, "b 2 2 R C"]) -> None:
        """Keep the spectra of some of the pairs."""
        numbers = np.empty((len(rows), *self.numbers.shape[1:]), dtype=np.int8)
        units = np.empty(len(rows), dtype=np.float32)
        kernels.keep(spectra, self.place, self.weight, numbers, units)
        self.numbers[rows], self.units[rows] = numbers, units

    def weighted(self, rows: Int[Array, "b"]) -> Float32[Array, "b 2 1 1 K"]:
        """Return the weighted frequencies of some of the pairs, in the order of the list."""
        weighted = np.empty((len(rows), *self.numbers.shape[1:]), dtype=np.float32)
        kernels.read(self.numbers, self.units, rows, weighted)
        return weighted[:, :, None, None]
