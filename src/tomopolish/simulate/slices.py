"""Central slices of a map's Fourier transform, by cubic B-spline interpolation of an oversampled grid.

The map is divided by the interpolation kernel's transform beforehand, so that interpolation is exact except
for aliasing from beyond the padded box. The code is deliberately independent of the projector of the
correlation stage: the images must not depend on the code that is tested with them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft

from tomopolish.shapes import Complex64, Float32

Array = np.ndarray

PADDING = 1.5
NEGLIGIBLE = 1e-5
"""Density, as a fraction of the map's largest, that projections may omit."""

_MARGIN = 2  # grid points beyond the edges, so that the interpolation need not wrap around


@dataclass(frozen=True, kw_only=True, eq=False)
class SliceVolume:
    """A map's transform, prepared for slicing.

    Attributes
    ----------
    grid
        Fourier grid with margins, `[z, y, x]`: frequency zero at `zero` in z and y, at `_MARGIN` in x.
    padded_px
        Edge of the padded box; grid points are 1/padded_px apart, in 1/px.
    support_px
        Edge of the centred square that contains every projection of the map except for densities below
        `NEGLIGIBLE` of its peak.
    """

    grid: Complex64[Array, "n n m"]
    padded_px: int
    support_px: int

    @property
    def zero(self) -> int:
        """Index of frequency zero along z and y."""
        return self.padded_px // 2 + _MARGIN

    @property
    def zero_x(self) -> int:
        """Index of frequency zero along x."""
        return _MARGIN


def slice_volume(density: Float32[Array, "s s s"], scale: float, padding: float = PADDING) -> SliceVolume:
    """Transform a map for slicing.

    Parameters
    ----------
    density
        Map `[z, y, x]` with origin at voxel ⌊s/2⌋ and zeros towards its borders.
    scale
        Factor on the transform Σρ exp(−2πi k·x). With s^−½, slices are the plain 2D transforms of images on
        the intensity scale of docs/dev/conventions.md.
    """
    size = density.shape[0]
    padded = next_even_fast_size(int(np.ceil(padding * size)))
    offset = padded // 2 - size // 2
    coordinate = (np.arange(size) - size // 2) / padded
    correction = (1 / np.sinc(coordinate) ** 4).astype(np.float32)
    box = np.zeros((padded,) * 3, dtype=np.float32)
    inner = box[offset : offset + size, offset : offset + size, offset : offset + size]
    inner[...] = density * np.float32(scale)
    inner *= correction[:, None, None] * correction[:, None]
    inner *= correction
    half = scipy.fft.rfftn(scipy.fft.ifftshift(box), overwrite_x=True)
    return SliceVolume(grid=_with_margins(half, padded), padded_px=padded, support_px=_support_px(density))


def _support_px(density: Float32[Array, "s s s"]) -> int:
    """Return the smallest even edge, at most the map's, of the cube that contains all rotated copies."""
    size = density.shape[0]
    places = np.argwhere(np.abs(density) > NEGLIGIBLE * np.abs(density).max()) - size // 2
    radius = np.sqrt(np.max(np.sum(places**2, axis=1), initial=0))
    return min(size, 2 * int(np.ceil(radius) + 1))


def _with_margins(half: Complex64[Array, "n n h"], padded: int) -> Complex64[Array, "m m k"]:
    """Order frequencies from negative to positive, with periodic margins; x from −margin to n/2 + margin."""
    half_size, margin = padded // 2, _MARGIN
    rows = np.arange(-half_size - margin, half_size + margin + 1) % padded
    mirrored = -rows % padded
    grid = np.empty((len(rows), len(rows), half_size + 2 * margin + 1), dtype=np.complex64)
    grid[:, :, margin : margin + half_size + 1] = half[np.ix_(rows, rows)]
    for i in range(1, margin + 1):
        grid[:, :, margin - i] = np.conj(half[np.ix_(mirrored, mirrored)][:, :, i])
        grid[:, :, margin + half_size + i] = np.conj(half[np.ix_(mirrored, mirrored)][:, :, half_size - i])
    return grid


def next_even_fast_size(size: int) -> int:
    """Return the smallest even size with a fast FFT that is at least `size`."""
    half = int(scipy.fft.next_fast_len(-(-size // 2), real=True))
    return 2 * half
