"""Arrays on a CUDA device.

Computations see a device through `DeviceArrays` only. `CupyArrays` is a real one; CuPy and numba's CUDA side
are imported once it is made.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

import numba
import numpy as np

Array = np.ndarray
DeviceArray = Any

LARGE_BYTES = 2**22
"""Bytes from which on arrays are sent without a copy in pinned memory, which CuPy would keep."""


class DeviceArrays(Protocol):
    """Arrays on one device, and how kernels and data get there.

    Attributes
    ----------
    xp
        Array module with numpy's interface.
    """

    xp: Any

    def active(self) -> AbstractContextManager[object]:
        """Make the device the calling thread's until the context closes."""

    def upload(self, values: Array) -> DeviceArray:
        """Copy to the device, with C-contiguous rows."""

    def download(self, values: DeviceArray) -> Array:
        """Wait for an array's values and copy them to the host."""

    def host_memory(self, shape: tuple[int, ...]) -> Array:
        """Memory of the host that the device reads by itself; float32, uninitialised."""

    def fill(self, target: DeviceArray, values: Array) -> None:
        """Copy into an array on the device; `values` must stay as they are until the next `download`."""

    def launch(
        self, kernel: Any, blocks: int | tuple[int, ...], threads: int, *arguments: DeviceArray
    ) -> None:
        """Run a kernel after everything that was asked of the device before."""


class CupyArrays:
    """A real device, through CuPy.

    CuPy and numba both use the device's primary context and its default stream, on which everything happens
    in order; the host waits in `download` alone.
    """

    def __init__(self, index: int) -> None:
        import cupy  # noqa: PLC0415  nothing but a CUDA device needs it
        import cupyx  # noqa: PLC0415
        from numba import cuda  # noqa: PLC0415

        self.xp: Any = cupy
        self._pinned = cupyx.empty_pinned
        self._cuda = cuda
        self._index = index
        numba.config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # small data sets are no mistake

    def active(self) -> AbstractContextManager[object]:
        """Make the device the calling thread's until the context closes."""
        device: AbstractContextManager[object] = self.xp.cuda.Device(self._index)
        return device  # numba follows the thread's current context

    def upload(self, values: Array) -> DeviceArray:
        """Copy to the device, with C-contiguous rows."""
        values = np.ascontiguousarray(values)
        if values.nbytes < LARGE_BYTES:
            return self.xp.asarray(values)
        found = self.xp.empty(values.shape, values.dtype)
        found.set(values)
        return found

    def host_memory(self, shape: tuple[int, ...]) -> Array:
        """Memory of the host that the device reads by itself; float32, uninitialised."""
        found: Array = self._pinned(shape, dtype=np.float32)
        return found

    def fill(self, target: DeviceArray, values: Array) -> None:
        """Copy into an array on the device; `values` must stay as they are until the next `download`."""
        target.set(values, stream=self.xp.cuda.Stream.null)  # `upload` would copy to pinned memory first

    def download(self, values: DeviceArray) -> Array:
        """Wait for an array's values and copy them to the host."""
        found: Array = self.xp.asnumpy(values)
        return found

    def launch(
        self, kernel: Any, blocks: int | tuple[int, ...], threads: int, *arguments: DeviceArray
    ) -> None:
        """Run a kernel after everything that was asked of the device before."""
        # Left to itself, numba would wait for the stream once per CuPy array.
        seen = [
            self._cuda.as_cuda_array(a, sync=False) if isinstance(a, self.xp.ndarray) else a
            for a in arguments
        ]
        kernel[blocks, threads](*seen)
