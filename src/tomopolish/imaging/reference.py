"""The reference's Fourier transform, ready to be sliced (docs/conventions.md, References and weights)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.fft import rfftn

from tomopolish.dataset.model import References
from tomopolish.errors import InputError
from tomopolish.imaging.kernels import compare as compare_kernels
from tomopolish.shapes import Complex64, Float, Float32

Array = np.ndarray

TAPER_WIDTH_PX = 10
GRIDDING_FLOOR = 0.02


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceTransform:
    """Unitary transforms of both half maps inside a cube of frequencies.

    Attributes
    ----------
    values
        ``[half, kz + reach, ky + reach, kx]`` with kx = 0 … reach: the half space kx ≥ 0, phase origin at the
        map's voxel ⌊s/2⌋. The other half follows from Friedel symmetry.
    reach
        Largest frequency stored, Fourier px.
    box
        Edge s of the box in px.
    """

    values: Complex64[Array, "2 n n m"]
    reach: int
    box: int

    @property
    def flat(self) -> Float32[Array, "N"]:
        """The values as the kernels take them: one row of real and imaginary parts in turn."""
        return self.values.view(np.float32).reshape(-1)


def _falloff(radius2: Array, inner: float, outer: float) -> Array:
    radius = np.sqrt(radius2)
    ramp = np.clip((radius - np.float32(inner)) / np.float32(outer - inner), 0, 1)
    return 0.5 + 0.5 * np.cos(np.float32(np.pi) * ramp)


def masked_half_maps(references: References) -> Float32[Array, "2 s s s"]:
    """Both half maps, multiplied by the mask where there is one."""
    if references.mask is None:
        return references.half_maps
    return references.half_maps * references.mask


def pad_to_box(maps: Float32[Array, "2 n n n"], box: int) -> Float32[Array, "2 box box box"]:
    """Zero-pad cubes, centred on voxel ⌊n/2⌋, to `box`.

    Raises
    ------
    InputError
        when the box is below the maps' size.
    """
    size = maps.shape[-1]
    if size == box:
        return maps
    if size > box:
        raise InputError(
            f"--b {box} is smaller than the reference maps ({size} px): give --b {size} or more."
        )
    start = box // 2 - size // 2
    padded = np.zeros((len(maps), box, box, box), dtype=np.float32)
    inside = slice(start, start + size)
    padded[:, inside, inside, inside] = maps
    return padded


def prepare_half_maps(
    references: References, box: int, last_frequency: float, threads: int = 1
) -> ReferenceTransform:
    """Mask, pad, taper, correct for trilinear interpolation, and transform both half maps.

    See docs/conventions.md, References and weights.

    Parameters
    ----------
    last_frequency
        The cube of frequencies that slices up to here interpolate between is kept, Fourier px.
    """
    maps = pad_to_box(masked_half_maps(references), box)
    # Functions of the radius, in the octant that holds all distances along z and y.
    square = np.arange(box // 2 + 1, dtype=np.float32) ** 2
    along_x = (np.arange(box, dtype=np.float32) - box // 2) ** 2
    radius2 = square[:, None, None] + square[None, :, None] + along_x
    window = _falloff(radius2, box / 2 - TAPER_WIDTH_PX, box / 2)
    factor = window / (np.sinc(np.sqrt(radius2) / np.float32(box)) ** 2 + np.float32(GRIDDING_FLOOR))
    times = np.full(box // 2 + 1, 2.0)  # how often each distance occurs
    times[0] = times[-1] = 1.0
    whole = float(times @ np.sum(window, axis=2, dtype=np.float64) @ times)
    reach = min(int(np.ceil(last_frequency)) + 1, box // 2)
    wanted = np.arange(-reach, reach + 1)
    # The origin is the central voxel: half a box away, every other frequency changes its sign.
    sign = (1 - 2 * (wanted % 2)).astype(np.float32)
    scale = np.float32(box**-1.5) * sign[:, None, None] * sign[:, None] * sign[reach:]
    values = np.empty((2, *scale.shape), dtype=np.complex64)
    volume = np.empty_like(maps[0])
    for half in range(2):
        compare_kernels.taper(maps[half], window, factor, whole, volume)
        transform = rfftn(volume, workers=threads)
        np.multiply(transform[np.ix_(wanted, wanted, wanted[reach:])], scale, out=values[half])
    return ReferenceTransform(values=values, reach=reach, box=box)


def cropped(transform: ReferenceTransform, last_frequency: float) -> ReferenceTransform:
    """Keep the cube of frequencies that slices up to `last_frequency` (Fourier px) interpolate between."""
    reach = min(int(np.ceil(last_frequency)) + 1, transform.reach)
    inside = slice(transform.reach - reach, transform.reach + reach + 1)
    values = np.ascontiguousarray(transform.values[:, inside, inside, : reach + 1])
    return ReferenceTransform(values=values, reach=reach, box=transform.box)


def shell_signal_to_noise(transform: ReferenceTransform) -> Float[Array, "shells"]:
    """Signal-to-noise per shell from the two half maps' difference: (τ² − σ²)/τ².

    See docs/conventions.md, References and weights.

    Parameters
    ----------
    transform
        All frequencies of the box.
    """
    reach, shells = transform.reach, transform.box // 2 + 1
    halves = transform.values[:, :-1, :-1]  # +s/2 is −s/2 once more
    axis = np.arange(-reach, reach) ** 2
    radius = np.sqrt(axis[:, None, None] + axis[None, :, None] + np.arange(reach + 1)[None, None, :] ** 2)
    shell = np.floor(radius + 0.5).astype(np.int64).ravel()
    difference = np.abs(halves[0] - halves[1]).ravel() ** 2 / 2
    total = (np.abs(halves[0]) ** 2 + np.abs(halves[1]) ** 2).ravel() / 2
    noise, signal = (np.bincount(shell, weights=v)[:shells] for v in (difference, total))
    return np.divide(signal - noise, signal, out=np.zeros(shells), where=signal > 0)
