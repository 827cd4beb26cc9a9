"""Noise power of tilt images: the mean periodogram of their tiles (spec §4)."""

from __future__ import annotations

from concurrent.futures import Executor

import numpy as np
import scipy.fft
from jaxtyping import Float, Float32

from tomopolish.correlation import kernels_cpu
from tomopolish.fourier import shell_average

Array = np.ndarray

TILE_ROWS_PER_TASK = 6


def noise_power(
    image: Float32[Array, "h w"], box: int, last_frequency: float, pool: Executor
) -> Float[Array, "shells"]:
    """Radially averaged mean periodogram of all whole s×s tiles at multiples of ⌊s/2⌋.

    No window is applied and the mean is kept, so shell 0 holds the images' mean level; it is never used.
    Tiles that overlap above each other share their transforms along rows, and columns beyond the last
    frequency are left out.

    Parameters
    ----------
    image
        One tilt image.
    box
        Edge s of the tiles, px.
    last_frequency
        Shells beyond it are not needed, and hold zero.
    pool
        Threads over which rows of tiles are spread; the sum does not depend on their number.
    """
    height, width = image.shape
    step = box // 2
    tile_rows = (height - box) // step + 1
    tiles = tile_rows * ((width - box) // step + 1)
    columns = min(int(np.ceil(last_frequency)) + 2, box // 2 + 1)

    def strip_power(first: int) -> Array:
        count = min(TILE_ROWS_PER_TASK, tile_rows - first)
        return _strip_power(image[first * step : (first + count - 1) * step + box], box, columns)

    total = np.zeros((box, box // 2 + 1))
    for power in pool.map(strip_power, range(0, tile_rows, TILE_ROWS_PER_TASK)):
        total[:, :columns] += power
    shells = shell_average(total / (tiles * box**2), box)
    shells[columns - 1 if columns <= box // 2 else columns :] = 0
    return shells


def _strip_power(strip: Array, box: int, columns: int) -> Array:
    """Sum of the (unnormalised) periodograms of all tiles in a strip of the image, (s, columns)."""
    step = box // 2
    segments = np.lib.stride_tricks.sliding_window_view(strip, box, axis=1)[:, ::step]
    rows = scipy.fft.rfft(segments, axis=2, workers=1)
    total = np.zeros((box, columns))
    for top in range(0, len(strip) - box + 1, step):
        transform = scipy.fft.fft(rows[top : top + box, :, :columns], axis=0, workers=1)
        kernels_cpu.add_power(transform.view(np.float32), total)
    return total
