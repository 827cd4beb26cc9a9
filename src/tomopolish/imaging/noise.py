"""Noise power of tilt images: the mean periodogram of their tiles, without those that show something unusual.

See docs/dev/conventions.md, References and weights.
"""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from tomopolish.imaging.fft_plan import fft_plan
from tomopolish.imaging.kernels import boxes as box_kernels
from tomopolish.imaging.kernels import compare as compare_kernels
from tomopolish.physics.fourier import shell_average
from tomopolish.shapes import Array, Bool, Float, Float32

TILES_PER_TASK = 16
ENOUGH_TILES = 256
"""Tiles overlap by half unless there would be more than this number; then they only touch."""
ENOUGH_IN_SERIES = 1500
"""Number of touching tiles of a series that determine its mean, every shell to a percent or better."""

UNUSUAL = 30.0
"""A tile takes part if its low frequencies have at most this many times the power of the image's median tile:
particles reach 20 times, beads some hundred times."""
BLOCKS = 8
"""Number of blocks along the edge of a tile, by whose means that power is measured."""

FEWEST_ROWS = 4
"""Minimum number of rows of tiles that every image contributes, if it has as many."""


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
    image: Float32[Array, "h w"], box_px: int, last_frequency: float, pool: Executor, turn: Turn | None = None
) -> Float[Array, "shells"]:
    """Return the radially averaged mean periodogram of the image's ordinary s×s tiles.

    No window is applied and the mean is not subtracted, so shell 0 is the image's mean level, which is not
    used.

    Parameters
    ----------
    image
        One tilt image.
    box_px
        Edge s of the tiles.
    last_frequency
        Last shell that is needed; shells beyond it are zero.
    pool
        Threads over which rows of tiles are spread; the sum does not depend on their number.
    turn
        Place of the image among those with which its result is averaged; None: it is used alone.
    """
    grid = tile_grid(image.shape, box_px, last_frequency, turn)
    tops = grid.top + grid.step_down * np.arange(grid.rows)
    corners = np.stack(np.meshgrid(grid.step * np.arange(grid.columns), tops), axis=-1)
    corners = corners[ordinary_tiles(image, box_px, grid)]
    everything, nothing = np.ones((box_px, box_px), np.float32), np.empty((0, 2), np.int64)
    tables, used = fft_plan(box_px).tables, grid.frequencies

    def power_of(first: int) -> Array:
        tiles = corners[first : first + TILES_PER_TASK]
        spectra = np.empty((len(tiles), 2, 2, used, used), dtype=np.float32)
        box_kernels.box_spectra(image, tiles, everything, nothing, *tables, spectra)
        power = np.zeros(2 * used**2)
        compare_kernels.add_power(spectra.reshape(len(tiles), 2, -1), power)
        return power.reshape(2, used, used)

    total = np.zeros((2, used, used))
    for power in pool.map(power_of, range(0, len(corners), TILES_PER_TASK)):
        total += power
    plane = np.zeros((box_px, used))
    plane[-np.arange(used) % box_px], plane[:used] = total[1], total[0]
    return shells_of_tiles(plane, grid.frequencies, len(corners))


@dataclass(frozen=True, kw_only=True)
class TileGrid:
    """Grid of tiles in an image, and the range of frequencies that is needed.

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
    """

    top: int
    step: int
    step_down: int
    rows: int
    columns: int
    frequencies: int

    def rows_of_tiles(self, box_px: int) -> list[slice]:
        """Return the rows of pixels of each row of tiles."""
        tops = range(self.top, self.top + self.rows * self.step_down, self.step_down)
        return [slice(top, top + box_px) for top in tops]

    def pixel_rows(self, box_px: int) -> list[slice]:
        """Return the rows of pixels that the tiles cover."""
        if self.step_down <= box_px:
            return [slice(self.top, self.top + (self.rows - 1) * self.step_down + box_px)]
        return self.rows_of_tiles(box_px)


def tile_grid(
    image_shape: tuple[int, ...], box_px: int, last_frequency: float, turn: Turn | None = None
) -> TileGrid:
    """Return the complete tiles at multiples of ⌊s/2⌋, or fewer where there are many.

    Tiles that overlap by half make the estimate's variance about a third smaller, for four times the work.
    With more than `ENOUGH_TILES` tiles, shells are accurate to a percent or two without overlap; where images
    are averaged, `turn` selects the rows of tiles of this image.
    """
    height, width = image_shape
    step = box_px // 2
    every = 1
    if ((height - box_px) // step + 1) * ((width - box_px) // step + 1) > ENOUGH_TILES:
        step = box_px
        rows, columns = (height - box_px) // step + 1, (width - box_px) // step + 1
        excess = rows * columns * (turn.count if turn else 1) // ENOUGH_IN_SERIES
        # Every image contributes several rows, so that its top does not represent all of it.
        every = max(1, min(excess, rows // FEWEST_ROWS))
    first = turn.index % every if turn else 0
    return TileGrid(
        top=first * step,
        step=step,
        step_down=every * step,
        rows=((height - box_px) // step - first) // every + 1,
        columns=(width - box_px) // step + 1,
        frequencies=min(int(np.ceil(last_frequency)) + 2, box_px // 2 + 1),
    )


def ordinary_tiles(image: Float32[Array, "h w"], box_px: int, grid: TileGrid) -> Bool[Array, "rows columns"]:
    """Return which tiles show no gold bead, no edge of a cover, and nothing else of that strength.

    Few beads, or a grid bar in one image of a series, raise the mean power of low frequencies a hundredfold,
    which would then count for nothing in all images. A tile is compared with the median of the image by the
    variance of the means of its `BLOCKS` × `BLOCKS` blocks, which is its power at low frequencies.
    """
    variance = np.array([_block_variance(image[rows], box_px, grid) for rows in grid.rows_of_tiles(box_px)])
    ordinary: Array = variance <= UNUSUAL * np.median(variance)
    return ordinary


def _block_variance(strip: Float32[Array, "box w"], box_px: int, grid: TileGrid) -> Float[Array, "columns"]:
    """Return the variance of the blocks' sums in each tile of a row of tiles."""
    edge = max(box_px // BLOCKS, 1)
    side = box_px // edge
    sums = strip[: side * edge].reshape(side, edge, -1).sum(axis=1, dtype=np.float64)
    tiles = np.lib.stride_tricks.sliding_window_view(sums, side * edge, axis=1)[:, :: grid.step]
    blocks = tiles[:, : grid.columns].reshape(side, grid.columns, side, edge).sum(axis=-1)
    result: Array = blocks.var(axis=(0, 2))
    return result


def shells_of_tiles(
    power: Float[Array, "box columns"], frequencies: int, tiles: int
) -> Float[Array, "shells"]:
    """Return the radial average of the tiles' summed unnormalised power; zero beyond the last shell."""
    box_px = len(power)
    total = np.zeros((box_px, box_px // 2 + 1))
    total[:, :frequencies] = power
    shells = shell_average(total / (tiles * box_px**2), box_px)
    shells[frequencies - 1 if frequencies <= box_px // 2 else frequencies :] = 0
    return shells
