"""Noise power of tilt images: the mean periodogram of their tiles.

See docs/conventions.md, References and weights.
"""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from tomopolish.imaging.fft_plan import fft_plan
from tomopolish.imaging.kernels import boxes as box_kernels
from tomopolish.imaging.kernels import compare as compare_kernels
from tomopolish.physics.fourier import shell_average
from tomopolish.shapes import Float, Float32

Array = np.ndarray

TILES_PER_TASK = 16
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
    Frequencies beyond the last one are left out.

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
    tops = grid.top + grid.step_down * np.arange(grid.rows)
    corners = np.stack(np.meshgrid(grid.step * np.arange(grid.columns), tops), axis=-1).reshape(-1, 2)
    everything, nothing = np.ones((box, box), np.float32), np.empty((0, box), np.float32)
    tables, used = fft_plan(box).tables, grid.frequencies

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
    plane = np.zeros((box, used))
    plane[-np.arange(used) % box], plane[:used] = total[1], total[0]
    return shells_of_tiles(plane, grid)


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

    def pixel_rows(self, box: int) -> list[slice]:
        """Rows of pixels that the tiles cover."""
        if self.step_down <= box:
            return [slice(self.top, self.top + (self.rows - 1) * self.step_down + box)]
        tops = range(self.top, self.top + self.rows * self.step_down, self.step_down)
        return [slice(top, top + box) for top in tops]


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
