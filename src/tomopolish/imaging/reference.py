"""The reference's transform, prepared for slicing (docs/dev/conventions.md, References and weights)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.fft import rfftn

from tomopolish.dataset.model import References
from tomopolish.errors import InputError
from tomopolish.imaging.kernels import compare as compare_kernels
from tomopolish.physics.fourier import radius_half_space
from tomopolish.shapes import Array, Complex64, Float, Float32, Int

TAPER_WIDTH_PX = 10
GRIDDING_FLOOR = 0.02
MOST_SLICES = 32
"""Slices of the maps, evenly spread, from which quantities of the complete maps are estimated."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceTransform:
    """Unitary transforms of both half maps inside a cube of frequencies.

    Attributes
    ----------
    values
        ``[half, kz + reach, ky + reach, kx]`` with kx = 0 … reach: the half space kx ≥ 0, phase origin at the
        map's voxel ⌊s/2⌋. The half kx < 0 follows from Friedel symmetry.
    reach
        Largest frequency stored, Fourier px.
    box_px
        Edge s of the box.
    """

    values: Complex64[Array, "2 n n m"]
    reach: int
    box_px: int

    @property
    def flat(self) -> Float32[Array, "N"]:
        """The values in the kernels' format: one row of real and imaginary parts in turn."""
        return self.values.view(np.float32).reshape(-1)


def falloff(radius2: Array, inner: float, outer: float) -> Array:
    """Return a factor of squared distances that falls from 1 at an inner radius to 0 at an outer one."""
    radius = np.sqrt(radius2)
    ramp = np.clip((radius - np.float32(inner)) / np.float32(outer - inner), 0, 1)
    return 0.5 + 0.5 * np.cos(np.float32(np.pi) * ramp)


def masked_half_maps(references: References) -> Float32[Array, "2 s s s"]:
    """Return both half maps, multiplied by the mask if there is one."""
    if references.mask is None:
        return references.half_maps
    return references.half_maps * references.mask


def pad_to_box(maps: Float32[Array, "2 n n n"], box_px: int) -> Float32[Array, "2 box box box"]:
    """Return cubes padded with zeros, centred on voxel ⌊n/2⌋, to `box_px`.

    Raises
    ------
    InputError
        When the box is smaller than the maps.
    """
    size = maps.shape[-1]
    if size == box_px:
        return maps
    if size > box_px:
        raise InputError(
            f"--b {box_px} is smaller than the reference maps ({size} px): give --b {size} or more."
        )
    start = box_px // 2 - size // 2
    padded = np.zeros((len(maps), box_px, box_px, box_px), dtype=np.float32)
    inside = slice(start, start + size)
    padded[:, inside, inside, inside] = maps
    return padded


def prepare_half_maps(
    references: References, box_px: int, last_frequency: float, threads: int = 1
) -> ReferenceTransform:
    """Mask, pad, taper, correct for trilinear interpolation, and transform both half maps.

    Parameters
    ----------
    last_frequency
        Largest frequency of slices, Fourier px; the transform includes all frequencies that they need.
    """
    maps = pad_to_box(masked_half_maps(references), box_px)
    # Functions of the radius, for all distances along z and y; the radius' square is an integer.
    square = np.arange(box_px // 2 + 1) ** 2
    along_x = (np.arange(box_px) - box_px // 2) ** 2
    radius2 = square[:, None, None] + square[None, :, None] + along_x
    all_radii2 = np.arange(3 * square[-1] + 1, dtype=np.float32)
    window_at = falloff(all_radii2, box_px / 2 - TAPER_WIDTH_PX, box_px / 2)
    gridding_at = np.sinc(np.sqrt(all_radii2) / np.float32(box_px)) ** 2 + np.float32(GRIDDING_FLOOR)
    window, factor = window_at[radius2], (window_at / gridding_at)[radius2]
    times = np.full(box_px // 2 + 1, 2.0)  # how often each distance occurs
    times[0] = times[-1] = 1.0
    window_sum = float(times @ np.sum(window, axis=2, dtype=np.float64) @ times)
    reach = min(int(np.ceil(last_frequency)) + 1, box_px // 2)
    frequencies = np.arange(-reach, reach + 1)
    # The origin is the central voxel, half a box away, so that every second frequency changes its sign.
    sign = (1 - 2 * (frequencies % 2)).astype(np.float32)
    scale = np.float32(box_px**-1.5) * sign[:, None, None] * sign[:, None] * sign[reach:]
    values = np.empty((2, *scale.shape), dtype=np.complex64)
    volume = np.empty_like(maps[0])
    for half in range(2):
        compare_kernels.taper(maps[half], window, factor, window_sum, volume)
        transform = rfftn(volume, workers=threads)
        part = transform[np.ix_(frequencies, frequencies, frequencies[reach:])]
        np.multiply(part, scale, out=values[half])
    return ReferenceTransform(values=values, reach=reach, box_px=box_px)


def sampled_slices(size: int) -> Int[Array, "N"]:
    """Return the slices of a map of this edge from which quantities of the complete map are estimated."""
    return np.unique(np.linspace(0, size - 1, min(size, MOST_SLICES)).round().astype(np.int64))


def interpolation_gain(references: References, box_px: int) -> float:
    """Return the factor that makes predictions, whose frequencies are interpolated, as strong as the map.

    Trilinear interpolation multiplies a map by sinc²(x/s) sinc²(y/s) sinc²(z/s), for most of which
    `prepare_half_maps` makes up: it divides by sinc²(r/s) + 0.02. The result is the power that the half maps
    share, over that which they share with what is left of them; it is 1 where they share none.
    """
    first, second = references.half_maps
    size = len(first)
    place = (np.arange(size) - size // 2) / box_px
    along = np.sinc(place) ** 2
    radius2 = place[:, None] ** 2 + place**2
    power = weaker = 0.0
    for z in sampled_slices(size):
        common = first[z].astype(np.float64) * second[z]
        if references.mask is not None:
            common *= references.mask[z].astype(np.float64) ** 2
        left = along[z] * np.multiply.outer(along, along)
        left /= np.sinc(np.sqrt(radius2 + place[z] ** 2)) ** 2 + GRIDDING_FLOOR
        power, weaker = power + float(common.sum()), weaker + float(np.vdot(common, left))
    return power / weaker if power > 0 and weaker > 0 else 1.0


def cropped(transform: ReferenceTransform, last_frequency: float) -> ReferenceTransform:
    """Return the cube of frequencies that slices up to `last_frequency` (Fourier px) need."""
    reach = min(int(np.ceil(last_frequency)) + 1, transform.reach)
    inside = slice(transform.reach - reach, transform.reach + reach + 1)
    values = np.ascontiguousarray(transform.values[:, inside, inside, : reach + 1])
    return ReferenceTransform(values=values, reach=reach, box_px=transform.box_px)


def shell_signal_to_noise(transform: ReferenceTransform) -> Float[Array, "shells"]:
    """Return the signal-to-noise per shell from the two half maps' difference: (τ² − σ²)/τ².

    Parameters
    ----------
    transform
        Transform with all frequencies of the box.
    """
    reach, shells = transform.reach, transform.box_px // 2 + 1
    halves = transform.values[:, :-1, :-1]  # +s/2 repeats −s/2
    radius = np.fft.fftshift(radius_half_space(2 * reach), axes=(0, 1))
    shell = np.floor(radius + 0.5).astype(np.int64).ravel()
    difference = np.abs(halves[0] - halves[1]).ravel() ** 2 / 2
    total = (np.abs(halves[0]) ** 2 + np.abs(halves[1]) ** 2).ravel() / 2
    noise, signal = (np.bincount(shell, weights=v)[:shells] for v in (difference, total))
    return np.divide(signal - noise, signal, out=np.zeros(shells), where=signal > 0)
