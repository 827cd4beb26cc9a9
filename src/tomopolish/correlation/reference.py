"""The reference's Fourier transform, ready to be sliced (spec §4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft

from tomopolish.dataset.model import References
from tomopolish.errors import InputError
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


def _mirrored(octant: Array, box: int) -> Array:
    """Cube of values that depend on |x|, |y| and |z|, from those at 0 … ⌊s/2⌋ each."""
    distance = np.abs(np.arange(box) - box // 2)
    return octant.take(distance, axis=2).take(distance, axis=1).take(distance, axis=0)


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


def prepare_half_maps(references: References, box: int) -> Complex64[Array, "2 box box m"]:
    """Mask, pad, taper, correct for trilinear interpolation, and transform both half maps (spec §4).

    Returns
    -------
    Unitary transforms in rfftn's layout, phase origin at the map's voxel ⌊s/2⌋.
    """
    maps = pad_to_box(masked_half_maps(references), box)
    # Functions of the radius are evaluated in one octant and mirrored.
    distance2 = np.arange(box // 2 + 1, dtype=np.float32) ** 2
    octant = distance2[:, None, None] + distance2[None, :, None] + distance2[None, None, :]
    window = _mirrored(_falloff(octant, box / 2 - TAPER_WIDTH_PX, box / 2), box)
    correction = np.sinc(np.sqrt(octant) / np.float32(box)) ** 2 + np.float32(GRIDDING_FLOOR)
    correction = _mirrored(correction, box)
    weight = np.sum(window, dtype=np.float64)
    transforms = np.empty((2, box, box, box // 2 + 1), dtype=np.complex64)
    tapered = np.empty((box, box, box), dtype=np.float32)
    for half, volume in enumerate(maps):
        np.multiply(window, volume, out=tapered)
        mean = np.float32(np.sum(tapered, dtype=np.float64) / weight)
        np.subtract(volume, mean, out=tapered)
        tapered *= window
        tapered /= correction
        transforms[half] = scipy.fft.rfftn(np.fft.ifftshift(tapered), norm="ortho")
    return transforms


def crop_transforms(transforms: Complex64[Array, "2 box box m"], last_frequency: float) -> ReferenceTransform:
    """Keep the cube of frequencies that slices up to `last_frequency` (Fourier px) interpolate between."""
    box = transforms.shape[1]
    reach = min(int(np.ceil(last_frequency)) + 1, box // 2)
    index = np.arange(-reach, reach + 1) % box
    values = np.ascontiguousarray(transforms[:, index[:, None], index[None, :], : reach + 1])
    return ReferenceTransform(values=values, reach=reach, box=box)


def shell_signal_to_noise(transforms: Complex64[Array, "2 box box m"]) -> Float[Array, "shells"]:
    """Signal-to-noise per shell from the two half maps' difference: (τ² − σ²)/τ² (spec §4)."""
    box = transforms.shape[1]
    axis = np.fft.fftfreq(box, 1 / box) ** 2
    last = np.arange(box // 2 + 1) ** 2
    radius = np.sqrt(axis[:, None, None] + axis[None, :, None] + last[None, None, :])
    shell = np.floor(radius + 0.5).astype(np.int64).ravel()
    shells = box // 2 + 1
    difference = np.abs(transforms[0] - transforms[1]).ravel() ** 2 / 2
    total = (np.abs(transforms[0]) ** 2 + np.abs(transforms[1]) ** 2).ravel() / 2
    noise, signal = (np.bincount(shell, weights=v)[:shells] for v in (difference, total))
    return np.divide(signal - noise, signal, out=np.zeros(shells), where=signal > 0)
