"""Windows and derivatives on a CUDA device, by CuPy's transforms and matrix products and by own kernels.

`CudaCorrelator` contains the computation and uses the device through `DeviceArrays` only: where numba
simulates the kernels, numpy takes the place of the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from tomopolish.imaging.derivatives import Comparison, PairDerivatives, batches_of
from tomopolish.imaging.derivatives_cuda import ComparisonOnDevice, seen_of
from tomopolish.imaging.device_arrays import DeviceArray, DeviceArrays
from tomopolish.imaging.held_out import HeldOutWindows
from tomopolish.imaging.kept_spectra import KeptSpectra
from tomopolish.imaging.kernels import compare_cuda as cuda_kernels
from tomopolish.imaging.noise import Turn, ordinary_tiles, shells_of_tiles, tile_grid
from tomopolish.imaging.reference import ReferenceTransform
from tomopolish.imaging.small_inverse import small_inverse_matrices, unfold
from tomopolish.imaging.windows import BoxMask, PairBatch, TiltTask, box_mask, pair_batch
from tomopolish.shapes import Array, Int

BATCH_BYTES = 2**28
"""Size of a batch's boxes. With transforms, work space and products a batch takes about six times this."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _BoxesOnDevice:
    """Arrays on the device that all boxes of one tilt image share."""

    box_px: int
    image: DeviceArray
    mask: tuple[DeviceArray, DeviceArray]


@dataclass(frozen=True, kw_only=True, eq=False)
class _TiltOnDevice:
    """Arrays on the device that all predictions of one tilt image share."""

    reference: DeviceArray
    reach: int
    columns_used: DeviceArray
    weights: DeviceArray
    phase: DeviceArray
    odd: DeviceArray
    inverse: tuple[DeviceArray, DeviceArray]


class CudaCorrelator:
    """Correlator (`devices.Correlator`) that compares tilt images with references on one CUDA device.

    Each method makes the device current first: which device is current differs from thread to thread.

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

    def host_memory(self, shape: tuple[int, ...]) -> Array:
        """Return page-locked memory of the host, which the device can read; float32, uninitialised."""
        with self.arrays.active():
            return self.arrays.host_memory(shape)

    def noise_power(
        self, image: Array, box_px: int, last_frequency: float, turn: Turn | None = None
    ) -> Array:
        """Return the mean periodogram of an image's tiles by shell, as `noise.noise_power`."""
        with self.arrays.active():
            arrays, xp = self.arrays, self.arrays.xp
            grid = tile_grid(image.shape, box_px, last_frequency, turn)
            ordinary = ordinary_tiles(image, box_px, grid)
            # Rows of tiles that other images contribute need not be transferred.
            strips = [image[rows] for rows in grid.pixel_rows(box_px)]
            step_down = min(grid.step_down, box_px)
            on_device = self._send(strips)
            down, right = on_device.strides
            total = xp.zeros((box_px, grid.frequencies), dtype=np.float64)
            at_once = max(1, BATCH_BYTES // (4 * grid.columns * box_px**2))
            for first in range(0, grid.rows, at_once):
                counted = np.flatnonzero(ordinary[first : first + at_once])
                if not len(counted):
                    continue
                tiles = xp.lib.stride_tricks.as_strided(
                    on_device[first * step_down :],
                    shape=(min(at_once, grid.rows - first), grid.columns, box_px, box_px),
                    strides=(step_down * down, grid.step * right, down, right),
                )
                chosen = tiles.reshape(-1, box_px, box_px)[arrays.upload(counted)]
                transforms = xp.fft.rfft2(xp.ascontiguousarray(chosen))
                blocks = _blocks(box_px * grid.frequencies)
                arrays.launch(cuda_kernels.add_power, blocks, cuda_kernels.THREADS, transforms, total)
            return shells_of_tiles(arrays.download(total), grid.frequencies, int(ordinary.sum()))

    def correlate_tilt(
        self, task: TiltTask, values: Array, power: Array, held_out: HeldOutWindows | None = None
    ) -> None:
        """Fill windows and power of an image's visible particles, as `windows.correlate_tilt`."""
        with self.arrays.active():
            seen = np.flatnonzero(task.geometry.visible[task.tilt])
            size = max(1, BATCH_BYTES // (4 * task.reference.box_px**2))
            source, shared = self._upload_boxes(task), self._upload_shared(task)
            for start in range(0, len(seen), size):
                chunk = seen[start : start + size]
                batch, boxes = pair_batch(task, chunk), np.arange(len(chunk))
                spectra = self._spectra(batch, source)
                if held_out is None:
                    values[chunk], power[chunk] = self._compare(batch, boxes, spectra, shared)
                    continue
                judged, place = held_out.among(chunk)
                pairs = batch.joined_with(batch.of_other_half(judged))
                windows, powers = self._compare(pairs, np.concatenate([boxes, judged]), spectra, shared)
                values[chunk], power[chunk] = windows[: len(chunk)], powers[: len(chunk)]
                held_out.values[place], held_out.power[place] = windows[len(chunk) :], powers[len(chunk) :]

    def tilt_derivatives(
        self, comparisons: Sequence[Comparison], chosen: Int[Array, "B"], kept: KeptSpectra | None = None
    ) -> list[PairDerivatives]:
        """Return the derivatives of pairs in one tilt image, as `derivatives.tilt_derivatives`.

        Boxes are always transformed, which takes a device less time than to receive kept spectra, but cut
        where kept ones would be, so that results are the CPU's.
        """
        with self.arrays.active():
            task, batches = comparisons[0].task, batches_of(comparisons, chosen, kept)
            size = max(1, BATCH_BYTES // (4 * task.reference.box_px**2))
            source, reference = self._upload_boxes(task), self._upload_reference(task)
            on_device = [ComparisonOnDevice.of(c, self.arrays, reference) for c in comparisons]
            results = [PairDerivatives.empty(len(chosen), comparison.unknowns) for comparison in comparisons]
            for start in range(0, len(chosen), size):
                chunk = slice(start, start + size)
                spectra = self._spectra(batches[0].part(chunk), source)
                for comparison, pairs, result in zip(on_device, batches, results, strict=True):
                    result.matched[chunk], result.normal[chunk] = comparison.products(
                        spectra, pairs.part(chunk)
                    )
            return results

    def _send(self, strips: Sequence[Array]) -> DeviceArray:
        """Upload strips of an image, one below another."""
        rows = sum(map(len, strips))
        image, first = self.arrays.xp.empty((rows, strips[0].shape[1]), dtype=np.float32), 0
        for strip in strips:
            self.arrays.fill(image[first : first + len(strip)], strip)
            first += len(strip)
        return image

    def _upload_boxes(self, task: TiltTask) -> _BoxesOnDevice:
        upload, mask = self.arrays.upload, box_mask(task.reference.box_px)
        if mask not in self._resident:
            self._resident[mask] = upload(mask.falloff), upload(mask.outside)
        return _BoxesOnDevice(
            box_px=task.reference.box_px, image=self._send([task.image]), mask=self._resident[mask]
        )

    def _upload_reference(self, task: TiltTask) -> DeviceArray:
        if task.reference not in self._resident:
            self._resident[task.reference] = self.arrays.upload(task.reference.flat)
        return self._resident[task.reference]

    def _upload_shared(self, task: TiltTask) -> _TiltOnDevice:
        upload, shared = self.arrays.upload, task.frequencies
        _, rows, columns = shared.weight.shape
        return _TiltOnDevice(
            reference=self._upload_reference(task),
            reach=task.reference.reach,
            columns_used=upload(shared.columns_used),
            weights=upload(np.stack([shared.weight, shared.signal_weight])),
            phase=upload(shared.phase),
            odd=upload(shared.odd),
            inverse=self._inverse(task.reference.box_px, rows, columns, task.displacements_px),
        )

    def _spectra(self, batch: PairBatch, source: _BoxesOnDevice) -> DeviceArray:
        """Cut the boxes of a batch of pairs and transform them, unnormalised."""
        arrays, xp, threads = self.arrays, self.arrays.xp, cuda_kernels.THREADS
        pairs = len(batch.corners)
        boxes = xp.empty((pairs, source.box_px, source.box_px), dtype=np.float32)
        corners = arrays.upload(batch.corners)
        arrays.launch(cuda_kernels.extract_boxes, pairs, threads, source.image, corners, *source.mask, boxes)
        return xp.fft.rfft2(boxes)

    def _compare(
        self, batch: PairBatch, boxes: Array, spectra: DeviceArray, shared: _TiltOnDevice
    ) -> tuple[Array, Array]:
        """Return windows and power of a batch from each pair's box (`compare_cuda.correlate_spectra`)."""
        arrays, xp, threads = self.arrays, self.arrays.xp, cuda_kernels.THREADS
        pairs, box_px = len(boxes), spectra.shape[1]
        _, _, rows, columns = shared.weights.shape
        blocks = _blocks(rows * columns)
        product = xp.empty((2, 2 * rows, pairs, columns), dtype=np.float32)
        power = xp.empty((pairs, blocks), dtype=np.float32)
        arrays.launch(
            cuda_kernels.correlate_spectra,
            (pairs, blocks),
            threads,
            spectra,
            shared.reference,
            shared.reach,
            arrays.upload(np.stack([batch.half_set, batch.optics_group, boxes], axis=1).astype(np.int64)),
            arrays.upload(seen_of(batch, box_px)),
            shared.columns_used,
            shared.weights,
            shared.phase,
            shared.odd,
            product,
            power,
        )
        windows = self._small_inverse(product, shared)
        gained = arrays.download(power).sum(axis=1, dtype=np.float64)
        return arrays.download(windows), gained

    def _inverse(
        self, box_px: int, rows: int, columns: int, displacements_px: Array
    ) -> tuple[DeviceArray, DeviceArray]:
        """Return the matrices for `_small_inverse`; the last ones stay on the device."""
        key = (box_px, rows, columns, displacements_px.tobytes())
        if self._inverses[0] != key:
            matrices = small_inverse_matrices(box_px, rows, columns, displacements_px)
            rows_of_terms = np.concatenate([matrices.rows, matrices.rows])
            columns_of_terms = np.repeat(matrices.columns, 2, axis=0)
            self._inverses = (key, (self.arrays.upload(rows_of_terms), self.arrays.upload(columns_of_terms)))
        return self._inverses[1]

    def _small_inverse(self, product: DeviceArray, shared: _TiltOnDevice) -> DeviceArray:
        """Return the products with matrices on both sides, (pairs, n, n), as `kernels.compare.small_inverse`.

        All pairs are arranged side by side, so that many small products become one large product.
        """
        xp, (by_rows, by_columns) = self.arrays.xp, shared.inverse
        _, twice, pairs, columns = product.shape
        partial = xp.matmul(by_rows, product.reshape(4, twice // 2, pairs * columns))
        terms = xp.matmul(partial.reshape(4, -1, columns), by_columns)
        size = terms.shape[-1]
        windows = xp.empty((pairs, 2 * size - 2, 2 * size - 2), dtype=np.float32)
        return unfold(terms.reshape(4, size, pairs, size).swapaxes(1, 2), windows)


def _blocks(pixels: int) -> int:
    return -(-pixels // cuda_kernels.THREADS)
