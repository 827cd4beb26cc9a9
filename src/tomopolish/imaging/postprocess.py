"""A map for the eye: mask, Guinier fit, sharpening and weighting by the FSC.

The weight (`map_correlation`) and the B factor from the slope of ln|F| over 1/d² are those of Rosenthal &
Henderson (2003), J. Mol. Biol. 333:721.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from scipy import ndimage

from tomopolish.imaging.fsc import ShellCorrelation, map_correlation
from tomopolish.physics.fourier import radius_half_space, shell_sums
from tomopolish.shapes import Array, Float, Float32

MASK_RESOLUTION_ANGSTROM = 15.0
"""Resolution of the map that is thresholded for a mask."""
MASK_LEVEL, MASK_SIGMAS = 0.15, 4.0
"""Threshold of the mask: share of the map's highest densities, and at least so many standard errors."""
MASK_EXTENSION_ANGSTROM, MASK_EDGE_ANGSTROM = 8.0, 16.0
LARGE_ISLAND = 0.1
"""Islands of the thresholded map remain where they have this share of the largest one's volume."""
FALLBACK_RADIUS, LARGEST_RADIUS = 0.4, 0.48
"""Radii of a spherical mask where a map shows nothing, and of any mask, as shares of the box."""

GUINIER_START_ANGSTROM = 10.0
"""Where the fit begins: at lower resolution the molecule's shape rules the amplitudes."""
FEWEST_SHELLS = 4
EDGE_SHELLS = 2
"""Width of the low-pass filter's edge beyond the resolution."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Guinier:
    """Logarithms of the mean amplitude in each shell, and the line that was fitted to them.

    Attributes
    ----------
    inverse_square
        1/d² of each shell, 1/Å².
    original, weighted, sharpened
        Natural logarithm of the amplitudes; NaN where they are 0.
    slope, intercept, correlation
        Of the line through `weighted` over 1/d²; NaN without a fit.
    """

    inverse_square: Float[Array, "shells"]
    original: Float[Array, "shells"]
    weighted: Float[Array, "shells"]
    sharpened: Float[Array, "shells"]
    slope: float
    intercept: float
    correlation: float

    @property
    def is_fitted(self) -> bool:
        """Whether there were enough shells for a fit."""
        return bool(np.isfinite(self.slope))


@dataclass(frozen=True, kw_only=True, eq=False)
class SharpenedMap:
    """A sharpened and weighted map.

    Attributes
    ----------
    bfactor_angstrom2
        The B factor that was applied, negative where it sharpens; 0 without a Guinier fit.
    resolution_angstrom
        FSC 0.143, to which the map is filtered.
    """

    volume: Float32[Array, "s s s"]
    bfactor_angstrom2: float
    resolution_angstrom: float
    guinier: Guinier


def soft_mask(half_maps: Float32[Array, "2 s s s"], pixel_size_angstrom: float) -> Float32[Array, "s s s"]:
    """Return a soft mask of two half maps: low-passed, thresholded, extended, with a raised-cosine edge.

    Where the map does not rise above its noise, the mask is a sphere.
    """
    size = half_maps.shape[-1]
    resolution = max(MASK_RESOLUTION_ANGSTROM, 4 * pixel_size_angstrom)
    signal = _low_passed((half_maps[0] + half_maps[1]) / 2, size * pixel_size_angstrom / resolution)
    noise = _low_passed((half_maps[0] - half_maps[1]) / 2, size * pixel_size_angstrom / resolution)
    axis = np.arange(size) - size // 2
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    ball = radius < LARGEST_RADIUS * size
    level = MASK_LEVEL * float(np.quantile(signal[ball], 0.999))
    inside = ball & (signal > max(level, MASK_SIGMAS * float(noise[ball].std())))
    labels, count = ndimage.label(inside)
    extension, edge = (
        length / pixel_size_angstrom for length in (MASK_EXTENSION_ANGSTROM, MASK_EDGE_ANGSTROM)
    )
    edge = max(edge, 3.0)
    if count:
        volumes = np.bincount(labels.ravel())[1:]
        large = np.flatnonzero(volumes >= LARGE_ISLAND * volumes.max()) + 1
        distance = ndimage.distance_transform_edt(~np.isin(labels, large)) - extension
    else:
        distance = radius - FALLBACK_RADIUS * size
    soft = _falling(distance, edge) * _falling(radius - LARGEST_RADIUS * size + edge, edge)
    return soft.astype(np.float32)


def sharpened_map(
    merged: Float32[Array, "s s s"],
    fsc: ShellCorrelation,
    pixel_size_angstrom: float,
    mask: Float32[Array, "s s s"] | None = None,
) -> SharpenedMap:
    """Return a map weighted by its FSC, sharpened by its Guinier fit and filtered to its resolution.

    The amplitudes of the fit are those of the masked map.
    """
    size = merged.shape[-1]
    transform = scipy.fft.rfftn(merged)
    masked = transform if mask is None else scipy.fft.rfftn(merged * mask)
    resolution = fsc.resolution_angstrom(pixel_size_angstrom)
    last = size * pixel_size_angstrom / resolution
    radius = radius_half_space(size)
    curve = np.clip(fsc.corrected, 0.0, 1.0)
    weight = map_correlation(curve)
    shells = np.arange(len(weight))
    weight = weight * _falling(shells - last, EDGE_SHELLS)
    inverse_square = (shells / (size * pixel_size_angstrom)) ** 2
    amplitude = shell_sums(np.abs(masked)) / np.maximum(shell_sums(np.ones(masked.shape)), 1)
    original, weighted = _logarithm(amplitude), _logarithm(amplitude * weight)
    used = (inverse_square >= GUINIER_START_ANGSTROM**-2) & (shells <= last) & np.isfinite(weighted)
    slope = intercept = correlation = np.nan
    if np.count_nonzero(used) >= FEWEST_SHELLS:
        slope, intercept = (float(c) for c in np.polyfit(inverse_square[used], weighted[used], 1))
        correlation = float(np.corrcoef(inverse_square[used], weighted[used])[0, 1])
    bfactor = 4 * slope if np.isfinite(slope) and slope < 0 else 0.0
    factor = weight * np.exp(-bfactor * inverse_square / 4)
    shell = np.interp(radius, shells, factor, right=0.0)
    volume = scipy.fft.irfftn(transform * shell, s=(size,) * 3).astype(np.float32)
    return SharpenedMap(
        volume=volume,
        bfactor_angstrom2=bfactor,
        resolution_angstrom=resolution,
        guinier=Guinier(
            inverse_square=inverse_square,
            original=original,
            weighted=weighted,
            sharpened=_logarithm(amplitude * factor),
            slope=slope,
            intercept=intercept,
            correlation=correlation,
        ),
    )


def _low_passed(volume: Float32[Array, "s s s"], last_shell: float) -> Float[Array, "s s s"]:
    size = volume.shape[-1]
    kept = _falling(radius_half_space(size) - last_shell, EDGE_SHELLS)
    return scipy.fft.irfftn(scipy.fft.rfftn(volume) * kept, s=(size,) * 3)


def _falling(distance: Array, width: float) -> Array:
    """Return 1 at distances up to 0 that falls as a raised cosine to 0 at `width`."""
    return 0.5 + 0.5 * np.cos(np.pi * np.clip(distance / width, 0.0, 1.0))


def _logarithm(values: Array) -> Array:
    return np.log(values, out=np.full(len(values), np.nan), where=values > 0)
