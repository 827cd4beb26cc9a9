"""Matrix products that the solver leaves to a device: same result, and only large ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from relion_runs import open_project
from small_project import make_settings
from tomopolish import device_arrays, pipeline
from tomopolish.device_arrays import HOST, LARGE_MATRIX, Arrays, Products
from tomopolish.pipeline import align
from tomopolish.progress import SilentProgress
from tomopolish.results import TomogramResult
from tomopolish.settings import DeformationSettings, MotionSettings


class OnDevice(np.ndarray):
    """An array that, as CuPy's, takes no part in anything together with one of the host's."""

    def __array_ufunc__(self, function: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if any(isinstance(i, np.ndarray) and i.ndim and not isinstance(i, OnDevice) for i in inputs):
            raise TypeError("an array of the host among the device's")
        plain = [i.view(np.ndarray) if isinstance(i, OnDevice) else i for i in inputs]
        return np.asarray(getattr(function, method)(*plain, **options)).view(OnDevice)


def eigh(matrix: OnDevice) -> tuple[OnDevice, ...]:
    """Find eigenvalues and eigenvectors there."""
    assert type(matrix) is OnDevice
    return tuple(found.view(OnDevice) for found in np.linalg.eigh(matrix.view(np.ndarray)))


class StandIn:
    """A device that is this host, strictly apart from it."""

    def __init__(self) -> None:
        self.xp: Any = SimpleNamespace(linalg=SimpleNamespace(eigh=eigh))
        self.uploaded: list[tuple[int, ...]] = []
        self.free = 2**40

    def active(self) -> AbstractContextManager[object]:
        return nullcontext()

    def upload(self, values: np.ndarray) -> OnDevice:
        assert type(values) is np.ndarray
        self.uploaded.append(values.shape)
        return np.array(values, order="C").view(OnDevice)

    def download(self, values: OnDevice) -> np.ndarray:
        assert type(values) is OnDevice
        return np.array(values.view(np.ndarray), order="C")

    def free_bytes(self) -> int:
        return self.free


def align_mini(mini: Path, device: Arrays | None, **settings: Any) -> TomogramResult:
    dataset = open_project(mini)
    series, particles = dataset.load(dataset.tomogram_names[0])
    references = dataset.references()
    asked = make_settings(references.half_maps.shape[-1], 6, **settings)

    @contextmanager
    def lend(name: str, elements: int) -> Iterator[Products]:
        assert name == asked.run.device and elements >= len(particles) ** 2
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
        {"deformation": DeformationSettings(model="linear")},
        {},
    ],
    ids=["motion", "few modes", "deformation", "static"],
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
    assert (one.trajectories_px is None) == ("motion" not in settings)
    if one.trajectories_px is not None:
        np.testing.assert_allclose(other.trajectories_px, one.trajectories_px, rtol=0, atol=1e-4)


def test_a_factor_goes_to_the_device_once(mini: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_arrays, "LARGE_MATRIX", 1)
    device = StandIn()
    few = MotionSettings(velocity_scale=0.5, absolute=True, max_deformations=3)
    result = align_mini(mini, device, motion=few)
    particles = len(result.alignments[0].positions_px)
    assert particles > 3 and device.uploaded.count((particles, 3)) == 1


def test_small_matrices_stay_and_large_ones_go_where_they_fit() -> None:
    device = StandIn()
    products = Products(device=device)
    assert products.of_matrix(LARGE_MATRIX) is device
    assert products.of_matrix(LARGE_MATRIX - 1) is HOST
    device.free = 20 * LARGE_MATRIX
    assert products.of_matrix(LARGE_MATRIX) is HOST, "no room for what finding its eigenvectors takes"
    assert Products().of_matrix(2**40) is HOST
