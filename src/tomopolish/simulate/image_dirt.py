"""Dirt in a tilt image: hot pixels, a smooth background, a bar that covers a part of it."""

from __future__ import annotations

import numpy as np
import scipy.special

from tomopolish.settings.simulation import SimulationSettings
from tomopolish.shapes import Array, Float32
from tomopolish.simulate.scene import random_stream

COVER_DARKNESS = 8.0
"""How much darker a covered part is, in standard deviations of the noise."""

COVER_TRANSMISSION = 0.3
"""Amplitude of the noise under a cover, over that beside it."""

_COVER_EDGE_PX = 3.0
_COVER_OFFSET = (
    0.15  # largest distance of a cover's edge from the image's centre, in units of its smaller side
)
_HOT_DECADES = (1.3, 3.0)  # hot pixels are 20 to 1000 standard deviations bright


def covered_share(settings: SimulationSettings, index: int, tilt: int) -> Float32[Array, "h w"]:
    """Return how much each pixel of a covered tilt image is covered, from 0 to 1."""
    rng = random_stream(settings.seed, "covered images", index, tilt)
    x, y = _coordinates(settings)
    angle = rng.uniform(0, 2 * np.pi)
    w, h = settings.acquisition.image_size_px
    edge = rng.uniform(-_COVER_OFFSET, _COVER_OFFSET) * min(w, h)
    along = x * w / 2 * np.cos(angle) + y * h / 2 * np.sin(angle)
    share: Array = scipy.special.expit((along - edge) / _COVER_EDGE_PX)
    return share.astype(np.float32)


def background(settings: SimulationSettings, index: int, tilt: int) -> Float32[Array, "h w"]:
    """Draw the background of one tilt image: a slope in a random direction, and half as much curvature."""
    rng = random_stream(settings.seed, "gradients", index, tilt)
    x, y = _coordinates(settings)
    angle = rng.uniform(0, 2 * np.pi)
    a, b, c = rng.normal(size=3)
    slope = _unit(np.cos(angle) * x + np.sin(angle) * y)
    curvature = _unit(a * x**2 + b * x * y + c * y**2)
    surface = settings.dirt.gradient * settings.noise_sigma * _unit(slope + 0.5 * curvature)
    return surface.astype(np.float32)


def add_hot_pixels(settings: SimulationSettings, index: int, tilt: int, image: Float32[Array, "h w"]) -> None:
    """Brighten single pixels of an image: half of them are the same ones in all images of the tomogram."""
    count = settings.dirt.hot_pixels
    places = np.empty(count, dtype=np.int64)
    defects = (count + 1) // 2
    places[:defects] = random_stream(settings.seed, "hot pixels", index).integers(0, image.size, defects)
    rng = random_stream(settings.seed, "hot pixels", index, tilt)
    places[defects:] = rng.integers(0, image.size, count - defects)
    excess = settings.noise_sigma * 10 ** rng.uniform(*_HOT_DECADES, count)
    image.ravel()[places] += excess.astype(np.float32)


def _coordinates(settings: SimulationSettings) -> tuple[Array, Array]:
    """Return x along the columns and y along the rows, from −1 to 1 over the image."""
    w, h = settings.acquisition.image_size_px
    return np.linspace(-1, 1, w)[None, :], np.linspace(-1, 1, h)[:, None]


def _unit(surface: Array) -> Array:
    """Return a surface without its mean, scaled to an RMS of 1."""
    flat = surface - surface.mean()
    return flat / np.sqrt(np.mean(flat**2))
