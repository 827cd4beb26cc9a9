"""Checks of the CUDA path, on a device or a simulator of it.

Run as a program under NUMBA_ENABLE_CUDASIM=1, it checks the path in numba's simulator, with numpy in CuPy's
place; `test_cuda` does that, and runs the same checks on a real device where there is one.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import spec_windows

from small_project import (
    make_particles,
    make_references,
    make_series,
    make_settings,
)
from tomopolish.dataset.model import OpticsGroup
from tomopolish.imaging import devices, devices_cuda
from tomopolish.imaging.device_arrays import DeviceArrays
from tomopolish.imaging.devices import CpuCorrelator
from tomopolish.imaging.devices_cuda import CudaCorrelator
from tomopolish.imaging.frequencies import tilt_frequencies
from tomopolish.imaging.held_out import empty_windows
from tomopolish.imaging.kernels import compare_cuda as cuda_kernels
from tomopolish.imaging.noise import Turn
from tomopolish.imaging.windows import TiltTask, box_mask, pair_geometry, window_samples
from tomopolish.pipeline import prepare

BOX, REACH = 24, 3
GROUPS = (
    OpticsGroup(
        name="aberrated",
        even_zernike=(0.3, 0.0, -0.8, 0.5),
        odd_zernike=(0.4, -0.7, 0.2, 0.5),
    ),
    OpticsGroup(name="plain"),
)
SEVERAL = tuple(
    OpticsGroup(name=f"{even} {odd}", even_zernike=even, odd_zernike=odd)
    for even, odd in (((), ()), ((-1.0, 2.0, 0.7, 3.0), ()), ((-1.0, 2.0), ()))
)


class NumpyArrays:
    """The host in the device's place; counts what it is given."""

    def __init__(self) -> None:
        modules = {"lib": np.lib, "fft": np.fft, "linalg": np.linalg}
        self.xp: Any = SimpleNamespace(**{name: getattr(np, name) for name in USED}, **modules)
        self.uploaded: list[tuple[int, ...]] = []

    def active(self) -> AbstractContextManager[object]:
        return nullcontext()

    def upload(self, values: np.ndarray) -> np.ndarray:
        self.uploaded.append(values.shape)
        return np.array(values, order="C")

    def host_memory(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.empty(shape, dtype=np.float32)

    def fill(self, target: np.ndarray, values: np.ndarray) -> None:
        assert target.shape == values.shape and target.flags.c_contiguous
        target[...] = values

    def download(self, values: np.ndarray) -> np.ndarray:
        return values.copy()

    def free_bytes(self) -> int:
        return 2**40

    def release(self) -> None:
        pass

    def launch(self, kernel: Any, blocks: int | tuple[int, ...], threads: int, *arguments: Any) -> None:
        kernel[blocks, threads](*arguments)


# Nothing else of numpy may be needed: CuPy has these too.
USED = ("ascontiguousarray", "empty", "matmul", "moveaxis", "ones", "zeros")


def make_tasks(groups: tuple[OpticsGroup, ...], padding: float) -> list[TiltTask]:
    """Two tilt images with four particles; the second image does not show one of them."""
    rng = np.random.default_rng(17)
    images = (50 + rng.normal(size=(2, 62, 75))).astype(np.float32)
    series = make_series(rng, images)
    offsets = np.concatenate([rng.uniform(-9, 9, (3, 3)), [[0.0, 0.0, 0.0]]])
    particles = make_particles(rng, offsets + np.array(series.tomogram_size_px) / 2, groups)
    fsc = np.concatenate([np.linspace(1, 0.5, 8), np.zeros(5)])
    prepared = prepare(make_references(rng, BOX, fsc=fsc), make_settings(BOX, REACH))
    geometry = pair_geometry(series, particles, BOX, np.ones(2, dtype=bool))
    assert geometry.visible.all()
    geometry.visible[1, 1] = False
    mask = box_mask(BOX)
    return [
        TiltTask(
            image=images[tilt],
            tilt=tilt,
            geometry=geometry,
            particles=particles,
            frequencies=tilt_frequencies(series, tilt, prepared.weight.half_plane, groups, 0.02),
            mask=mask,
            reference=prepared.transform,
            displacements_px=window_samples(REACH, padding),
        )
        for tilt in range(2)
    ]


def compute(correlator: Any, task: TiltTask) -> tuple[np.ndarray, np.ndarray]:
    """Windows and power of one image's particles, then of those held out; what is not written stays at −7."""
    samples = len(task.displacements_px)
    values = np.full((len(task.particles), samples, samples), -7, dtype=np.float32)
    power = np.full(len(task.particles), -7.0)
    held = empty_windows(task.tilt, np.array([0, 3]), samples)
    correlator.correlate_tilt(task, values, power, held)
    return np.concatenate([values, held.values]), np.concatenate([power, held.power])


def check_windows(arrays: DeviceArrays) -> None:
    """Windows and power are the CPU's to 1e-5, with aberrations and without, whole or in batches.

    The optics groups have even and odd aberrations, none (one group, and two), or even ones alone (three).
    """
    cases = (
        (GROUPS, 1.5, 2**28, 0),
        (GROUPS[1:], 1.0, 2 * 4 * BOX**2, 1),
        (GROUPS[1:] * 2, 1.0, 2**28, 1),
        (SEVERAL, 1.0, 2**28, 1),
    )
    for groups, padding, batch, tilt in cases:
        cuda = CudaCorrelator(arrays)
        before, devices_cuda.BATCH_BYTES = devices_cuda.BATCH_BYTES, batch
        try:
            task = make_tasks(groups, padding)[tilt]
            with ThreadPoolExecutor(1) as pool:
                expected, expected_power = compute(CpuCorrelator(pool), task)
            with cuda.active():
                found, found_power = compute(cuda, task)
            seen = np.append(task.geometry.visible[task.tilt], [True, True])
            scale = np.abs(expected[seen]).max()
            assert scale > 0
            np.testing.assert_allclose(found[seen], expected[seen], rtol=0, atol=1e-5 * scale)
            np.testing.assert_allclose(found_power[seen], expected_power[seen], rtol=1e-5)
            assert np.all(found[~seen] == -7), "pairs that are not visible are left alone"
            assert np.all(found_power[~seen] == -7)
        finally:
            devices_cuda.BATCH_BYTES = before


def check_noise(arrays: DeviceArrays) -> None:
    """Noise power is the CPU's to 1e-5, all frequencies and some, in one strip of tiles and in several."""
    image = (3 + np.random.default_rng(3).normal(size=(70, 53))).astype(np.float32)
    cuda = CudaCorrelator(arrays)
    for box, last, batch in ((16, 8.0, 2**28), (24, 6.3, 1)):
        before, devices_cuda.BATCH_BYTES = devices_cuda.BATCH_BYTES, batch
        try:
            with cuda.active(), ThreadPoolExecutor(1) as pool:
                found = cuda.noise_power(image, box, last)
                expected = CpuCorrelator(pool).noise_power(image, box, last)
        finally:
            devices_cuda.BATCH_BYTES = before
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        assert np.count_nonzero(found) == min(int(np.ceil(last)) + 1, box // 2) + (last == box / 2)
    many = np.random.default_rng(5).normal(size=(290, 275)).astype(np.float32)
    turn = Turn(index=3, count=41)
    with cuda.active(), ThreadPoolExecutor(1) as pool:
        expected = CpuCorrelator(pool).noise_power(many, 16, 8.0, turn)
        np.testing.assert_allclose(cuda.noise_power(many, 16, 8.0, turn), expected, rtol=1e-5)


def check_boxes(arrays: DeviceArrays) -> None:
    """Boxes beyond the image repeat its edge, and a high mean level costs no digits."""
    rng = np.random.default_rng(4)
    image = (2000 + rng.normal(size=(40, 37))).astype(np.float32)
    corners = np.array([[-5, -30], [25, 30], [3, 4]], dtype=np.int64)
    mask = box_mask(BOX)
    inside = (mask.falloff, mask.outside)
    expected = [spec_windows.cut_box(image, corner + BOX // 2, BOX)[0] for corner in corners]
    with arrays.active():
        found = arrays.xp.empty((3, BOX, BOX), dtype=np.float32)
        on_device = [arrays.upload(a) for a in (image, corners, *inside)]
        arrays.launch(cuda_kernels.extract_boxes, 3, cuda_kernels.THREADS, *on_device, found)
        np.testing.assert_allclose(arrays.download(found), expected, rtol=0, atol=1e-3)


def check_references_stay(arrays: NumpyArrays) -> None:
    """The references' transforms go to the device once, and are forgotten with their owner."""
    cuda = CudaCorrelator(arrays)
    first, second = make_tasks(GROUPS[1:], 1.0)
    first.geometry.visible[:, 1:] = False  # which both share
    shape = first.reference.flat.shape
    arrays.uploaded.clear()
    one, _ = compute(cuda, first)
    compute(cuda, second)
    assert arrays.uploaded.count(shape) == 1
    other = replace(first.reference, values=2 * first.reference.values)
    doubled, _ = compute(cuda, replace(first, reference=other))
    assert arrays.uploaded.count(shape) == 2
    np.testing.assert_allclose(doubled[0], 2 * one[0], rtol=0, atol=1e-5 * np.abs(one[0]).max())


def check_smallest_kernel(arrays: DeviceArrays) -> None:
    """The trial before a device is used runs there."""
    with mock.patch.object(devices, "CupyArrays", lambda index: arrays):
        devices.try_kernel()


CHECKS = (check_windows, check_noise, check_boxes, check_smallest_kernel)

if __name__ == "__main__":
    import_module("simulator")
    cuda_kernels.THREADS = 32  # a thread of the simulator costs 0.1 ms; and more than one block per pair
    for check in (*CHECKS, check_references_stay):
        check(NumpyArrays())
        print(f"{check.__name__} holds")
