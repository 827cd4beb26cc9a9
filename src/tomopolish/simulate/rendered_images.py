"""Tilt images of a simulated tomogram, rendered when they are read: signal, noise and dirt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tomopolish.settings.simulation import SimulationSettings
from tomopolish.shapes import Array, Float, Float32
from tomopolish.simulate.image_dirt import (
    COVER_DARKNESS,
    COVER_TRANSMISSION,
    add_hot_pixels,
    background,
    covered_share,
)
from tomopolish.simulate.noise import noise_image
from tomopolish.simulate.painter import TiltPainter
from tomopolish.simulate.scene import random_stream
from tomopolish.simulate.truth import TiltKind


@dataclass(frozen=True, kw_only=True, eq=False)
class RenderedImages:
    """Tilt images that are simulated at every reading (a `TiltImages`) and not stored.

    Every image has its own random stream, so that images do not depend on order or threads.

    Attributes
    ----------
    painter, others
        Painter of the first species, and those of further species and beads.
    tilt_kinds
        Which images are blank or covered.
    """

    painter: TiltPainter
    others: tuple[TiltPainter, ...] = ()
    settings: SimulationSettings
    angles_degrees: Float[Array, "F"]
    tilt_kinds: tuple[TiltKind, ...]
    index: int

    @property
    def size_px(self) -> tuple[int, int]:
        """(w, h) of every image."""
        return self.settings.acquisition.image_size_px

    def __len__(self) -> int:
        return len(self.angles_degrees)

    def read(self, tilt: int) -> Float32[Array, "h w"]:
        """Simulate one tilt image, file order."""
        dirt, kind = self.settings.dirt, self.tilt_kinds[tilt]
        image = self._signal(tilt)
        cover = covered_share(self.settings, self.index, tilt) if kind is TiltKind.COVERED else None
        if cover is not None:
            image *= 1 - cover
            image -= np.float32(COVER_DARKNESS * self.settings.noise_sigma) * cover
        if not self.settings.noise.is_silent:
            rng = random_stream(self.settings.seed, "noise", self.index, tilt)
            noise = noise_image(self.settings, float(self.angles_degrees[tilt]), rng)
            if cover is not None:
                noise *= 1 - np.float32(1 - COVER_TRANSMISSION) * cover
            image += noise
        if dirt.gradient:
            image += background(self.settings, self.index, tilt)
        if dirt.hot_pixels:
            add_hot_pixels(self.settings, self.index, tilt, image)
        return image

    def _signal(self, tilt: int) -> Float32[Array, "h w"]:
        if self.tilt_kinds[tilt] is TiltKind.BLANK:
            w, h = self.size_px
            return np.zeros((h, w), dtype=np.float32)
        image = self.painter.paint(tilt)
        for painter in self.others:
            image += painter.paint(tilt)
        return image
