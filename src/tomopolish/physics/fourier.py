"""Fourier conventions: unitary transforms, half planes, shells.

See docs/dev/conventions.md, References and weights, Correlation windows.

The half plane of an s×s image is what ``rfft2`` gives: shape (s, s//2 + 1), rows ky = 0 … s/2 − 1, −s/2 … −1,
columns kx = 0 … s/2. Boxes are even. Radii are in Fourier px (1 px = 1/(box · pixel size) in 1/Å).
"""

from __future__ import annotations

import numpy as np

from tomopolish.shapes import Array, Float, Int

FSC_THRESHOLD = 0.143
"""FSC of two half maps at which the resolution of their mean is stated."""


def row_frequencies(box_px: int) -> Int[Array, "box"]:
    """Return the signed ky of each row of the half plane, Fourier px."""
    ky = np.arange(box_px)
    return np.where(ky < (box_px + 1) // 2, ky, ky - box_px)


def radius_half_plane(box_px: int) -> Float[Array, "box columns"]:
    """Return the radius |k| of every pixel of the half plane, Fourier px."""
    ky = row_frequencies(box_px).astype(np.float64)
    kx = np.arange(box_px // 2 + 1, dtype=np.float64)
    return np.hypot(ky[:, None], kx[None, :])


def column_multiplicity(box_px: int) -> Float[Array, "columns"]:
    """Return how often each half-plane column occurs in the full plane: 1 for kx = 0 and s/2, 2 between."""
    weight = np.full(box_px // 2 + 1, 2.0)
    weight[0] = 1.0
    if box_px % 2 == 0:
        weight[-1] = 1.0
    return weight


def shell_average(values: Float[Array, "box columns"], box_px: int) -> Float[Array, "shells"]:
    """Return the mean of shells 0 … s/2; each pixel is shared linearly between its two nearest shells.

    See docs/dev/conventions.md, References and weights. The half plane is averaged as stored: each stored
    pixel counts once. Shells that received no pixel are 0.
    """
    n = box_px // 2 + 1
    radius = radius_half_plane(box_px).ravel()
    lower = np.floor(radius).astype(np.int64)
    fraction = radius - lower
    flat = np.asarray(values, dtype=np.float64).ravel()
    total = np.zeros(n + 1)
    weight = np.zeros(n + 1)
    for index, share in ((lower, 1 - fraction), (lower + 1, fraction)):
        keep = index < n
        total[:n] += np.bincount(index[keep], weights=(share * flat)[keep], minlength=n)[:n]
        weight[:n] += np.bincount(index[keep], weights=share[keep], minlength=n)[:n]
    return np.divide(total[:n], weight[:n], out=np.zeros(n), where=weight[:n] > 0)


def shell_interpolate(shells: Float[Array, "shells"], box_px: int) -> Float[Array, "box columns"]:
    """Spread a radial curve over the half plane by linear interpolation; constant beyond the last shell."""
    radius = radius_half_plane(box_px)
    return np.interp(radius, np.arange(len(shells)), shells)


def last_shell_above(curve: Float[Array, "shells"], threshold: float) -> int:
    """Return the last shell before a curve first falls below a threshold; shell 0 always counts."""
    below = np.flatnonzero(curve[1:] < threshold)
    return int(below[0]) if len(below) else len(curve) - 1


def radius_half_space(size: int) -> Float[Array, "s s h"]:
    """Return the radius of every pixel of a map's half-space transform, as ``rfftn`` gives it, Fourier px."""
    k = row_frequencies(size)
    radius: Array = np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + np.arange(size // 2 + 1) ** 2)
    return radius


def shell_sums(values: Float[Array, "s s h"]) -> Float[Array, "shells"]:
    """Return the sums over shells 0 … s/2 of a map's full transform, from values of its half space."""
    size, shells = len(values), values.shape[-1]
    shell = np.rint(radius_half_space(size)).astype(np.int64).ravel()
    return np.bincount(shell, (values * column_multiplicity(size)).ravel(), shells)[:shells]
