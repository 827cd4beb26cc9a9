"""Plans of Fourier transforms of a length: factors, twiddles and places of frequencies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from tomopolish.shapes import Array, Complex64, Int


@dataclass(frozen=True, kw_only=True, eq=False)
class FftPlan:
    """Factors and tables of `kernels.boxes.transform_lines` for one length.

    Attributes
    ----------
    radices
        Factors of the length, in the order of the steps.
    twiddles
        Factors by which the outputs of a step are turned, in the order of their use.
    roots
        For every factor r in turn, its roots of unity: exp(−2πi k/r).
    place
        Index of frequency k after the transform.
    """

    radices: Int[Array, "S"]
    twiddles: Complex64[Array, "T"]
    roots: Complex64[Array, "U"]
    place: Int[Array, "n"]

    @property
    def tables(self) -> tuple[Array, Array, Array, Array]:
        """All tables, in the order of the kernels' arguments."""
        return self.radices, self.twiddles, self.roots, self.place


@cache
def fft_plan(length: int) -> FftPlan:
    """Plan transforms of a length; the time for a prime factor above five grows with its square."""
    radices = factors(length)
    block, twiddles, place = length, [], np.zeros(length, dtype=np.int64)
    rest = np.arange(length)
    for radix in radices:
        step = block // radix
        twiddles.append(np.outer(np.arange(step), np.arange(1, radix)).reshape(-1) / block)
        place += rest % radix * step
        rest //= radix
        block = step
    return FftPlan(
        radices=np.array(radices, dtype=np.int64),
        twiddles=_phases(np.concatenate(twiddles)),
        roots=_phases(np.concatenate([np.arange(radix) / radix for radix in radices])),
        place=place,
    )


def factors(length: int) -> tuple[int, ...]:
    """Return the factors of a length: fours first, then prime factors."""
    radices = []
    radix = 4
    while length > 1:
        while length % radix == 0:
            radices.append(radix)
            length //= radix
        radix = {4: 2, 2: 3}.get(radix, radix + 2)
    return tuple(radices) or (1,)


def _phases(turns: Array) -> Complex64[Array, "T"]:
    return np.exp(-2j * np.pi * turns).astype(np.complex64)
