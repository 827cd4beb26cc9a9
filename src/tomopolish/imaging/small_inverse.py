"""The inverse Fourier transform at the samples of a window only, as products with small matrices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tomopolish.imaging.device_arrays import DeviceArray
from tomopolish.physics.fourier import column_multiplicity
from tomopolish.shapes import Array, Float, Float32


@dataclass(frozen=True, kw_only=True, eq=False)
class SmallInverse:
    """Matrices of `kernels.compare.small_inverse`: cosines and sines of 2π k δ/box_px, for δ ≥ 0 only.

    With c and s as these, the inverse transform at (δx, δy) is
    c_y Re E c_x − s_y Im D c_x − c_y Im E s_x − s_y Re D s_x.
    At −δx or −δy only the signs of the terms with s_x or s_y differ, so that four products with a quarter of
    the displacements give all of them.
    """

    rows: Float32[Array, "2 H R"]  # c_y, s_y
    columns: Float32[Array, "2 C H"]  # c_x, s_x, columns counted as often as the full plane has them


def small_inverse_matrices(
    box_px: int, rows: int, columns: int, displacements_px: Float[Array, "n"]
) -> SmallInverse:
    """Return the matrices for products with `rows` × `columns` frequencies.

    `displacements_px` are those of `window_samples`: −h, …, 0, …, h − 1 steps.
    """
    turn = 2 * np.pi / box_px
    assert np.allclose(displacements_px[1:], -displacements_px[:0:-1]), "samples at δ and −δ"
    sizes = -displacements_px[len(displacements_px) // 2 :: -1]
    x_phase = turn * np.outer(np.arange(columns), sizes)
    y_phase = turn * np.outer(sizes, np.arange(rows))
    count = column_multiplicity(box_px)[:columns, None]
    return SmallInverse(
        rows=np.stack([np.cos(y_phase), np.sin(y_phase)]).astype(np.float32),
        columns=np.stack([count * np.cos(x_phase), count * np.sin(x_phase)]).astype(np.float32),
    )


def unfold(terms: DeviceArray, windows: DeviceArray) -> DeviceArray:
    """Write windows (P, n, n) from the four terms (4, P, h, h) of `SmallInverse` at displacements ≥ 0."""
    cosines, in_y, in_x, in_both = terms
    half = windows.shape[-1] // 2
    even, odd = cosines - in_y, in_x + in_both
    windows[:, half:, half:] = (even - odd)[:, :half, :half]
    windows[:, half:, half::-1] = (even + odd)[:, :half]
    even, odd = cosines + in_y, in_x - in_both
    windows[:, half::-1, half:] = (even - odd)[:, :, :half]
    windows[:, half::-1, half::-1] = even + odd
    return windows
