"""Matrix products that the solver leaves to a device: same result, and only large ones."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from relion_runs import open_project
from small_project import make_settings
from tomopolish import device_arrays, pipeline
from tomopolish.device_arrays import HOST, Products
from tomopolish.models.gaussian_process import GaussianProcessMotion
from tomopolish.pipeline import align
from tomopolish.progress import SilentProgress
from tomopolish.results.tomogram import TomogramResult
from tomopolish.settings.alignment import DeformationSettings, MotionSettings


class OnDevice:
    """An array on a device: as CuPy's, it takes part in nothing with the host's, and only there."""

    __array_ufunc__ = None

    def __init__(self, values: np.ndarray, device: StandIn) -> None:
        self._values, self._device = values, device
        self.shape, self.dtype = values.shape, values.dtype

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("an array of the device among the host's")

    def __len__(self) -> int:
        return len(self._values)

    @property
    def T(self) -> OnDevice:  # noqa: N802  NumPy's name
        return OnDevice(self._values.T, self._device)

    def __matmul__(self, other: OnDevice) -> OnDevice:
        return self._with(other, np.matmul)

    def __truediv__(self, other: OnDevice) -> OnDevice:
        return self._with(other, np.divide)

    def _with(self, other: OnDevice, function: Any) -> OnDevice:
        assert type(other) is OnDevice and other._device is self._device
        return self._device.made(function(self._values, other._values))


class StandIn:
    """A device that is this host, strictly apart from it; each thread must make it its own to use it."""

    def __init__(self) -> None:
        self.xp: Any = SimpleNamespace(linalg=SimpleNamespace(eigh=self._eigh))
        self.uploaded: list[tuple[int, ...]] = []
        self.free, self.full, self._thread = 2**40, False, threading.local()

    @contextmanager
    def active(self) -> Iterator[None]:
        before = getattr(self._thread, "active", False)
        self._thread.active = True
        yield
        self._thread.active = before

    def made(self, values: np.ndarray) -> OnDevice:
        assert self._thread.active, "without the device's context the array would be on another one"
        return OnDevice(values, self)

    def upload(self, values: np.ndarray) -> OnDevice:
        assert type(values) is np.ndarray
        if self.full:
            raise MemoryError
        self.uploaded.append(values.shape)
        return self.made(np.array(values, order="C"))

    def download(self, values: OnDevice) -> np.ndarray:
        assert type(values) is OnDevice and self._thread.active
        return np.array(values._values, order="C")

    def free_bytes(self) -> int:
        return self.free

    def _eigh(self, matrix: OnDevice) -> tuple[OnDevice, ...]:
        if self.full:
            raise MemoryError
        return tuple(self.made(found) for found in np.linalg.eigh(matrix._values))


def align_mini(mini: Path, device: Any, **settings: Any) -> TomogramResult:
    dataset = open_project(mini)
    series, particles = dataset.load(dataset.tomogram_names[0])
    references = dataset.references()
    asked = make_settings(references.half_maps.shape[-1], 6, **settings)

    @contextmanager
    def lend(name: str, elements: int) -> Iterator[Products]:
        modes = asked.motion and asked.motion.max_deformations
        assert name == asked.run.device and elements == len(particles) * (modes or len(particles))
        yield Products(device=device)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(align, "lend_products", lend)
        return pipeline.align_tomogram(
            series, particles, pipeline.prepare(references, asked), asked, SilentProgress()
        )


@pytest.mark.parametrize(
    "settings",
    [
        {"motion": MotionSettings(velocity_scale=0.5, absolute=True)},
        {"motion": MotionSettings(velocity_scale=0.5, absolute=True, max_deformations=3)},
        {
            "motion": MotionSettings(velocity_scale=0.5, absolute=True),
            "deformation": DeformationSettings(model="linear"),
        },
    ],
    ids=["motion", "few modes", "motion and deformation"],
)
def test_a_device_changes_nothing(
    mini: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = align_mini(mini, None, **settings)
    monkeypatch.setattr(device_arrays, "LARGE_MATRIX", 1)
    device = StandIn()
    there = align_mini(mini, device, **settings)
    assert device.uploaded
    one, other = here.alignments[0], there.alignments[0]
    np.testing.assert_allclose(other.positions_px, one.positions_px, rtol=0, atol=1e-4)
    np.testing.assert_allclose(other.projections_px, one.projections_px, rtol=0, atol=1e-3)
    assert one.trajectories_px is not None and other.trajectories_px is not None
    np.testing.assert_allclose(other.trajectories_px, one.trajectories_px, rtol=0, atol=1e-4)


def test_a_factor_goes_to_the_device_once(mini: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_arrays, "LARGE_MATRIX", 1)
    device = StandIn()
    few = MotionSettings(velocity_scale=0.5, absolute=True, max_deformations=3)
    result = align_mini(mini, device, motion=few)
    particles = len(result.alignments[0].positions_px)
    assert particles > 3 and device.uploaded.count((3, particles)) == 1


def test_small_matrices_stay_and_large_ones_go_where_they_fit() -> None:
    device, large = StandIn(), np.zeros((1024, 1024))
    products = Products(device=device)  # type: ignore[arg-type]
    assert products.keep(large)[0] is device and device.uploaded == [(1024, 1024)]
    assert products.keep(large[:-1])[0] is HOST
    device.free = 20 * large.size
    assert products.keep(large) == (HOST, large), "no room for what finding its eigenvectors takes"
    device.free, device.full = 2**40, True
    assert products.keep(large) == (HOST, large), "others have taken it since"
    assert Products().keep(large) == (HOST, large)


def test_a_device_that_fills_up_leaves_the_rest_to_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_arrays, "LARGE_MATRIX", 1)
    positions, device = np.random.default_rng(3).uniform(0, 500, (9, 3)), StandIn()
    scales = {"sigma_velocity_px": 0.5, "sigma_distance_px": 200.0}
    host = GaussianProcessMotion.build(positions, np.arange(5), **scales)
    products = Products(device=device)  # type: ignore[arg-type]
    there = GaussianProcessMotion.build(positions, np.arange(5), **scales, products=products)
    assert there.arrays is device
    device.full = True
    for found, expected in zip(there.spectrum(), host.spectrum(), strict=True):
        np.testing.assert_array_equal(found, expected)
