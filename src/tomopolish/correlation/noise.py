"""Noise power of tilt images: the mean periodogram of their tiles (spec §4)."""

from __future__ import annotations

from concurrent.futures import Executor

import numpy as np
import scipy.fft
from jaxtyping import Float, Float32

from tomopolish.fourier import shell_average

Array = np.ndarray


def noise_power(image: Float32[Array, "h w"], box: int, pool: Executor) -> Float[Array, "shells"]:
    """Radially averaged mean periodogram of all whole s×s tiles at multiples of ⌊s/2⌋.

    No window is applied and the mean is kept, so shell 0 holds the images' mean level; it is never used.

    Parameters
    ----------
    image
        One tilt image.
    box
        Edge s of the tiles, px.
    pool
        Threads over which rows of tiles are spread; the sum does not depend on their number.
    """
    height, width = image.shape
    step = box // 2
    rows = range(0, height - box + 1, step)
    columns = len(range(0, width - box + 1, step))
    tiles = np.lib.stride_tricks.sliding_window_view(image, (box, box))[::step, ::step]

    def row_power(row: int) -> Array:
        transform = scipy.fft.rfft2(tiles[row], norm="ortho", workers=1)
        power: Array = np.einsum("tyx->yx", transform.real**2 + transform.imag**2, dtype=np.float64)
        return power

    total = np.zeros((box, box // 2 + 1))
    for power in pool.map(row_power, range(len(rows))):
        total += power
    return shell_average(total / (len(rows) * columns), box)
