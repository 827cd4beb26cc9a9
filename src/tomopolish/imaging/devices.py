"""Where windows are computed: the CPU, or a CUDA device lent to a tomogram.

CuPy and numba's CUDA side are imported only once a CUDA device is asked for, or `auto` finds them installed.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol

import numpy as np

from tomopolish.dataset.reading import host_memory
from tomopolish.errors import InputError
from tomopolish.imaging.device_arrays import CupyArrays
from tomopolish.imaging.held_out import HeldOutWindows
from tomopolish.imaging.noise import Turn, noise_power
from tomopolish.imaging.windows import TiltTask, correlate_tilt
from tomopolish.shapes import Float, Float32

if TYPE_CHECKING:
    from tomopolish.imaging.devices_cuda import CudaCorrelator

Array = np.ndarray

INSTALL = "install it with: pip install 'tomopolish[gpu]'"


class Correlator(Protocol):
    """Compares tilt images with the references.

    Attributes
    ----------
    images_at_once
        How many threads may each give it an image.
    """

    images_at_once: int

    def host_memory(self, shape: tuple[int, ...]) -> Float32[Array, "..."]:
        """Memory of the host that images come from fastest, uninitialised."""

    def noise_power(
        self, image: Float32[Array, "h w"], box: int, last_frequency: float, turn: Turn | None = None
    ) -> Float[Array, "shells"]:
        """Mean periodogram of an image's tiles by shell; see `noise.noise_power`."""

    def correlate_tilt(
        self,
        task: TiltTask,
        values: Float32[Array, "P n n"],
        power: Float[Array, "P"],
        held: HeldOutWindows | None = None,
    ) -> None:
        """Fill windows and power of an image's visible particles; see `windows.correlate_tilt`."""


class CpuCorrelator:
    """Spreads images' work over a pool of threads; with two of them, none waits for an image's last piece."""

    images_at_once = 2

    def __init__(self, pool: Executor) -> None:
        self._pool = pool

    def host_memory(self, shape: tuple[int, ...]) -> Float32[Array, "..."]:
        """Memory of the host, uninitialised."""
        return host_memory(shape)

    def noise_power(self, image: Array, box: int, last_frequency: float, turn: Turn | None = None) -> Array:
        """Mean periodogram of an image's tiles by shell; see `noise.noise_power`."""
        return noise_power(image, box, last_frequency, self._pool, turn)

    def correlate_tilt(
        self, task: TiltTask, values: Array, power: Array, held: HeldOutWindows | None = None
    ) -> None:
        """Fill windows and power of an image's visible particles; see `windows.correlate_tilt`."""
        correlate_tilt(task, self._pool, values, power, held)


def cuda_devices(device: str) -> tuple[int, ...]:
    """Return the indices of the CUDA devices that `--device` names; none for the CPU.

    Parameters
    ----------
    device
        ``auto``: the first CUDA device, or the CPU where none can be used; ``cpu``; ``cuda``: the first;
        ``cuda:1``; several separated by commas.

    Raises
    ------
    InputError
        When a CUDA device is asked for by name and cannot be used; says what is missing.
    """
    if device == "cpu":
        return ()
    if device == "auto":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # CuPy's own, when CUDA is incomplete
            return () if cuda_obstacle() else (0,)
    obstacle = cuda_obstacle()
    if obstacle:
        raise InputError(f"--device {device} cannot be used: {obstacle}")
    indices = tuple(int(name.partition(":")[2] or 0) for name in device.split(","))
    count = cuda_device_count()
    if max(indices) >= count:
        raise InputError(
            f"--device {device} names cuda:{max(indices)}, but this machine has {count} CUDA "
            f"device{'' if count == 1 else 's'}, counted from 0"
        )
    return indices


def cuda_obstacle() -> str | None:
    """Say what keeps CUDA from being used, in half a sentence; None when nothing does."""
    if find_spec("cupy") is None:
        return f"CuPy is not installed; {INSTALL}"
    if os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in {"", "0"}:
        return "NUMBA_ENABLE_CUDASIM is set, which has numba imitate a CUDA device: unset it"
    try:
        count = cuda_device_count()
    except Exception as error:  # whatever a driver or a library that does not fit may raise
        return f"CuPy finds no CUDA device ({' '.join(str(error).split())}); check the driver with nvidia-smi"
    if count == 0:
        return "CuPy finds no CUDA device; check the driver with nvidia-smi"
    from numba import cuda  # noqa: PLC0415  only where CUDA is used

    if not cuda.is_available():
        return f"numba does not reach the CUDA device; numba-cuda may be missing: {INSTALL}"
    return _kernel_obstacle()


@cache
def _kernel_obstacle() -> str | None:
    """Say, as `cuda_obstacle`, what keeps kernels from running: as a rule, versions of libraries."""
    try:
        try_kernel()
    except Exception as error:  # whatever they raise
        reason = " ".join(str(error).split()) or type(error).__name__
        return f"numba runs no kernel there ({reason}); have versions that go together: {INSTALL}"
    return None


def try_kernel() -> None:
    """Run the smallest kernel on the first device; raises whatever CuPy and numba do where that fails."""
    from tomopolish.imaging.kernels import compare_cuda as cuda_kernels  # noqa: PLC0415  only where CUDA is used

    arrays = CupyArrays(0)
    with arrays.active():
        total = arrays.xp.zeros((1, 1), dtype=np.float64)
        ones = arrays.xp.ones((1, 1, 1), dtype=np.complex64)
        arrays.launch(cuda_kernels.add_power, 1, cuda_kernels.THREADS, ones, total)
        if float(arrays.download(total)[0, 0]) != 1:
            raise RuntimeError("a kernel gave a wrong result")


def cuda_device_count() -> int:
    """Return how many CUDA devices this process sees; raises whatever CuPy does where it finds no driver."""
    import cupy  # noqa: PLC0415  only where CUDA is used

    return int(cupy.cuda.runtime.getDeviceCount())


def tomograms_at_once(device: str) -> int:
    """How many tomograms are worked on in parallel: one per device."""
    return max(len(cuda_devices(device)), 1)


@contextmanager
def lend_correlator(device: str, pool: Executor) -> Iterator[Correlator]:
    """Lend what computes the windows of one tomogram, waiting for a device that is free.

    Parameters
    ----------
    device
        As for `cuda_devices`.
    pool
        Threads of the CPU.

    Raises
    ------
    InputError
        As `cuda_devices`.
    """
    indices = cuda_devices(device)
    if not indices:
        yield CpuCorrelator(pool)
        return
    free = _opened(indices)
    correlator = free.get()
    try:
        with correlator.active():
            yield correlator
    finally:
        free.put(correlator)


@cache
def _opened(indices: tuple[int, ...]) -> SimpleQueue[CudaCorrelator]:
    """Keep one correlator per device for as long as the program runs; it keeps the references it has met."""
    from tomopolish.imaging.devices_cuda import CudaCorrelator  # noqa: PLC0415

    free: SimpleQueue[CudaCorrelator] = SimpleQueue()
    for index in indices:
        free.put(CudaCorrelator(CupyArrays(index)))
    return free
