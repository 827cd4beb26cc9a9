"""Time of each step of correlation and joint passes on a CUDA device, and of the host meanwhile."""

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

from tomopolish.dataset.model import Particles, TiltSeries, Tomogram
from tomopolish.dataset.screening import screened
from tomopolish.imaging import derivatives_cuda, devices_cuda
from tomopolish.imaging.derivatives import ALWAYS
from tomopolish.imaging.device_arrays import CupyArrays
from tomopolish.imaging.devices import Correlator
from tomopolish.imaging.devices_cuda import CudaCorrelator
from tomopolish.imaging.weights import frequency_weights
from tomopolish.imaging.windows import pair_geometry
from tomopolish.pipeline import PreparedReferences, windows
from tomopolish.pipeline.joint import images as joint_images
from tomopolish.pipeline.joint.images import JointImages
from tomopolish.pipeline.joint.state import JointState
from tomopolish.progress import SilentProgress
from tomopolish.settings.alignment import AlignSettings
from tomopolish.solve.joint import NormalEquations

Steps = dict[str, list[float]]


PARTS: tuple[tuple[Any, str], ...] = (
    (windows, "tilt_frequencies"),
    (devices_cuda, "pair_batch"),
    (devices_cuda, "shells_of_tiles"),
)
"""Functions that run on the host while a tilt image is correlated."""

JOINT_PARTS: tuple[tuple[Any, str], ...] = (
    (joint_images, "tilt_frequencies"),
    (joint_images, "used_frequencies"),
    (devices_cuda, "batches_of"),
    (derivatives_cuda, "_assembled"),
)
"""Functions that run on the host during a pass over the images."""


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
    timed = CudaCorrelator(TimedArrays(0))

    @contextmanager
    def acquire(device: str, pool: object) -> Iterator[CudaCorrelator]:
        yield timed

    with ThreadPoolExecutor(settings.run.threads) as pool:
        run = partial(
            windows.correlation_windows, series, particles, references, settings, pool, SilentProgress()
        )
        with mock.patch.object(windows, "acquire_correlator", acquire):
            return steps_of(run, timed.arrays, PARTS)


def joint_pass(
    series: TiltSeries,
    particles: Particles,
    references: PreparedReferences,
    settings: AlignSettings,
    correlator: Correlator,
) -> Callable[[], NormalEquations]:
    """Return a function that makes one pass of a joint refinement, at all frequencies, over all pairs."""
    series = screened(series)
    box_px = references.box_px
    visible = pair_geometry(series, particles, box_px, series.usable).visible
    tomogram = Tomogram(series=series, species=(particles,))
    noise = np.ones((1, box_px // 2 + 1))
    images = JointImages(
        tomogram=tomogram,
        given=tomogram,
        references=[references],
        weights=[frequency_weights(noise, references.weight, box_px, settings.weights)],
        scales=[1.0],
        visible=visible,
        pair_weights=np.ones(visible.shape),
        held_out=None,
        settings=settings,
        correlator=correlator,
        threads=settings.run.threads,
        advance=lambda: None,
    )
    limit = references.weight.last_frequency / box_px
    return partial(images.equations, JointState.of(tomogram, ALWAYS), limit)


def joint_steps(
    series: TiltSeries,
    particles: Particles,
    references: PreparedReferences,
    settings: AlignSettings,
) -> dict[str, Steps]:
    """Make one pass of a joint refinement a second time, and time the parts as `correlation_steps` does."""
    timed = CudaCorrelator(TimedArrays(0))
    run = joint_pass(series, particles, references, settings, timed)
    return steps_of(run, timed.arrays, JOINT_PARTS)


def steps_of(
    run: Callable[[], object], arrays: TimedArrays, parts: tuple[tuple[Any, str], ...]
) -> dict[str, Steps]:
    """Run twice; returns the times of the second run's parts on the device and on the host."""
    host: Steps = defaultdict(list)

    def around(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            begin = time.perf_counter()
            result = function(*arguments, **named)
            host[name].append(time.perf_counter() - begin)
            return result

        return timed

    run()
    arrays.events.clear()
    arrays.host.clear()
    with ExitStack() as patches:
        for module, name in parts:
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
