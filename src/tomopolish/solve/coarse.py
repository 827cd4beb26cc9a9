"""Coarse windows: blurred, and sampled no finer than their own correlation length needs."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np

from tomopolish.imaging.windows import CorrelationWindows
from tomopolish.shapes import Bool, Float, Float32
from tomopolish.solve.surface import B_SPLINE, DisplacementSurface, both_sides, spline_filter

Array = np.ndarray

SAMPLES_PER_LENGTH = 1.25
BLUR_PER_LENGTH = 0.5
LENGTH_SAMPLE = 500


@dataclass(frozen=True, kw_only=True, eq=False)
class CoarseWindows:
    """Windows for searching: displacement zero at index `origin`, samples `step_px` apart.

    Attributes
    ----------
    values
        Each row of m samples is followed by zeros, for the search's moves (`search_kernels`).
    """

    values: Float32[Array, "F P m width"]
    origin: int
    step_px: float

    @property
    def grid_px(self) -> Float[Array, "m"]:
        """Displacement of each sample along one axis, px."""
        return (np.arange(self.size) - self.origin) * self.step_px

    @property
    def size(self) -> int:
        """Samples m along either axis."""
        return int(self.values.shape[2])


@dataclass(frozen=True, kw_only=True, eq=False)
class SearchWindows:
    """All that a search needs of the windows: coarse ones, and the correlation length they were made with."""

    coarse: CoarseWindows
    length_px: float

    def scaled(self, factors: Float[Array, "P"]) -> SearchWindows:
        """For references multiplied by a factor for each particle."""
        values = self.coarse.values * factors.astype(np.float32)[:, None, None]
        return replace(self, coarse=replace(self.coarse, values=values))


def search_windows(windows: CorrelationWindows, pool: Executor) -> SearchWindows:
    """Make windows for a search, which from then on does without the finer ones."""
    length = correlation_length_px(windows)
    return SearchWindows(coarse=coarse_windows(windows, length, pool), length_px=length)


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
    square = np.mean(np.square(values), dtype=np.float64)
    slope = sum(np.mean(np.square(np.diff(values, axis=axis)), dtype=np.float64) for axis in (1, 2))
    return max(float(np.sqrt(2 * square / slope)) * windows.step_px, windows.step_px)


def coarse_windows(windows: CorrelationWindows, length_px: float, pool: Executor) -> CoarseWindows:
    """Blur by half a correlation length and resample at 0.8 of it."""
    step = length_px / SAMPLES_PER_LENGTH
    half = int(np.ceil(windows.range_px / step)) + 1
    fine = (np.arange(windows.values.shape[-1]) - windows.origin) * windows.step_px
    coarse = np.arange(-half, half + 1) * step
    blur = BLUR_PER_LENGTH * length_px
    matrix = np.exp(-((coarse[:, None] - fine[None, :]) ** 2) / (2 * blur**2))
    matrix *= windows.step_px / (np.sqrt(2 * np.pi) * blur)
    width = _row_width(len(coarse))
    values = np.empty((*windows.visible.shape, len(coarse), width), dtype=np.float32)
    both_sides(windows.values, matrix, values, pool)
    return CoarseWindows(values=values, origin=half, step_px=step)


def blur_matrix(windows: CoarseWindows, blur_px: float) -> Float32[Array, "m m"]:
    """Matrix that blurs samples along one axis by a Gaussian; outside they count as zero."""
    grid = windows.grid_px
    matrix = np.exp(-((grid[:, None] - grid[None, :]) ** 2) / (2 * blur_px**2))
    matrix *= windows.step_px / (np.sqrt(2 * np.pi) * blur_px)
    return matrix.astype(np.float32)


def coarse_surface(
    windows: CoarseWindows,
    visible: Bool[Array, "F P"],
    length_px: float,
    blur_px: float,
    range_px: float,
    pool: Executor,
) -> DisplacementSurface:
    """Splines through coarse windows, blurred by `blur_px` altogether.

    Parameters
    ----------
    length_px
        Correlation length with which the windows were made.
    blur_px
        At least half of it, which the windows have already.
    """
    more = np.sqrt(max(blur_px**2 - (BLUR_PER_LENGTH * length_px) ** 2, 0.0))
    size = windows.size
    fade = np.ones(size)
    fade[[0, -1]] = 0.5
    coefficients = np.empty((*visible.shape, size, size), dtype=np.float32)
    both_sides(windows.values[..., :size], spline_filter(fade, more / windows.step_px), coefficients, pool)
    return DisplacementSurface(
        coefficients=coefficients,
        visible=visible,
        basis=B_SPLINE,
        origin=windows.origin,
        step_px=windows.step_px,
        range_px=range_px,
    )


def _row_width(size: int) -> int:
    """Columns of a row: its samples and a gap of about a third of them, in whole vectors of 16."""
    return -(-(size + size // 3) // 16) * 16
