"""Time of each step of the correlation on a CUDA device, and of the host meanwhile."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

from tomopolish.dataset.model import Particles, TiltSeries
from tomopolish.imaging import devices_cuda
from tomopolish.imaging.device_arrays import CupyArrays
from tomopolish.imaging.devices_cuda import CudaCorrelator
from tomopolish.pipeline import PreparedReferences, correlate
from tomopolish.progress import SilentProgress
from tomopolish.settings.alignment import AlignSettings

Steps = dict[str, list[float]]


PARTS: tuple[tuple[Any, str], ...] = (
    (correlate, "tilt_frequencies"),
    (devices_cuda, "pair_batch"),
    (devices_cuda, "shells_of_tiles"),
)
"""Functions that run on the host while a tilt image is correlated."""


class TimedArrays(CupyArrays):
    """A device that notes how long everything takes that is asked of it: there (events) and on the host."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        real = self.xp
        self.events: list[tuple[str, Any, Any]] = []
        self.host: Steps = defaultdict(list)
        self._cupy = real
        fft = SimpleNamespace(
            **{
                name: self._timed(name, getattr(real.fft, name))
                for name in ("rfft2", "rfft", "fft", "irfft2")
            }
        )
        self.xp = _Proxy(real, fft=fft, matmul=self._timed("matmul", real.matmul))

    def _timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            with self._step(name):
                return function(*arguments, **named)

        return timed

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        first, last = self._cupy.cuda.Event(), self._cupy.cuda.Event()
        begin = time.perf_counter()
        first.record()
        yield
        last.record()
        self.host[name].append(time.perf_counter() - begin)
        self.events.append((name, first, last))

    def upload(self, values: np.ndarray) -> Any:
        """As a device does."""
        with self._step("upload"):
            return super().upload(values)

    def fill(self, target: Any, values: np.ndarray) -> None:
        """As a device does."""
        with self._step("fill"):
            super().fill(target, values)

    def download(self, values: Any) -> np.ndarray:
        """As a device does."""
        with self._step("download (waits)"):
            return super().download(values)

    def launch(self, kernel: Any, blocks: Any, threads: int, *arguments: Any) -> None:
        """As a device does."""
        with self._step(kernel.py_func.__name__):
            super().launch(kernel, blocks, threads, *arguments)

    def device(self) -> Steps:
        """Seconds of every step on the device."""
        self._cupy.cuda.Device().synchronize()
        found: Steps = defaultdict(list)
        for name, first, last in self.events:
            found[name].append(1e-3 * self._cupy.cuda.get_elapsed_time(first, last))
        return found


class _Proxy:
    """A module with some of its names replaced."""

    def __init__(self, module: Any, **replaced: Any) -> None:
        self._module = module
        self.__dict__.update(replaced)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def correlation_steps(
    series: TiltSeries,
    particles: Particles,
    references: PreparedReferences,
    settings: AlignSettings,
) -> dict[str, Steps]:
    """Run one tomogram's correlation a second time, and time the parts: by place, then by step."""
    arrays = TimedArrays(0)
    timed = CudaCorrelator(arrays)

    @contextmanager
    def acquire(device: str, pool: object) -> Iterator[CudaCorrelator]:
        with timed.active():
            yield timed

    host: Steps = defaultdict(list)

    def around(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            begin = time.perf_counter()
            found = function(*arguments, **named)
            host[name].append(time.perf_counter() - begin)
            return found

        return run

    with ThreadPoolExecutor(settings.run.threads) as pool, ExitStack() as patches:
        run = partial(
            correlate.correlation_windows, series, particles, references, settings, pool, SilentProgress()
        )
        patches.enter_context(mock.patch.object(correlate, "acquire_correlator", acquire))
        run()
        arrays.events.clear()
        arrays.host.clear()
        for module, name in PARTS:
            patches.enter_context(mock.patch.object(module, name, around(name, getattr(module, name))))
        begin = time.perf_counter()
        run()
        host["all"].append(time.perf_counter() - begin)
    return {"device": arrays.device(), "host, asking the device": arrays.host, "host": host}


def show(found: dict[str, Steps]) -> None:
    """Print every step's sum, count and largest."""
    for place, steps in found.items():
        for name, seconds in sorted(steps.items(), key=lambda item: -sum(item[1])):
            print(
                f"  {place:<24} {name:<20} {1e3 * sum(seconds):9.2f} ms in {len(seconds):5d}, "
                f"at most {1e3 * max(seconds):.2f}",
                flush=True,
            )
