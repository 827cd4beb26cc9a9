"""Half maps, mask and FSC of the simulated structure, as from an earlier subtomogram average."""

from __future__ import annotations

import numpy as np
import scipy.fft
import scipy.ndimage

from tomopolish.dataset.model import References
from tomopolish.imaging.fsc import transform_correlation
from tomopolish.physics.fourier import radius_half_space, shell_sums
from tomopolish.settings.simulated_structure import MoleculeSettings
from tomopolish.shapes import Array, Float, Float32

_FSC_THRESHOLD = 1 / 7  # 0.143
_LARGEST_RATIO = 1000.0  # maximum ratio of noise to signal power
_FLANK_FRACTION = 1 / 6  # width of the FSC's fall, in units of the resolution's shell
_MASK_MARGIN_PX = 3.0
_MASK_EDGE_PX = 5.0
_MASK_FILTER_PX = 6.0  # period of the low-pass whose contour the mask follows


def shell_power(density: Float32[Array, "s s s"]) -> Float[Array, "shells"]:
    """Return the mean |F|² in shells 0 … s/2 of a map, unitary transform."""
    transform = scipy.fft.rfftn(density, norm="ortho")
    power = transform.real**2 + transform.imag**2
    return shell_sums(power) / shell_sums(np.ones_like(power))


def molecule_mask(density: Float32[Array, "s s s"], shape: str) -> Float32[Array, "s s s"]:
    """Return a soft mask around a map, 1 inside and 0 towards the box's border.

    ``"molecule"`` follows the contour of the map after a low-pass; ``"sphere"`` encloses that contour.
    """
    size = density.shape[0]
    smooth = scipy.ndimage.gaussian_filter(density, _MASK_FILTER_PX / 3, mode="constant")
    solid = smooth > 0.05 * smooth.max()
    grid = np.indices(density.shape) - size // 2
    radius = np.sqrt(np.sum(grid**2, axis=0))
    if shape == "sphere":
        outside = np.maximum(radius - radius[solid].max(), 0)
    else:
        outside = scipy.ndimage.distance_transform_edt(~solid)
    rise = np.clip((outside - _MASK_MARGIN_PX) / _MASK_EDGE_PX, 0, 1)
    border = np.clip((size / 2 - 1 - radius) / _MASK_EDGE_PX, 0, 1)
    mask = (0.5 + 0.5 * np.cos(np.pi * rise)) * (0.5 - 0.5 * np.cos(np.pi * border))
    return np.asarray(mask, dtype=np.float32)


def half_map_noise_power(
    density: Float32[Array, "s s s"], mask: Float32[Array, "s s s"], resolution_px: float
) -> Float[Array, "shells"]:
    """Return the noise power by shell with which the masked half maps' FSC is 0.143 at the resolution.

    The FSC is 1/(1 + 6 exp((r − L)/(L/6))), with L the resolution's shell, down to 1/1000. The mask retains
    the signal, but only its own share of the noise.
    """
    size = density.shape[0]
    last = size / resolution_px
    shells = np.arange(size // 2 + 1)
    ratio = (1 / _FSC_THRESHOLD - 1) * np.exp((shells - last) / (last * _FLANK_FRACTION))
    power: Array = shell_power(density) * np.minimum(ratio, _LARGEST_RATIO)
    return power / np.mean(mask.astype(np.float64) ** 2)


def make_references(
    density: Float32[Array, "s s s"],
    mask: Float32[Array, "s s s"],
    settings: MoleculeSettings,
    pixel_size_angstrom: float,
    rng: np.random.Generator,
) -> References:
    """Make half maps with independent noise, the mask, and the FSC of the masked half maps."""
    size = density.shape[0]
    power = half_map_noise_power(density, mask, settings.resolution_px)
    amplitude = np.interp(radius_half_space(size), np.arange(len(power)), np.sqrt(power)).astype(np.float32)
    halves = np.empty((2, size, size, size), dtype=np.float32)
    for half in range(2):
        white = rng.standard_normal(density.shape, dtype=np.float32)
        noise = scipy.fft.irfftn(scipy.fft.rfftn(white) * amplitude, s=density.shape, overwrite_x=True)
        halves[half] = density + noise
    fsc = transform_correlation(*[scipy.fft.rfftn(half * mask) for half in halves])
    return References(
        half_maps=halves, pixel_size_angstrom=pixel_size_angstrom, mask=mask, fsc=fsc, fsc_box=size
    )
