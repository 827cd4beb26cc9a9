"""The correlation windows of one fit, and the owner of their memory."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np

from tomopolish.imaging.packed import PackedSamples
from tomopolish.imaging.windows import CorrelationWindows
from tomopolish.shapes import Array, Bool, Float, Float32
from tomopolish.solve.surface import DisplacementSurface, add_pairs, correlation_length_px, smooth_surface


@dataclass(eq=False)
class WindowMemory:
    """Windows that a fit may change in place.

    From `of` on, the held-out pairs are taken out: they are not visible, and their windows are zero.
    `put_back` ends that. `consume_into_surfaces` replaces all windows by the coefficients of their surfaces,
    which saves a sixth of a run's memory; afterwards they can no longer be read as windows.

    Attributes
    ----------
    windows
        The windows, with the latest scale.
    visible
        Pairs that take part or are held out.
    holds_windows
        Whether the windows have not been consumed.
    """

    windows: CorrelationWindows
    visible: Bool[Array, "F P"]
    _values: PackedSamples
    _length_px: float
    _taken_out: Float32[Array, "H n n"] | None = None
    holds_windows: bool = True

    @classmethod
    def of(cls, windows: CorrelationWindows) -> WindowMemory:
        """Return the owner of windows, without their held-out pairs."""
        values, held = PackedSamples.of(windows.values), windows.held_out
        windows = replace(windows, values=values)
        length_px = correlation_length_px(windows)
        if held is None:
            return cls(windows, windows.visible, values, length_px)
        place = (held.tilts, held.particles)
        visible, taken_out = windows.visible.copy(), values[place]
        visible[place] = False
        values.clear(place)
        return cls(replace(windows, visible=visible), windows.visible, values, length_px, taken_out)

    @property
    def pairs(self) -> int:
        """Number of pairs that take part or are held out."""
        return int(self.visible.sum())

    def scale(self, factors: Float[Array, "P"]) -> None:
        """Scale the windows to those of references multiplied by a factor for each particle.

        Surfaces that have replaced them are also scaled, since they use the same memory.
        """
        if np.all(factors == 1):
            return
        small, windows = factors.astype(np.float32), self.windows
        self._values.scale(factors)
        held = windows.held_out
        if held is not None and self._taken_out is not None:
            own = small[held.particles][:, None, None]
            self._taken_out = self._taken_out * own
            held = replace(held, values=held.values * own, power=held.power * factors[held.particles] ** 2)
        self.windows = replace(windows, power=windows.power * factors**2, held_out=held)

    def surfaces(self, range_penalty: float, pool: Executor) -> DisplacementSurface:
        """Return surfaces of the windows, in new memory."""
        assert self.holds_windows
        return smooth_surface(self.windows, range_penalty=range_penalty, pool=pool)

    def consume_into_surfaces(self, range_penalty: float, pool: Executor) -> DisplacementSurface:
        """Return surfaces of the windows, in the windows' memory; the windows are lost."""
        assert self.holds_windows
        self.holds_windows = False
        return smooth_surface(self.windows, range_penalty=range_penalty, pool=pool, into=self._values)

    def put_back(self, surface: DisplacementSurface) -> DisplacementSurface:
        """Put the held-out pairs back; returns the surfaces with theirs, in the same memory."""
        held_out = self.windows.held_out
        if held_out is None or self._taken_out is None:
            return surface
        self.windows = replace(self.windows, visible=self.visible)
        if self.holds_windows:
            self._values.put_pairs(held_out.tilts, held_out.particles, self._taken_out)
        add_pairs(surface, self._taken_out, held_out.tilts, held_out.particles)
        self._taken_out = None
        return replace(surface, visible=self.visible, length_px=self._length_px)
