"""Correlation windows on a CUDA device: CuPy's transforms and matrix products around our own kernels.

`CudaCorrelator` holds the computation and sees the device through `DeviceArrays` only: numpy stands in for it
where numba imitates the kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from tomopolish.imaging.device_arrays import DeviceArray, DeviceArrays
from tomopolish.imaging.frequencies import TiltFrequencies
from tomopolish.imaging.held_out import HeldOutWindows
from tomopolish.imaging.kernels import compare_cuda as cuda_kernels
from tomopolish.imaging.noise import Turn, shells_of_tiles, tile_grid
from tomopolish.imaging.reference import ReferenceTransform
from tomopolish.imaging.windows import (
    BoxMask,
    PairBatch,
    SmallInverse,
    TiltTask,
    pair_batch,
    small_inverse_matrices,
)

Array = np.ndarray

BATCH_BYTES = 2**28
"""Boxes cut at once. With transforms, work space and products a batch takes about six times as much."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _TiltOnDevice:
    """What all pairs of one tilt image share, uploaded."""

    image: DeviceArray
    mask: tuple[DeviceArray, DeviceArray]
    reference: DeviceArray
    reach: int
    columns_used: DeviceArray
    weights: DeviceArray
    phase: DeviceArray
    odd: DeviceArray
    inverse: tuple[DeviceArray, DeviceArray]


class CudaCorrelator:
    """Compares tilt images with references on one CUDA device; see `devices.Correlator`.

    Attributes
    ----------
    arrays
        The device.
    """

    images_at_once = 1

    def __init__(self, arrays: DeviceArrays) -> None:
        self.arrays = arrays
        self._resident: WeakKeyDictionary[ReferenceTransform | BoxMask, Any] = WeakKeyDictionary()
        self._inverses: tuple[Any, Any] = (None, None)

    def active(self) -> AbstractContextManager[object]:
        """Make the device the calling thread's until the context closes."""
        return self.arrays.active()

    def host_memory(self, shape: tuple[int, ...]) -> Array:
        """Memory of the host that the device reads by itself; float32, uninitialised."""
        return self.arrays.host_memory(shape)

    def noise_power(self, image: Array, box: int, last_frequency: float, turn: Turn | None = None) -> Array:
        """Mean periodogram of an image's tiles by shell; see `noise.noise_power`."""
        arrays, xp = self.arrays, self.arrays.xp
        grid = tile_grid(image.shape, box, last_frequency, turn)
        # What other images show instead need not go over the bus.
        strips = [image[rows] for rows in grid.pixel_rows(box)]
        step_down = grid.step_down if grid.shares_rows else box
        on_device = self._send(strips)
        down, right = on_device.strides
        total = xp.zeros((box, grid.frequencies), dtype=np.float64)
        at_once = max(1, BATCH_BYTES // (4 * grid.columns * box**2))
        for first in range(0, grid.rows, at_once):
            tiles = xp.lib.stride_tricks.as_strided(
                on_device[first * step_down :],
                shape=(min(at_once, grid.rows - first), grid.columns, box, box),
                strides=(step_down * down, grid.step * right, down, right),
            )
            transforms = xp.fft.rfft2(xp.ascontiguousarray(tiles.reshape(-1, box, box)))
            blocks = _blocks(box * grid.frequencies)
            arrays.launch(cuda_kernels.add_power, blocks, cuda_kernels.THREADS, transforms, total)
        return shells_of_tiles(arrays.download(total), grid)

    def correlate_tilt(
        self, task: TiltTask, values: Array, power: Array, held: HeldOutWindows | None = None
    ) -> None:
        """Fill windows and power of an image's visible particles; see `windows.correlate_tilt`."""
        seen = np.flatnonzero(task.geometry.visible[task.tilt])
        size = max(1, BATCH_BYTES // (4 * task.reference.box**2))
        shared = self._upload_shared(task)
        for start in range(0, len(seen), size):
            chunk = seen[start : start + size]
            batch, boxes = pair_batch(task, chunk), np.arange(len(chunk))
            spectra = self._spectra(batch, shared, task.reference.box)
            if held is None:
                values[chunk], power[chunk] = self._compare(batch, boxes, spectra, shared)
                continue
            mine, place = held.among(chunk)
            pairs = batch.joined_with(batch.of_other_half(mine))
            found, gained = self._compare(pairs, np.concatenate([boxes, mine]), spectra, shared)
            values[chunk], power[chunk] = found[: len(chunk)], gained[: len(chunk)]
            held.values[place], held.power[place] = found[len(chunk) :], gained[len(chunk) :]

    def _send(self, strips: Sequence[Array]) -> DeviceArray:
        """Rows of an image, one strip below the other."""
        rows = sum(map(len, strips))
        found, first = self.arrays.xp.empty((rows, strips[0].shape[1]), dtype=np.float32), 0
        for strip in strips:
            self.arrays.fill(found[first : first + len(strip)], strip)
            first += len(strip)
        return found

    def _upload_shared(self, task: TiltTask) -> _TiltOnDevice:
        upload, mask = self.arrays.upload, task.mask
        shared: TiltFrequencies = task.frequencies
        _, rows, columns = shared.weight.shape
        if mask not in self._resident:
            self._resident[mask] = upload(mask.falloff), upload(mask.outside)
        if task.reference not in self._resident:
            self._resident[task.reference] = upload(task.reference.flat)
        return _TiltOnDevice(
            image=self._send([task.image]),
            mask=self._resident[mask],
            reference=self._resident[task.reference],
            reach=task.reference.reach,
            columns_used=upload(shared.columns_used),
            weights=upload(np.stack([shared.weight, shared.signal_weight])),
            phase=upload(shared.phase),
            odd=upload(shared.odd),
            inverse=self._inverse(task.reference.box, rows, columns, task.displacements_px),
        )

    def _spectra(self, batch: PairBatch, shared: _TiltOnDevice, box: int) -> DeviceArray:
        """Cut the boxes of a batch of pairs and transform them, unnormalised."""
        arrays, xp, threads = self.arrays, self.arrays.xp, cuda_kernels.THREADS
        pairs = len(batch.corners)
        boxes = xp.empty((pairs, box, box), dtype=np.float32)
        corners = arrays.upload(batch.corners)
        arrays.launch(cuda_kernels.extract_boxes, pairs, threads, shared.image, corners, *shared.mask, boxes)
        return xp.fft.rfft2(boxes)

    def _compare(
        self, batch: PairBatch, boxes: Array, spectra: DeviceArray, shared: _TiltOnDevice
    ) -> tuple[Array, Array]:
        """Windows and power of a batch, given each pair's box; see `kernels_cuda.correlate_spectra`."""
        arrays, xp, threads = self.arrays, self.arrays.xp, cuda_kernels.THREADS
        pairs, box = len(boxes), spectra.shape[1]
        _, _, rows, columns = shared.weights.shape
        blocks = _blocks(rows * columns)
        product = xp.empty((2, 2 * rows, pairs, columns), dtype=np.float32)
        power = xp.empty((pairs, blocks), dtype=np.float32)
        centre = (batch.centre - box // 2).astype(np.float32)
        seen = np.concatenate([batch.views.reshape(pairs, 6), centre, batch.defocus], axis=1)
        arrays.launch(
            cuda_kernels.correlate_spectra,
            (pairs, blocks),
            threads,
            spectra,
            shared.reference,
            shared.reach,
            arrays.upload(np.stack([batch.half_set, batch.optics_group, boxes], axis=1).astype(np.int64)),
            arrays.upload(seen),
            shared.columns_used,
            shared.weights,
            shared.phase,
            shared.odd,
            product,
            power,
        )
        windows = self._small_inverse(product, shared)
        gained = arrays.download(power).sum(axis=1, dtype=np.float64)
        return arrays.download(windows).transpose(1, 0, 2), gained

    def _inverse(
        self, box: int, rows: int, columns: int, displacements_px: Array
    ) -> tuple[DeviceArray, DeviceArray]:
        """Matrices of the small inverse for `_small_inverse`; those met last stay on the device."""
        key = (box, rows, columns, displacements_px.tobytes())
        if self._inverses[0] != key:
            matrices: SmallInverse = small_inverse_matrices(box, rows, columns, displacements_px)
            self._inverses = (
                key,
                (
                    self.arrays.upload(np.stack([matrices.real_rows, matrices.imaginary_rows])),
                    self.arrays.upload(matrices.columns.reshape(2, columns, -1)),
                ),
            )
        return self._inverses[1]

    def _small_inverse(self, product: DeviceArray, shared: _TiltOnDevice) -> DeviceArray:
        """Products with matrices on both sides, as (n, pairs, n); see `windows.small_inverse`.

        All pairs side by side make one large product of many small ones.
        """
        xp, (by_rows, by_columns) = self.arrays.xp, shared.inverse
        _, twice, pairs, columns = product.shape
        partial = xp.matmul(by_rows, product.reshape(2, twice, pairs * columns))
        found = xp.matmul(partial.reshape(2, -1, columns), by_columns).sum(axis=0)
        return found.reshape(-1, pairs, found.shape[-1])


def _blocks(pixels: int) -> int:
    return -(-pixels // cuda_kernels.THREADS)
