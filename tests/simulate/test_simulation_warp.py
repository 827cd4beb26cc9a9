"""2D warps of the simulator: RELION's layouts, by hand and against the alignment's own models."""

from __future__ import annotations

import numpy as np
import pytest

from tomopolish.dataset.model import Deformation
from tomopolish.models.warps.fourier import FourierWarp
from tomopolish.models.warps.linear import LinearWarp
from tomopolish.models.warps.spline import SplineWarp
from tomopolish.simulate.warp import (
    fourier_frequencies,
    random_warp,
    warp_displacement_px,
)

SIZE = (301, 220)


def _displacement(model: str, grid: tuple[int, int], coefficients: np.ndarray, point: tuple) -> np.ndarray:
    warp = Deformation(model=model, grid=grid, coefficients=coefficients[None])
    return warp_displacement_px(warp, np.array(point, dtype=float)[None, None], SIZE)[0, 0]


def test_linear_warp_is_about_the_image_centre() -> None:
    found = _displacement("linear", (2, 2), np.array([0.1, 0.2, 0.3]), (150.5 + 10, 110 - 5))
    np.testing.assert_allclose(found, [1.0, 2.0 - 1.5])


def test_fourier_frequencies_of_a_3_by_3_and_a_4_by_4_grid() -> None:
    assert fourier_frequencies((3, 3)) == [(1, 0), (1, -2), (1, -1)]
    assert fourier_frequencies((4, 4)) == [
        *[(1, 0), (2, 0), (0, 1), (1, 1), (2, 1)],
        *[(1, -2), (2, -2), (1, -1), (2, -1)],
    ]


def test_fourier_warp_puts_cosine_and_sine_of_dx_before_those_of_dy() -> None:
    coefficients = np.zeros(12)
    coefficients[2], coefficients[7] = 2.0, 3.0  # cosine of (1, −2) in dx, sine of (1, 0) in dy
    point = (50.0, 60.0)
    phase = np.pi * (50 / 301 - 2 * 60 / 220)
    expected = [2 * np.cos(phase), 3 * np.sin(np.pi * 50 / 301)]
    np.testing.assert_allclose(_displacement("Fourier", (3, 3), coefficients, point), expected)


def test_spline_warp_takes_values_and_slopes_at_its_nodes() -> None:
    coefficients = np.zeros((2, 3, 4, 4))  # dx/dy, row, column, (value, slope_x, slope_y, twist)
    coefficients[0, 1, 2] = [5.0, 0.7, -0.4, 0.0]
    node = np.array([2 * 301 / 3, 220 / 2])
    flat = coefficients.ravel()
    np.testing.assert_allclose(_displacement("spline", (4, 3), flat, tuple(node)), [5.0, 0.0])
    step = np.array([0.01, 0.0])
    slope = (_displacement("spline", (4, 3), flat, tuple(node + step))[0] - 5.0) / 0.01
    assert slope == pytest.approx(0.7 * 3 / 301, rel=1e-2)  # slopes are per cell


@pytest.mark.parametrize("model", ["linear", "spline", "Fourier"])
def test_agrees_with_the_models_of_the_alignment(model: str) -> None:
    rng = np.random.default_rng(3)
    grid, tilts = (4, 3), 5
    own = {
        "linear": LinearWarp(image_size_px=SIZE, warps=tilts),
        "spline": SplineWarp(image_size_px=SIZE, grid=grid, warps=tilts),
        "Fourier": FourierWarp(image_size_px=SIZE, grid=grid, warps=tilts),
    }[model]
    coefficients = rng.normal(size=own.shape)
    positions = rng.uniform(0, SIZE, (tilts, 20, 2))
    warp = Deformation(model=model, grid=grid, coefficients=coefficients)
    np.testing.assert_allclose(
        warp_displacement_px(warp, positions, SIZE), own.displacement_px(positions, coefficients), atol=1e-10
    )


@pytest.mark.parametrize("model", ["linear", "spline", "Fourier"])
def test_random_warps_have_the_amplitude_asked_for(model: str) -> None:
    coefficients = random_warp(model, (3, 3), 1.7, SIZE, 4, np.random.default_rng(0))
    assert coefficients.shape == (4, {"linear": 3, "spline": 72, "Fourier": 12}[model])
    positions = np.random.default_rng(1).uniform(0, SIZE, (4, 4000, 2))
    warp = Deformation(model=model, grid=(3, 3), coefficients=coefficients)
    length = np.linalg.norm(warp_displacement_px(warp, positions, SIZE), axis=-1)
    np.testing.assert_allclose(np.sqrt(np.mean(length**2, axis=1)), 1.7, rtol=0.1)
