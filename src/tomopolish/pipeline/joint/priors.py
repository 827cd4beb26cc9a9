"""Gaussian priors of the views and optics that a joint refinement changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from tomopolish.imaging.derivatives import (
    ASTIGMATISM,
    ASTIGMATISM_ASIDE,
    BFACTOR,
    DEFOCUS,
    PHASE_SHIFT,
    SCALE,
)
from tomopolish.shapes import Array, Float, Int

ORIENTATIONS = "orientations"

HAVE_A_MEAN = (SCALE, BFACTOR)
"""Unknowns of tilt images whose prior has a mean that is estimated; that of the others is zero."""

LARGEST_WIDTHS = {
    ORIENTATIONS: float(np.deg2rad(6.0)),
    SCALE: 1.0,
    BFACTOR: 100.0,
    DEFOCUS: 3000.0,
    ASTIGMATISM: 1000.0,
    ASTIGMATISM_ASIDE: 1000.0,
    PHASE_SHIFT: 30.0,
}
"""Widths that the priors have at most, and those of means: greater errors are not expected of an input."""
LARGEST_IN_WORDS = {
    ORIENTATIONS: "orientations by 6° about each axis",
    SCALE: "scales by a factor of 2.7",
    BFACTOR: "B factors by 100 Å²",
    DEFOCUS: "defocus by 3000 Å",
    ASTIGMATISM: "astigmatism by 1000 Å",
    ASTIGMATISM_ASIDE: "astigmatism by 1000 Å",
    PHASE_SHIFT: "phase shifts by 30°",
}
"""`LARGEST_WIDTHS` in words."""
FIRST_WIDTHS = {
    ORIENTATIONS: float(np.deg2rad(3.0)),
    SCALE: 0.5,
    BFACTOR: 50.0,
    DEFOCUS: 500.0,
    ASTIGMATISM: 300.0,
    ASTIGMATISM_ASIDE: 300.0,
    PHASE_SHIFT: 10.0,
}
"""Widths of the priors before they are estimated: radians, ln s, Å², Å, degrees."""

AT_BOUND = 1e-3
FIXED_PRECISION = 1e12
"""Times the first width's inverse square: an unknown returns to the input, and the others respond."""


@dataclass(frozen=True, kw_only=True)
class Priors:
    """Widths of the Gaussian priors, and the means of those that have one.

    Attributes
    ----------
    widths, means
        By unknown; means that are not named are zero. The width of orientations is that of all species
        together.
    turn_widths
        Of the orientations of each species; where there are none, they have the width of all together.
    put_back
        Unknowns that return to the input.
    """

    widths: Mapping[str, float] = field(default_factory=lambda: FIRST_WIDTHS)
    means: Mapping[str, float] = field(default_factory=dict)
    turn_widths: tuple[float, ...] = ()
    put_back: tuple[str, ...] = ()

    def precision(self, name: str) -> float:
        """Inverse variance."""
        return self._precision(name, self.widths[name])

    def turn_precisions(self, owner: Int[Array, "P"]) -> Float[Array, "P"]:
        """Inverse variance of the orientation of each particle, by its species."""
        widths = self.turn_widths or (self.widths[ORIENTATIONS],) * (int(owner.max(initial=0)) + 1)
        return np.array([self._precision(ORIENTATIONS, width) for width in widths])[owner]

    def _precision(self, name: str, width: float) -> float:
        if name in self.put_back:
            return FIXED_PRECISION / FIRST_WIDTHS[name] ** 2
        return 1 / max(width, 1e-6 * FIRST_WIDTHS[name]) ** 2

    def mean(self, name: str) -> float:
        """Mean."""
        return 0.0 if name in self.put_back else self.means.get(name, 0.0)

    def agree_with(self, later: Priors, tolerance: float) -> bool:
        """Return whether later widths and means differ by no more than a fraction of these widths."""
        if len(later.turn_widths) != len(self.turn_widths):
            return False
        turns = zip(self.turn_widths, later.turn_widths, strict=True)
        return all(abs(after - width) <= tolerance * width for width, after in turns) and all(
            abs(later.widths[name] - width) <= tolerance * width
            and abs(later.mean(name) - self.mean(name)) <= tolerance * width
            for name, width in self.widths.items()
        )

    def at_bounds(self, names: Iterable[str]) -> list[str]:
        """Return in words which of some unknowns vary as much as a prior allows at most."""
        widest = {**self.widths, ORIENTATIONS: max((self.widths[ORIENTATIONS], *self.turn_widths))}
        wide = (name for name in names if widest[name] >= (1 - AT_BOUND) * LARGEST_WIDTHS[name])
        return list(dict.fromkeys(LARGEST_IN_WORDS[name] for name in wide))
