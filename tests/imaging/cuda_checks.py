"""Checks of the CUDA path, on a device or a simulator of it.

Run as a program under NUMBA_ENABLE_CUDASIM=1, it checks the path in numba's simulator, with numpy in CuPy's
place; `test_cuda` does that, and runs the same checks on a real device where there is one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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
from tomopolish.imaging.derivatives import (
    ALWAYS,
    ASTIGMATISM,
    ASTIGMATISM_ASIDE,
    PHASE_SHIFT,
    Comparison,
    used_frequencies,
)
from tomopolish.imaging.device_arrays import DeviceArrays
from tomopolish.imaging.devices import CpuCorrelator
from tomopolish.imaging.devices_cuda import CudaCorrelator
from tomopolish.imaging.frequencies import tilt_frequencies
from tomopolish.imaging.held_out import empty_windows
from tomopolish.imaging.kernels import compare_cuda as cuda_kernels
from tomopolish.imaging.kernels import derivatives_cuda as derivative_kernels
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
    """The host in the device's place; counts what it is given, and refuses threads where it is not active."""

    def __init__(self) -> None:
        modules = {"lib": np.lib, "fft": np.fft, "linalg": np.linalg}
        self.xp: Any = SimpleNamespace(**{name: getattr(np, name) for name in USED}, **modules)
        self.uploaded: list[tuple[int, ...]] = []
        self._of_thread = threading.local()

    @contextmanager
    def active(self) -> Iterator[None]:
        self._of_thread.active = True
        yield
        self._of_thread.active = False

    def check_active(self) -> None:
        assert getattr(self._of_thread, "active", False), "another device may be current in this thread"

    def upload(self, values: np.ndarray) -> np.ndarray:
        self.check_active()
        self.uploaded.append(values.shape)
        return np.array(values, order="C")

    def host_memory(self, shape: tuple[int, ...]) -> np.ndarray:
        self.check_active()
        return np.empty(shape, dtype=np.float32)

    def fill(self, target: np.ndarray, values: np.ndarray) -> None:
        assert target.shape == values.shape and target.flags.c_contiguous
        target[...] = values

    def download(self, values: np.ndarray) -> np.ndarray:
        self.check_active()
        return values.copy()

    def launch(self, kernel: Any, blocks: int | tuple[int, ...], threads: int, *arguments: Any) -> None:
        self.check_active()
        kernel[blocks, threads](*arguments)


# Nothing else of numpy may be needed: CuPy has these too.
USED = ("ascontiguousarray", "empty", "matmul", "moveaxis", "ones", "zeros")


def make_tasks(groups: tuple[OpticsGroup, ...], padding: float, box_px: int = BOX) -> list[TiltTask]:
    """Two tilt images with four particles; the second image does not show one of them."""
    rng = np.random.default_rng(17)
    images = (50 + rng.normal(size=(2, 62, 75))).astype(np.float32)
    series = make_series(rng, images)
    offsets = np.concatenate([rng.uniform(-9, 9, (3, 3)), [[0.0, 0.0, 0.0]]])
    particles = make_particles(rng, offsets + np.array(series.tomogram_size_px) / 2, groups)
    fsc = np.concatenate([np.linspace(1, 0.5, 8), np.zeros(box_px // 2 - 7)])
    prepared = prepare(make_references(rng, box_px, fsc=fsc), make_settings(box_px, REACH))
    geometry = pair_geometry(series, particles, box_px, np.ones(2, dtype=bool))
    assert geometry.visible.all()
    geometry.visible[1, 1] = False
    return [
        TiltTask(
            image=images[tilt],
            tilt=tilt,
            geometry=geometry,
            particles=particles,
            frequencies=tilt_frequencies(series, tilt, prepared.weight.half_plane, groups, 0.02),
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
            with ThreadPoolExecutor(1) as pool:
                found = cuda.noise_power(image, box, last)
                expected = CpuCorrelator(pool).noise_power(image, box, last)
        finally:
            devices_cuda.BATCH_BYTES = before
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        assert np.count_nonzero(found) == min(int(np.ceil(last)) + 1, box // 2) + (last == box / 2)
    many = np.random.default_rng(5).normal(size=(290, 275)).astype(np.float32)
    turn = Turn(index=3, count=41)
    with ThreadPoolExecutor(1) as pool:
        expected = CpuCorrelator(pool).noise_power(many, 16, 8.0, turn)
        np.testing.assert_allclose(cuda.noise_power(many, 16, 8.0, turn), expected, rtol=1e-5)


def comparisons(task: TiltTask, optics: tuple[str, ...], limit: float, states: int) -> list[Comparison]:
    """One tilt image's predictions before and after changes of optics and positions."""
    used = used_frequencies(task.frequencies, task.reference.box_px, 3.0, limit, optics)
    made = []
    for state in range(states):
        changed = used.changed(state * np.array([0.1, 20.0, 300.0, 100.0, -50.0, 10.0])[: len(optics)])
        moved = replace(task.geometry, anchors_px=task.geometry.anchors_px + 0.4 * state)
        moved_task = replace(task, frequencies=changed.frequencies, geometry=moved)
        made.append(Comparison(task=moved_task, used=changed, other_half=state == 1))
    return made


def check_derivatives(arrays: DeviceArrays) -> None:
    """Derivatives are the CPU's to 1e-5, whatever the aberrations, unknowns, resolutions, boxes and batches.

    Two species, with boxes of their own, take turns on the device; two states are compared in one box.
    """
    everything = (*ALWAYS, ASTIGMATISM, ASTIGMATISM_ASIDE, PHASE_SHIFT)
    cases = (
        (GROUPS, BOX, everything, 11.0, 2),
        (GROUPS[:1], 28, (*ALWAYS, PHASE_SHIFT), 8.0, 1),
        (GROUPS[1:], BOX, ALWAYS, 6.3, 1),
        (SEVERAL, 28, ALWAYS, 9.0, 1),
    )
    cuda = CudaCorrelator(arrays)
    for groups, box_px, optics, limit, states in cases:
        task = make_tasks(groups, 1.0, box_px)[1]
        chosen = np.flatnonzero(task.geometry.visible[task.tilt])[::-1]
        made = comparisons(task, optics, limit, states)
        with ThreadPoolExecutor(1) as pool:
            expected = CpuCorrelator(pool).tilt_derivatives(made, chosen)
        with mock.patch.object(devices_cuda, "BATCH_BYTES", 2 * 4 * box_px**2):
            found = cuda.tilt_derivatives(made, chosen)
        assert len(found) == len(expected) == states
        for ours, theirs in zip(found, expected, strict=True):
            size = np.sqrt(np.diagonal(theirs.normal, axis1=1, axis2=2))
            assert size.min() > 0
            both = ours.normal / (size[:, :, None] * size[:, None, :])
            np.testing.assert_allclose(both, theirs.normal / (size[:, :, None] * size[:, None, :]), atol=1e-5)
            scale = np.abs(theirs.matched / size).max()
            np.testing.assert_allclose(ours.matched / size, theirs.matched / size, rtol=0, atol=1e-5 * scale)
        if states == 2:
            assert np.abs(found[0].matched / found[1].matched - 1).min() > 1e-3, "states differ"


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


CHECKS = (check_windows, check_derivatives, check_noise, check_boxes, check_smallest_kernel)

if __name__ == "__main__":
    import_module("simulator")
    # A thread of the simulator costs 0.1 ms; and pairs take more than one block.
    cuda_kernels.THREADS = derivative_kernels.THREADS = 32
    derivative_kernels.PER_THREAD = 4
    for check in (*CHECKS, check_references_stay):
        check(NumpyArrays())
        print(f"{check.__name__} holds")
