"""Displacement surfaces: interpolation, derivatives, range penalty, blur (docs/dev/conventions.md)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from small_project import make_windows
from tomopolish.imaging.packed import PackedSamples
from tomopolish.imaging.windows import CorrelationWindows
from tomopolish.solve.surface import (
    B_SPLINE,
    DisplacementSurface,
    both_sides,
    evaluate_surface,
    smooth_surface,
    spline_filter,
)

RANGE = 5


def windows(step_px: float = 1.0) -> CorrelationWindows:
    return make_windows(np.random.default_rng(1), tilts=3, particles=4, range_px=RANGE, step_px=step_px)


def raw_surface(found: CorrelationWindows, penalty: float = 0.0) -> DisplacementSurface:
    return DisplacementSurface(
        coefficients=PackedSamples.exactly(found.values),
        visible=found.visible,
        basis=B_SPLINE,
        origin=found.origin,
        step_px=found.step_px,
        range_px=RANGE,
        length_px=1.0,
        range_penalty=penalty,
    )


def at(surface: DisplacementSurface, x: float, y: float) -> np.ndarray:
    return evaluate_surface(surface, np.broadcast_to([x, y], (*surface.visible.shape, 2))).value


@pytest.mark.parametrize("step_px", [1.0, 0.5])
def test_window_values_hold_everywhere_inside_the_range(step_px: float) -> None:
    found = windows(step_px)
    scale = np.abs(found.values).max()
    surface = smooth_surface(found)
    for ix in range(4, found.values.shape[-1] - 3):
        x = (ix - found.origin) * step_px
        assert abs(x) <= RANGE
        value = at(surface, x, -2 * step_px)
        expected = found.values[:, :, found.origin - 2, ix]
        np.testing.assert_allclose(value, np.where(found.visible, expected, 0), atol=3e-5 * scale)


def test_many_windows_are_interpolated_in_their_own_memory_and_on_threads() -> None:
    found = make_windows(np.random.default_rng(3), tilts=3, particles=70, range_px=RANGE, step_px=1.0)
    packed = PackedSamples.zeros(found.values.shape)
    for tilt, values in enumerate(found.values):
        packed.put(tilt, values)
    expected = smooth_surface(replace(found, values=deepcopy(packed))).coefficients
    with ThreadPoolExecutor(2) as pool:
        again = smooth_surface(replace(found, values=packed), pool=pool, into=packed).coefficients
    assert again is packed
    np.testing.assert_array_equal(again.numbers, expected.numbers)
    np.testing.assert_array_equal(again.units, expected.units)


def test_smooth_functions_are_followed_between_samples() -> None:
    found = windows()
    n = found.values.shape[-1]
    d = np.arange(n) - found.origin

    def wave(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.cos(0.7 * x + 0.3) * np.sin(0.5 * y - 0.2)

    found.values[:] = wave(d[None, :], d[:, None])
    spline = smooth_surface(found)
    for x, y in np.random.default_rng(2).uniform(-RANGE + 2, RANGE - 2, (50, 2)):
        expected = np.where(found.visible, wave(x, y), 0)
        np.testing.assert_allclose(at(spline, x, y), expected, atol=5e-3)


def test_weights_sum_to_one_and_keep_linear_functions() -> None:
    t = np.linspace(0, 1, 7)
    weights = B_SPLINE @ np.stack([t**k for k in range(4)])
    np.testing.assert_allclose(weights.sum(axis=0), 1, atol=1e-15)
    np.testing.assert_allclose(np.array([-1, 0, 1, 2]) @ weights, t, atol=1e-14)


coordinate = st.floats(-RANGE - 6, RANGE + 6)


@given(x=coordinate, y=coordinate, penalty=st.sampled_from([0.0, 7.0]))
def test_derivatives_by_finite_differences(x: float, y: float, penalty: float) -> None:
    found = windows(0.5)
    surface = raw_surface(found, penalty)
    h = 1e-5
    # the third derivative of the spline jumps at samples, the second one of the penalty at the range
    sample = np.array([x, y]) / 0.5
    assume(np.abs(sample - np.rint(sample)).min() > 1e-4 and abs(np.hypot(x, y) - RANGE) > 1e-3)
    shape = (*surface.visible.shape, 2)
    here = evaluate_surface(surface, np.broadcast_to([x, y], shape))

    def slope(dx: float, dy: float) -> tuple[np.ndarray, np.ndarray]:
        ahead = evaluate_surface(surface, np.broadcast_to([x + dx, y + dy], shape))
        behind = evaluate_surface(surface, np.broadcast_to([x - dx, y - dy], shape))
        return (ahead.value - behind.value) / (2 * h), (ahead.gradient - behind.gradient) / (2 * h)

    (by_x, grad_by_x), (by_y, grad_by_y) = slope(h, 0), slope(0, h)
    scale = 1 + penalty
    np.testing.assert_allclose(here.gradient, np.stack([by_x, by_y], axis=-1), atol=1e-7 * scale)
    xx, xy, yy = np.moveaxis(here.hessian, -1, 0)
    np.testing.assert_allclose(np.stack([xx, xy], axis=-1), grad_by_x, atol=1e-6 * scale)
    np.testing.assert_allclose(np.stack([xy, yy], axis=-1), grad_by_y, atol=1e-6 * scale)


def test_beyond_its_support_a_surface_is_zero_but_for_the_penalty() -> None:
    found = windows()
    for penalty in (0.0, 3.0):
        surface = raw_surface(found, penalty)
        for x, y in ((40.0, 0.0), (0.0, -40.0), (1e6, 1e6), (-1e6, 3.0)):
            expected = -penalty * (np.hypot(x, y) - RANGE) ** 2
            np.testing.assert_allclose(at(surface, x, y), np.where(found.visible, expected, 0), rtol=1e-12)


def test_pairs_that_are_not_visible_contribute_nothing() -> None:
    found = windows()
    assert not found.visible.all()
    found.values[~found.visible] = 1e9
    surface = smooth_surface(found, range_penalty=1.0)
    for x, y in ((0.3, 0.2), (30.0, 2.0)):
        result = evaluate_surface(surface, np.broadcast_to([x, y], (*surface.visible.shape, 2)))
        for part in (result.value, result.gradient, result.hessian):
            assert not part[~found.visible].any() and (x < 1 or part[found.visible].any())


def test_the_surface_fades_to_zero_over_its_margin() -> None:
    found = windows()
    found.values[:] = 1
    surface = smooth_surface(found)
    along = np.array([at(surface, x, 0.0)[found.visible] for x in np.linspace(RANGE, RANGE + 5, 60)])
    np.testing.assert_allclose(along[0], 1, atol=3e-5)
    assert (np.diff(along[10:40], axis=0) < 0).all()
    np.testing.assert_allclose(along[-1], 0, atol=3e-5)
    assert along.min() > -0.02 and along.max() < 1.02


@pytest.mark.parametrize("blur_px", [0.5, 1.3])
def test_blur_is_a_gaussian_convolution(blur_px: float) -> None:
    found = windows(0.5)
    # content well inside, so that the fading margin plays no part
    n, d = found.values.shape[-1], (np.arange(found.values.shape[-1]) - found.origin) * 0.5
    found.values[:] = np.exp(-(d[:, None] ** 2 + (d[None, :] - 0.5) ** 2) / 2)
    assert n > 20
    coefficients = np.empty_like(found.values)
    both_sides(lambda tilt: found.values[tilt], spline_filter(np.ones(n), 2 * blur_px), coefficients)
    surface = replace(raw_surface(found), coefficients=PackedSamples.exactly(coefficients))
    wide2 = 1 + blur_px**2
    for x, y in ((0.5, 0.0), (1.0, 1.0), (-1.5, 2.0)):
        expected = np.exp(-((x - 0.5) ** 2 + y**2) / (2 * wide2)) / wide2
        np.testing.assert_allclose(at(surface, x, y)[found.visible], expected, atol=2e-3)
