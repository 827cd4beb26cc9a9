"""Coarse windows: windows that are blurred and resampled at about their correlation length."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from tomopolish.imaging.packed import PackedSamples
from tomopolish.shapes import Array, Bool, Float, Float32
from tomopolish.solve.surface import (
    B_SPLINE,
    DisplacementSurface,
    both_sides,
    spline_filter,
    spline_samples,
)

SAMPLES_PER_LENGTH = 1.25
BLUR_PER_LENGTH = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class CoarseWindows:
    """Windows for the search, with displacement zero at index `origin` and samples `step_px` apart.

    Attributes
    ----------
    values
        Each row of m samples is followed by zeros, which the search needs for moves (`search_kernels`).
    length_px
        Correlation length with which the windows were made.
    range_px
        Largest displacement that is searched.
    """

    values: Float32[Array, "F P m width"]
    origin: int
    step_px: float
    length_px: float
    range_px: float

    @property
    def grid_px(self) -> Float[Array, "m"]:
        """Displacement of each sample along one axis, px."""
        return (np.arange(self.size) - self.origin) * self.step_px

    @property
    def size(self) -> int:
        """Samples m along either axis."""
        return int(self.values.shape[2])


def coarse_windows(surface: DisplacementSurface, pool: Executor | None = None) -> CoarseWindows:
    """Blur by half a correlation length and resample at 0.8 of it.

    Parameters
    ----------
    surface
        Unblurred surfaces of the windows.
    """
    length = surface.length_px
    step, blur = length / SAMPLES_PER_LENGTH, BLUR_PER_LENGTH * length
    half = int(np.ceil(surface.range_px / step)) + 1
    size = surface.coefficients.shape[-1]
    fine = (np.arange(size) - surface.origin) * surface.step_px
    coarse = np.arange(-half, half + 1) * step
    matrix = np.exp(-((coarse[:, None] - fine[None, :]) ** 2) / (2 * blur**2))
    matrix *= surface.step_px / (np.sqrt(2 * np.pi) * blur)
    values = np.empty((*surface.visible.shape, len(coarse), _row_width(len(coarse))), dtype=np.float32)
    both_sides(lambda tilt: surface.coefficients[tilt], matrix @ spline_samples(size), values, pool)
    return CoarseWindows(
        values=values, origin=half, step_px=step, length_px=length, range_px=surface.range_px
    )


def blur_matrix(windows: CoarseWindows, blur_px: float) -> Float32[Array, "m m"]:
    """Return the matrix that blurs samples along one axis by a Gaussian; samples outside are zero."""
    grid = windows.grid_px
    matrix = np.exp(-((grid[:, None] - grid[None, :]) ** 2) / (2 * blur_px**2))
    matrix *= windows.step_px / (np.sqrt(2 * np.pi) * blur_px)
    return matrix.astype(np.float32)


def coarse_surface(
    windows: CoarseWindows, visible: Bool[Array, "F P"], blur_px: float, pool: Executor
) -> DisplacementSurface:
    """Return splines through coarse windows, with a total blur of `blur_px`.

    Parameters
    ----------
    blur_px
        Total blur; at least half of the correlation length, the blur that the windows have already.
    """
    more = np.sqrt(max(blur_px**2 - (BLUR_PER_LENGTH * windows.length_px) ** 2, 0.0))
    size = windows.size
    fade = np.ones(size)
    fade[[0, -1]] = 0.5
    coefficients = PackedSamples.zeros((*visible.shape, size, size))
    matrix = spline_filter(fade, more / windows.step_px)
    both_sides(lambda tilt: windows.values[tilt, ..., :size], matrix, coefficients, pool)
    return DisplacementSurface(
        coefficients=coefficients,
        visible=visible,
        basis=B_SPLINE,
        origin=windows.origin,
        step_px=windows.step_px,
        range_px=windows.range_px,
        length_px=windows.length_px,
    )


def _row_width(size: int) -> int:
    """Return the width of a row: its samples and a gap of about a third, rounded up to a multiple of 16."""
    return -(-(size + size // 3) // 16) * 16
