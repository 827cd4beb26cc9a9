"""Noise power of tilt images: the mean periodogram of their tiles (spec §4)."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import scipy.fft

from tomopolish.correlation import kernels_cpu
from tomopolish.fourier import shell_average
from tomopolish.shapes import Float, Float32

Array = np.ndarray

TILE_ROWS_PER_TASK = 6
ENOUGH_TILES = 256
"""Tiles that overlap by half are used unless they are more than this; then tiles that only touch."""
ENOUGH_IN_SERIES = 1500
"""Of tiles that only touch, so many of a whole series tell its mean: every shell to a percent or better."""

FEWEST_ROWS = 4
"""Rows of tiles, where there are so many, that every image contributes."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """An image's place among those whose noise is averaged.

    Attributes
    ----------
    index, count
        Place from 0, and number of images.
    """

    index: int
    count: int


def noise_power(
    image: Float32[Array, "h w"], box: int, last_frequency: float, pool: Executor, turn: Turn | None = None
) -> Float[Array, "shells"]:
    """Radially averaged mean periodogram of the image's s×s tiles (`tile_grid`).

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
    turn
        Where the result is averaged with that of other images: its place among them. None: it stands alone.
    """
    grid = tile_grid(image.shape, box, last_frequency, turn)
    at_once = TILE_ROWS_PER_TASK if grid.shares_rows else 1

    def strip_power(first: int) -> Array:
        count = min(at_once, grid.rows - first)
        top = grid.top + first * grid.step_down
        return _strip_power(image[top : top + (count - 1) * grid.step_down + box], box, grid)

    total = np.zeros((box, grid.frequencies))
    for power in pool.map(strip_power, range(0, grid.rows, at_once)):
        total += power
    return shells_of_tiles(total, grid)


@dataclass(frozen=True, kw_only=True)
class TileGrid:
    """How an image is cut into tiles, and which of their frequencies are needed.

    Attributes
    ----------
    top
        First row of pixels.
    step, step_down
        Distance of tiles along a row, and of rows of tiles, px.
    rows, columns
        Number of tiles.
    frequencies
        Columns kx = 0 … frequencies − 1 of the transforms are needed.
    shares_rows
        Whether tiles overlap those above them.
    """

    top: int
    step: int
    step_down: int
    rows: int
    columns: int
    frequencies: int
    shares_rows: bool


def tile_grid(
    image_shape: tuple[int, ...], box: int, last_frequency: float, turn: Turn | None = None
) -> TileGrid:
    """All whole tiles at multiples of ⌊s/2⌋; where there are plenty, fewer.

    Tiles that overlap by half make the estimate's variance about a third smaller, for four times the work.
    Where tiles are many (`ENOUGH_TILES`), shells are known to a percent or two without that; and where
    images are averaged, their `turn` says which rows of tiles are left to the others.
    """
    height, width = image_shape
    step = box // 2
    every, plenty = 1, ((height - box) // step + 1) * ((width - box) // step + 1) > ENOUGH_TILES
    if plenty:
        step = box
        rows, columns = (height - box) // step + 1, (width - box) // step + 1
        wanted = rows * columns * (turn.count if turn else 1) // ENOUGH_IN_SERIES
        # Some rows of each image: what lies at its top must not stand for the whole of it.
        every = max(1, min(wanted, rows // FEWEST_ROWS))
    first = turn.index % every if turn else 0
    return TileGrid(
        top=first * step,
        step=step,
        step_down=every * step,
        rows=((height - box) // step - first) // every + 1,
        columns=(width - box) // step + 1,
        frequencies=min(int(np.ceil(last_frequency)) + 2, box // 2 + 1),
        shares_rows=not plenty,
    )


def shells_of_tiles(power: Float[Array, "box columns"], grid: TileGrid) -> Float[Array, "shells"]:
    """Radial average of the tiles' summed power, with unnormalised transforms; zero beyond the last shell."""
    box, columns = power.shape
    total = np.zeros((box, box // 2 + 1))
    total[:, :columns] = power
    shells = shell_average(total / (grid.rows * grid.columns * box**2), box)
    shells[columns - 1 if columns <= box // 2 else columns :] = 0
    return shells


def _strip_power(strip: Array, box: int, grid: TileGrid) -> Array:
    """Sum of the (unnormalised) periodograms of all tiles in a strip of the image, (s, frequencies).

    One row of tiles is at work at a time, in the same two buffers: fresh memory costs more than the sums.
    """
    segments = np.lib.stride_tricks.sliding_window_view(strip, box, axis=1)[:, :: grid.step]
    rows = np.empty((box, segments.shape[1], grid.frequencies), dtype=np.complex64)
    work = np.empty_like(rows)
    total = np.zeros((box, grid.frequencies))
    shared = 0  # rows that the tiles above have transformed already
    for top in range(0, len(strip) - box + 1, grid.step_down):
        fresh = segments[top + shared : top + box]
        rows[shared:] = scipy.fft.rfft(fresh, axis=2, workers=1)[:, :, : grid.frequencies]
        np.copyto(work, rows)
        transform = scipy.fft.fft(work, axis=0, overwrite_x=True, workers=1)
        kernels_cpu.add_power(transform.view(np.float32), total)
        if grid.shares_rows:
            shared = box - grid.step
            rows[:shared] = rows[grid.step :][:shared]
    return total
