"""Devices that compute windows and derivatives: the CPU, or a CUDA device that is reserved for a tomogram.

CuPy and numba's CUDA support are imported only when a CUDA device is requested, or when `auto` finds them
installed.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol

import numpy as np

from tomopolish.dataset.reading import host_memory
from tomopolish.errors import InputError
from tomopolish.imaging.derivatives import Comparison, PairDerivatives, tilt_derivatives
from tomopolish.imaging.device_arrays import CupyArrays
from tomopolish.imaging.held_out import HeldOutWindows
from tomopolish.imaging.kept_spectra import KeptSpectra
from tomopolish.imaging.noise import Turn, noise_power
from tomopolish.imaging.windows import TiltTask, correlate_tilt
from tomopolish.shapes import Array, Float, Float32, Int

if TYPE_CHECKING:
    from tomopolish.imaging.devices_cuda import CudaCorrelator


INSTALL = "install it with: pip install 'tomopolish[gpu]'"


class Correlator(Protocol):
    """Device that compares tilt images with the references.

    Attributes
    ----------
    images_at_once
        Number of threads that may pass it an image at the same time.
    """

    images_at_once: int

    def host_memory(self, shape: tuple[int, ...]) -> Float32[Array, "..."]:
        """Return memory of the host from which images are transferred fastest, uninitialised."""

    def noise_power(
        self, image: Float32[Array, "h w"], box_px: int, last_frequency: float, turn: Turn | None = None
    ) -> Float[Array, "shells"]:
        """Return the mean periodogram of an image's tiles by shell, as `noise.noise_power`."""

    def correlate_tilt(
        self,
        task: TiltTask,
        values: Float32[Array, "P n n"],
        power: Float[Array, "P"],
        held_out: HeldOutWindows | None = None,
    ) -> None:
        """Fill windows and power of an image's visible particles, as `windows.correlate_tilt`."""

    def tilt_derivatives(
        self, comparisons: Sequence[Comparison], chosen: Int[Array, "B"], kept: KeptSpectra | None = None
    ) -> list[PairDerivatives]:
        """Return the derivatives of pairs in one tilt image, as `derivatives.tilt_derivatives`."""


class CpuCorrelator:
    """Correlator that spreads the work over a pool of threads; two images at a time keep all threads busy."""

    images_at_once = 2

    def __init__(self, pool: Executor) -> None:
        self._pool = pool

    def host_memory(self, shape: tuple[int, ...]) -> Float32[Array, "..."]:
        """Return memory of the host, uninitialised."""
        return host_memory(shape)

    def noise_power(
        self, image: Array, box_px: int, last_frequency: float, turn: Turn | None = None
    ) -> Array:
        """Return the mean periodogram of an image's tiles by shell, as `noise.noise_power`."""
        return noise_power(image, box_px, last_frequency, self._pool, turn)

    def correlate_tilt(
        self, task: TiltTask, values: Array, power: Array, held_out: HeldOutWindows | None = None
    ) -> None:
        """Fill windows and power of an image's visible particles, as `windows.correlate_tilt`."""
        correlate_tilt(task, self._pool, values, power, held_out)

    def tilt_derivatives(
        self, comparisons: Sequence[Comparison], chosen: Int[Array, "B"], kept: KeptSpectra | None = None
    ) -> list[PairDerivatives]:
        """Return the derivatives of pairs in one tilt image, as `derivatives.tilt_derivatives`."""
        return tilt_derivatives(comparisons, chosen, self._pool, kept)


def cuda_devices(device: str) -> tuple[int, ...]:
    """Return the indices of the CUDA devices that `--device` names; none for the CPU.

    Parameters
    ----------
    device
        ``auto``: the first CUDA device, or the CPU where no CUDA device can be used; ``cpu``; ``cuda``: the
        first CUDA device; ``cuda:1``; or several, separated by commas.

    Raises
    ------
    InputError
        When a CUDA device is requested by name and cannot be used; the text names what is missing.
    """
    if device == "cpu":
        return ()
    if device == "auto":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of CuPy, when CUDA is incomplete
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
    """Return the reason why CUDA cannot be used, as the rest of a sentence; None when it can."""
    if find_spec("cupy") is None:
        return f"CuPy is not installed; {INSTALL}"
    if os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in {"", "0"}:
        return "NUMBA_ENABLE_CUDASIM is set, so that numba simulates a CUDA device: unset it"
    try:
        count = cuda_device_count()
    except Exception as error:  # an incompatible driver or library may raise any exception
        return f"CuPy finds no CUDA device ({' '.join(str(error).split())}); check the driver with nvidia-smi"
    if count == 0:
        return "CuPy finds no CUDA device; check the driver with nvidia-smi"
    from numba import cuda

    if not cuda.is_available():
        return f"numba does not reach the CUDA device; numba-cuda may be missing: {INSTALL}"
    return _kernel_obstacle()


@cache
def _kernel_obstacle() -> str | None:
    """Return, as `cuda_obstacle`, the reason why kernels cannot run: usually versions of libraries."""
    try:
        try_kernel()
    except Exception as error:  # CuPy and numba may raise any exception
        reason = " ".join(str(error).split()) or type(error).__name__
        return f"numba runs no kernel there ({reason}); the versions must be compatible: {INSTALL}"
    return None


def try_kernel() -> None:
    """Run the smallest kernel on the first device; raises exceptions of CuPy and numba if that fails."""
    from tomopolish.imaging.kernels import compare_cuda as cuda_kernels

    arrays = CupyArrays(0)
    with arrays.active():
        total = arrays.xp.zeros((1, 1), dtype=np.float64)
        ones = arrays.xp.ones((1, 1, 1), dtype=np.complex64)
        arrays.launch(cuda_kernels.add_power, 1, cuda_kernels.THREADS, ones, total)
        if float(arrays.download(total)[0, 0]) != 1:
            raise RuntimeError("a kernel gave a wrong result")


def cuda_device_count() -> int:
    """Return the number of CUDA devices of this process; raises CuPy's exception where it finds no driver."""
    import cupy

    return int(cupy.cuda.runtime.getDeviceCount())


def tomograms_at_once(device: str) -> int:
    """Return the number of tomograms that are refined in parallel: one per device."""
    return max(len(cuda_devices(device)), 1)


@contextmanager
def acquire_correlator(device: str, pool: Executor) -> Iterator[Correlator]:
    """Acquire the correlator for one tomogram, after waiting for a free device, and release it afterwards.

    Parameters
    ----------
    device
        Value of `--device`, as for `cuda_devices`.
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
        yield correlator
    finally:
        free.put(correlator)


@cache
def _opened(indices: tuple[int, ...]) -> SimpleQueue[CudaCorrelator]:
    """Return a queue of one correlator per device, the same in every call; each caches its references."""
    from tomopolish.imaging.devices_cuda import CudaCorrelator

    free: SimpleQueue[CudaCorrelator] = SimpleQueue()
    for index in indices:
        free.put(CudaCorrelator(CupyArrays(index)))
    return free
