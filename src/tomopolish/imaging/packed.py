"""Windows of all pairs as 16-bit integers, which need half the memory of float32.

The windows are by far the largest array of a run. Each pair has a unit of its own, its largest magnitude over
32767, so that rounding changes a sample by at most 1/65,000 of that: a thousandth of its noise and less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tomopolish.imaging.kernels import packed as kernels
from tomopolish.shapes import Array, Float, Float32, Int, Int16


@dataclass(frozen=True, kw_only=True, eq=False)
class PackedSamples:
    """Square arrays of numbers, one for each pair; reads like a float32 array ``[tilt, particle, y, x]``.

    Attributes
    ----------
    numbers
        Multiples of the pair's unit; float32 where they are not rounded (`exactly`).
    units
        Value of 1 for each pair.
    """

    numbers: Int16[Array, "F P n n"] | Float32[Array, "F P n n"]
    units: Float32[Array, "F P"]

    @classmethod
    def zeros(cls, shape: tuple[int, ...]) -> PackedSamples:
        """Return zeros of a shape (F, P, n, n)."""
        return cls(numbers=np.zeros(shape, dtype=np.int16), units=np.zeros(shape[:2], dtype=np.float32))

    @classmethod
    def exactly(cls, values: Float32[Array, "F P n n"]) -> PackedSamples:
        """Return values as they are, without rounding; they share memory."""
        return cls(numbers=values, units=np.ones(values.shape[:2], dtype=np.float32))

    @classmethod
    def of(cls, values: Float32[Array, "F P n n"] | PackedSamples) -> PackedSamples:
        """Return packed samples as they are, and an array without rounding; they share memory."""
        return values if isinstance(values, PackedSamples) else cls.exactly(values)

    @classmethod
    def joined(cls, parts: list[PackedSamples]) -> PackedSamples:
        """Return the pairs of several sets of particles in sequence."""
        return cls(
            numbers=np.concatenate([part.numbers for part in parts], axis=1),
            units=np.concatenate([part.units for part in parts], axis=1),
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """(F, P, n, n)."""
        return self.numbers.shape

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: Any) -> Float32[Array, "..."]:
        """Return the samples of some tilt images, or of pairs given by two indices."""
        numbers, units = self.numbers[index], self.units[index]
        if numbers.ndim == 3 and numbers.dtype == np.int16:
            samples = np.empty(numbers.shape, dtype=np.float32)
            kernels.unpack(numbers, units, samples)
            return samples
        return np.multiply(numbers, units[..., None, None], dtype=np.float32)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """Return all samples as one array, which takes twice the memory."""
        return self[:].astype(dtype or np.float32, copy=False)

    def put(self, index: int | tuple[int, slice], samples: Float32[Array, "P n n"]) -> None:
        """Replace the samples of one tilt image, or of a range of its particles."""
        if self.numbers.dtype == np.int16:
            kernels.pack(samples, self.numbers[index], self.units[index])
        else:
            self.numbers[index], self.units[index] = samples, 1

    def put_pairs(
        self, tilts: Int[Array, "H"], particles: Int[Array, "H"], samples: Float32[Array, "H n n"]
    ) -> None:
        """Replace the samples of some pairs."""
        packed = PackedSamples(
            numbers=np.zeros((1, *samples.shape), dtype=self.numbers.dtype),
            units=np.zeros((1, len(samples)), dtype=np.float32),
        )
        packed.put(0, samples)
        self.numbers[tilts, particles], self.units[tilts, particles] = packed.numbers[0], packed.units[0]

    def scale(self, factors: Float[Array, "P"]) -> None:
        """Multiply the samples of each particle by a factor."""
        np.multiply(self.units, factors.astype(np.float32), out=self.units)

    def clear(self, index: Any) -> None:
        """Set the samples of some tilt images or pairs to zero, even if they are not finite."""
        self.numbers[index], self.units[index] = 0, 0

    def of_tilts(self, part: slice) -> PackedSamples:
        """Return the samples of a range of tilt images, in the same memory."""
        return PackedSamples(numbers=self.numbers[part], units=self.units[part])

    def of_particles(self, members: Int[Array, "M"]) -> PackedSamples:
        """Return the samples of some particles, in new memory."""
        return PackedSamples(
            numbers=np.take(self.numbers, members, axis=1), units=np.take(self.units, members, axis=1)
        )
