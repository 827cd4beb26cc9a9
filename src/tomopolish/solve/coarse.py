"""Coarse windows: blurred, and sampled no finer than their own correlation length needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from tomopolish.correlation.windows import CorrelationWindows

Array = np.ndarray

SAMPLES_PER_LENGTH = 1.25
BLUR_PER_LENGTH = 0.5
LENGTH_SAMPLE = 500


@dataclass(frozen=True, kw_only=True, eq=False)
class CoarseWindows:
    """Windows for searching: displacement zero at index `origin`, samples `step_px` apart."""

    values: Float32[Array, "F P m m"]
    origin: int
    step_px: float

    @property
    def grid_px(self) -> Float[Array, "m"]:
        """Displacement of each sample along one axis, px."""
        return (np.arange(self.values.shape[-1]) - self.origin) * self.step_px


def correlation_length_px(windows: CorrelationWindows) -> float:
    """Distance over which the windows vary: σ of the Gaussian that fits their autocorrelation.

    Signal and noise pass through the same weights, so both have it; it follows from the windows' mean squared
    value and slope. A few hundred windows, evenly spread, tell it well enough.
    """
    pairs = np.flatnonzero(windows.visible)
    chosen = pairs[:: max(1, len(pairs) // LENGTH_SAMPLE)]
    values = windows.values.reshape(-1, *windows.values.shape[2:])[chosen]
    if not values.size or not values.any():
        return windows.step_px
    square = np.mean(np.square(values, dtype=np.float64))
    slope = sum(np.mean(np.square(np.diff(values, axis=axis), dtype=np.float64)) for axis in (1, 2))
    return max(float(np.sqrt(2 * square / slope)) * windows.step_px, windows.step_px)


def coarse_windows(
    windows: CorrelationWindows, length_px: float, extra_blur_px: float = 0.0
) -> CoarseWindows:
    """Blur by half a correlation length (and `extra_blur_px`) and resample at 0.8 of it."""
    step = length_px / SAMPLES_PER_LENGTH
    half = int(np.ceil(windows.range_px / step)) + 1
    fine = (np.arange(windows.values.shape[-1]) - windows.origin) * windows.step_px
    coarse = np.arange(-half, half + 1) * step
    blur = np.hypot(BLUR_PER_LENGTH * length_px, extra_blur_px)
    matrix = np.exp(-((coarse[:, None] - fine[None, :]) ** 2) / (2 * blur**2))
    matrix = (matrix * (windows.step_px / (np.sqrt(2 * np.pi) * blur))).astype(np.float32)
    tilts, particles = windows.visible.shape
    values = np.empty((tilts, particles, len(coarse), len(coarse)), dtype=np.float32)
    for tilt in range(tilts):
        values[tilt] = matrix @ windows.values[tilt] @ matrix.T
    return CoarseWindows(values=values, origin=half, step_px=step)
