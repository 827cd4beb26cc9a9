"""Coarse windows: windows that are blurred and resampled at about their correlation length."""

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
    """Windows for the search, with displacement zero at index `origin` and samples `step_px` apart.

    Attributes
    ----------
    values
        Each row of m samples is followed by zeros, which the search needs for moves (`search_kernels`).
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
    """Coarse windows and the correlation length with which they were made: all that a search needs."""

    coarse: CoarseWindows
    length_px: float

    def scaled(self, factors: Float[Array, "P"]) -> SearchWindows:
        """Return the windows for references that are multiplied by a factor for each particle."""
        values = self.coarse.values * factors.astype(np.float32)[:, None, None]
        return replace(self, coarse=replace(self.coarse, values=values))


def search_windows(windows: CorrelationWindows, pool: Executor) -> SearchWindows:
    """Make the windows of a search, which then does not need the correlation windows."""
    length = correlation_length_px(windows)
    return SearchWindows(coarse=coarse_windows(windows, length, pool), length_px=length)


def correlation_length_px(windows: CorrelationWindows) -> float:
    """Return the correlation length of the windows: σ of the Gaussian that fits their autocorrelation.

    Signal and noise pass through the same weights and so have the same correlation length, which follows from
    the windows' mean squared value and slope. A few hundred evenly spread windows determine it.
    """
    pairs = np.flatnonzero(windows.visible)
    chosen = pairs[:: max(1, len(pairs) // LENGTH_SAMPLE)]
    values = windows.values.reshape(-1, *windows.values.shape[2:])[chosen]
    values = values.astype(np.float64)  # squares of tiny numbers are zero in single precision
    if not values.size:
        return windows.step_px
    square = np.mean(np.square(values))
    slope = sum(np.mean(np.square(np.diff(values, axis=axis))) for axis in (1, 2))
    if slope == 0:  # windows without any signal
        return windows.step_px
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
    """Return the matrix that blurs samples along one axis by a Gaussian; samples outside are zero."""
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
    """Return splines through coarse windows, with a total blur of `blur_px`.

    Parameters
    ----------
    length_px
        Correlation length with which the windows were made.
    blur_px
        Total blur; at least half of `length_px`, the blur that the windows have already.
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
    """Return the width of a row: its samples and a gap of about a third, rounded up to a multiple of 16."""
    return -(-(size + size // 3) // 16) * 16
