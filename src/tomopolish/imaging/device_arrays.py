"""Arrays on a CUDA device.

Computations use a device through `DeviceArrays` only. `CupyArrays` is a real device; CuPy and numba's CUDA
support are imported when it is created.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

import numba
import numpy as np

from tomopolish.shapes import Array

DeviceArray = Any

LARGE_BYTES = 2**22
"""Arrays of at least this size are sent without a copy in pinned memory, which CuPy would not release."""


class DeviceArrays(Protocol):
    """Arrays on one device, and the transfer of kernels and data.

    Attributes
    ----------
    xp
        Array module with numpy's interface.
    """

    xp: Any

    def active(self) -> AbstractContextManager[object]:
        """Make the device current in the calling thread until the context closes."""

    def upload(self, values: Array) -> DeviceArray:
        """Copy to the device, with C-contiguous rows."""

    def download(self, values: DeviceArray) -> Array:
        """Wait for an array's values and copy them to the host."""

    def host_memory(self, shape: tuple[int, ...]) -> Array:
        """Return page-locked memory of the host, which the device can read; float32, uninitialised."""

    def fill(self, target: DeviceArray, values: Array) -> None:
        """Copy into an array on the device; `values` must not change until the next `download`."""

    def launch(
        self, kernel: Any, blocks: int | tuple[int, ...], threads: int, *arguments: DeviceArray
    ) -> None:
        """Run a kernel after all earlier operations on the device."""


class CupyArrays:
    """A real device, through CuPy.

    CuPy and numba both use the device's primary context and its default stream, whose operations run in
    order; the host waits only in `download`.
    """

    def __init__(self, index: int) -> None:
        import cupy
        import cupyx
        from numba import cuda

        self.xp: Any = cupy
        self._pinned = cupyx.empty_pinned
        self._cuda = cuda
        self._index = index
        numba.config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # small data sets are no mistake

    def active(self) -> AbstractContextManager[object]:
        """Make the device current in the calling thread until the context closes."""
        device: AbstractContextManager[object] = self.xp.cuda.Device(self._index)
        return device  # numba follows the thread's current context

    def upload(self, values: Array) -> DeviceArray:
        """Copy to the device, with C-contiguous rows."""
        values = np.ascontiguousarray(values)
        if values.nbytes < LARGE_BYTES:
            return self.xp.asarray(values)
        copy = self.xp.empty(values.shape, values.dtype)
        copy.set(values)
        return copy

    def host_memory(self, shape: tuple[int, ...]) -> Array:
        """Return page-locked memory of the host, which the device can read; float32, uninitialised."""
        memory: Array = self._pinned(shape, dtype=np.float32)
        return memory

    def fill(self, target: DeviceArray, values: Array) -> None:
        """Copy into an array on the device; `values` must not change until the next `download`."""
        target.set(values, stream=self.xp.cuda.Stream.null)  # `upload` would copy to pinned memory first

    def download(self, values: DeviceArray) -> Array:
        """Wait for an array's values and copy them to the host."""
        copy: Array = self.xp.asnumpy(values)
        return copy

    def launch(
        self, kernel: Any, blocks: int | tuple[int, ...], threads: int, *arguments: DeviceArray
    ) -> None:
        """Run a kernel after all earlier operations on the device."""
        # By default numba would wait for the stream once per CuPy array.
        seen = [
            self._cuda.as_cuda_array(a, sync=False) if isinstance(a, self.xp.ndarray) else a
            for a in arguments
        ]
        kernel[blocks, threads](*seen)
