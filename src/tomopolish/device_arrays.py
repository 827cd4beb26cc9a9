"""Arrays on a CUDA device, and which of the solver's matrix products are computed there.

Computations see a device through `Arrays` or `DeviceArrays` only. `CupyArrays` is a real one, `HOST` this
process's own memory; CuPy and numba's CUDA side are imported once a `CupyArrays` is made.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numba
import numpy as np

Array = np.ndarray
DeviceArray = Any

LARGE_MATRIX = 2**20
"""Elements from which on a matrix's products are worth the way to a device and back.

With 120 columns on the other side, as in motion over 41 tilt images, 1,024 rows and columns take 2 MB over
the bus, a third of a millisecond, and the fourth of a GFLOP: a millisecond or more on several cores.
"""

LARGE_BYTES = 2**22
"""Bytes from which on arrays are sent without a copy in pinned memory, which CuPy would keep."""

_WORK_SPACE = 6
"""Memory that a matrix, its eigenvectors and the work space for finding them take, in matrices."""


@runtime_checkable
class Arrays(Protocol):
    """Memory that arrays lie in, and what computes with them.

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


class DeviceArrays(Arrays, Protocol):
    """Arrays on one device, and how kernels and data get there."""

    def free_bytes(self) -> int:
        """Bytes that are free on the device."""

    def release(self) -> None:
        """Give memory that is kept for the next array back to the device."""

    def host_memory(self, shape: tuple[int, ...]) -> Array:
        """Memory of the host that the device reads by itself; float32, uninitialised."""

    def fill(self, target: DeviceArray, values: Array) -> None:
        """Copy into an array on the device; `values` must stay as they are until the next `download`."""

    def launch(
        self, kernel: Any, blocks: int | tuple[int, ...], threads: int, *arguments: DeviceArray
    ) -> None:
        """Run a kernel after everything that was asked of the device before."""


class HostArrays:
    """Memory of this process: nothing is copied."""

    xp: Any = np

    def active(self) -> AbstractContextManager[object]:
        """Nothing to do."""
        return nullcontext()

    def upload(self, values: Array) -> Array:
        """Return the values themselves, as they lie."""
        return values

    def download(self, values: Array) -> Array:
        """Return the values themselves."""
        return values


HOST = HostArrays()


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

    def free_bytes(self) -> int:
        """Bytes that are free on the device, those that CuPy keeps for the next array included."""
        with self.active():
            free, _ = self.xp.cuda.runtime.memGetInfo()
            return int(free) + int(self.xp.get_default_memory_pool().free_bytes())

    def release(self) -> None:
        """Give memory that CuPy keeps for the next array back to the device: others may compute there."""
        with self.active():
            self.xp.get_default_memory_pool().free_all_blocks()

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


@dataclass(frozen=True, kw_only=True, eq=False)
class Products:
    """Where the solver's matrix products are computed: large ones on the device, where there is one."""

    device: DeviceArrays | None = None

    def keep(self, matrix: Array) -> tuple[Arrays, DeviceArray]:
        """Put a matrix that is multiplied many times where its products are computed.

        The host is where it stays if it is small, or the device has no room for what is done with it.
        """
        if self.device is None or matrix.size < LARGE_MATRIX:
            return HOST, matrix
        if self.device.free_bytes() < _WORK_SPACE * np.dtype(np.float64).itemsize * matrix.size:
            return HOST, matrix
        try:
            with self.device.active():
                return self.device, self.device.upload(matrix)
        except MemoryError:  # another process has taken it meanwhile
            return HOST, matrix


ON_HOST = Products()
