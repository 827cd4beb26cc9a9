"""Particle trajectories as viewers draw them: in the order of exposure, with the motion magnified."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tomopolish.shapes import Array, Float, UInt8

RADIUS_OVER_EXTENT = 0.03
"""Radius of a drawn line over the extent of a typical particle's motion."""

_EXPOSURE_COLOURS = np.array([[12, 28, 92], [84, 92, 122], [150, 142, 112], [214, 190, 84], [255, 238, 60]])
"""Dark blue to yellow, evenly lighter: their order is visible under all common forms of colour blindness."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Trails:
    """Trajectories of a tomogram's particles; see `trails`.

    Attributes
    ----------
    starts
        Start of each trajectory.
    offsets
        Magnified motion at each exposure, in the unit of `starts`.
    colours
        Red, green and blue of each exposure.
    magnification
        Factor on the motion.
    """

    starts: Float[Array, "P 3"]
    offsets: Float[Array, "P F 3"]
    colours: UInt8[Array, "F 3"]
    magnification: float

    @property
    def points(self) -> Float[Array, "P F 3"]:
        """Points of each trajectory in the order of exposure."""
        return self.starts[:, None] + self.offsets

    def radius(self, smallest: float) -> float:
        """Return a line's radius, which is small compared with the motion but at least `smallest`."""
        if not self.offsets.size:
            return smallest
        extent = np.linalg.norm(np.ptp(self.offsets, axis=1), axis=-1)
        return max(smallest, RADIUS_OVER_EXTENT * float(np.median(extent)))


def trails(
    starts: Float[Array, "P 3"],
    trajectories: Float[Array, "P F 3"],
    pre_exposure: Float[Array, "F"],
    magnification: float = 1.0,
) -> Trails:
    """Return trajectories in the order of exposure.

    Parameters
    ----------
    starts
        Start of each trajectory, in px or Å.
    trajectories
        Offsets from it in each tilt image, file order, in the same unit.
    pre_exposure
        Dose before each tilt image, file order, e⁻/Å²; it gives the order and the colours.
    magnification
        Factor on the offsets.
    """
    order = np.argsort(pre_exposure, kind="stable")
    return Trails(
        starts=starts,
        offsets=magnification * trajectories[:, order],
        colours=exposure_colours(pre_exposure[order]),
        magnification=magnification,
    )


def exposure_colours(exposure: Float[Array, "F"]) -> UInt8[Array, "F 3"]:
    """Return red, green and blue of each exposure: dark blue for the lowest, yellow for the highest."""
    span = float(np.ptp(exposure)) if len(exposure) else 0.0
    place = np.zeros(len(exposure)) if span == 0 else (exposure - exposure.min()) / span
    knots = np.linspace(0, 1, len(_EXPOSURE_COLOURS))
    channels = [np.interp(place, knots, channel) for channel in _EXPOSURE_COLOURS.T]
    return np.round(np.stack(channels, axis=-1)).astype(np.uint8)
