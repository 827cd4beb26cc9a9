"""Central slices of a map's Fourier transform, by cubic B-spline interpolation of an oversampled grid.

The map is divided by the interpolation kernel's transform beforehand, so that interpolation is exact except
for aliasing from beyond the padded box. The code is deliberately independent of the projector of the
correlation stage: the images must not depend on the code that is tested with them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
import scipy.ndimage

from tomopolish.shapes import Array, Complex64, Float32

PADDING = 1.5
NEGLIGIBLE = 1e-3
"""Density, as a fraction of the map's largest, that projections may omit.

It is that of the map after a low-pass, without which the ringing of frequencies near Nyquist fills the box.
Slices that omit it differ from those of the complete map by less than 1 % below 0.45/px, and by about 1 %
of the power in all.
"""

_LOW_PASS_PX = 1.0  # standard deviation
_RIM_PX = 2  # distance of the support from the border of the part of the map that is transformed

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
        `NEGLIGIBLE` of its peak; the map beyond is not part of the grid.
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
    support = _support_px(density)
    density = _middle(density, min(density.shape[0], support + 2 * _RIM_PX))
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
    return SliceVolume(grid=_with_margins(half, padded), padded_px=padded, support_px=support)


def _support_px(density: Float32[Array, "s s s"]) -> int:
    """Return the smallest even edge, at most the map's, of the cube that contains all rotated copies."""
    size = density.shape[0]
    smooth = np.abs(scipy.ndimage.gaussian_filter(density, _LOW_PASS_PX, mode="constant"))
    places = np.argwhere(smooth > NEGLIGIBLE * smooth.max()) - size // 2
    radius = np.sqrt(np.max(np.sum(places**2, axis=1), initial=0))
    return min(size, 2 * int(np.ceil(radius) + 1))


def _middle(density: Float32[Array, "s s s"], size: int) -> Float32[Array, "c c c"]:
    """Return the middle of a map, with its origin at voxel ⌊size/2⌋."""
    first = density.shape[0] // 2 - size // 2
    inner = slice(first, first + size)
    return np.ascontiguousarray(density[inner, inner, inner])


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
