"""The rotation and shift between two maps of one structure, from their low resolution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from scipy import ndimage

from tomopolish.imaging.fsc import ShellCorrelation
from tomopolish.physics.fourier import last_shell_above, radius_half_space
from tomopolish.physics.geometry import rotation_from_vector, rotation_vector
from tomopolish.shapes import Array, Float, Float32

RELIABLE_FSC = 0.5
"""Shells up to the first below it are compared."""
STEPS, ENOUGH = 12, 1e-5
"""Largest number of Gauss–Newton steps, and the step (radians, share of the box) after which they end."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Registration:
    """The second map at R x + t shows what the first shows at x, both from voxel ⌊s/2⌋.

    Attributes
    ----------
    rotation, shift_px
        R and t, of (x, y, z).
    moved_px
        Root mean square of |R x + t − x| over the masked density.
    """

    rotation: Float[Array, "3 3"]
    shift_px: Float[Array, "3"]
    moved_px: float

    @property
    def angle_degrees(self) -> float:
        """Angle of the rotation."""
        return float(np.rad2deg(np.linalg.norm(rotation_vector(self.rotation))))


def register(
    first: Float32[Array, "s s s"],
    second: Float32[Array, "s s s"],
    fsc: ShellCorrelation,
    mask: Float32[Array, "s s s"],
) -> Registration:
    """Return the small rotation and shift by which two maps differ, by least squares.

    Only shells of an FSC above 0.5 are compared, weighted by it: the six numbers cannot bring noise of
    higher resolution into agreement.
    """
    size = first.shape[-1]
    one, two = (_low_passed(volume, fsc) for volume in (first, second))
    weight = mask.astype(np.float64)
    grid = np.indices(first.shape, dtype=np.float64)[::-1] - size // 2  # x, y, z
    rotation, shift = np.eye(3), np.zeros(3)
    coefficients = ndimage.spline_filter(two)
    for _ in range(STEPS):
        moved = _resampled(coefficients, rotation, shift)
        slopes = np.stack(np.gradient(moved)[::-1])
        turning = np.cross(grid, slopes, axis=0)  # how the map changes with a turn about x, y and z
        basis = np.concatenate([turning, slopes]).reshape(6, -1)
        scaled = basis * weight.ravel()
        scale = float((weight * one * moved).sum() / max((weight * moved**2).sum(), np.finfo(float).tiny))
        residual = (one - scale * moved).ravel()
        normal = scale * (scaled @ basis.T)
        step = np.linalg.lstsq(normal, scaled @ residual, rcond=1e-10)[0]
        turn = rotation_from_vector(step[:3])
        rotation, shift = rotation @ turn, shift + rotation @ step[3:]
        if max(np.abs(step[:3]).max(), np.abs(step[3:]).max() / size) < ENOUGH:
            break
    there = np.tensordot(rotation - np.eye(3), grid, axes=1) + shift[:, None, None, None]
    density = weight * one**2
    moved_px = float(np.sqrt((density * (there**2).sum(axis=0)).sum() / max(density.sum(), 1e-300)))
    return Registration(rotation=rotation, shift_px=shift, moved_px=moved_px)


def _resampled(coefficients: Array, rotation: Array, shift: Array) -> Array:
    """Return a map, given by spline coefficients, at R x + t."""
    centre = np.full(3, coefficients.shape[-1] // 2)
    matrix = rotation[::-1, ::-1]  # of (z, y, x)
    offset = centre + shift[::-1] - matrix @ centre
    result: Array = ndimage.affine_transform(coefficients, matrix, offset, prefilter=False)
    return result


def _low_passed(volume: Float32[Array, "s s s"], fsc: ShellCorrelation) -> Float[Array, "s s s"]:
    curve = np.clip(fsc.corrected, 0.0, 1.0)
    curve[max(last_shell_above(curve, RELIABLE_FSC) + 1, 2) :] = 0.0
    size = volume.shape[-1]
    weight = np.interp(radius_half_space(size), np.arange(len(curve)), curve, right=0.0)
    return scipy.fft.irfftn(scipy.fft.rfftn(volume) * weight, s=(size,) * 3)
