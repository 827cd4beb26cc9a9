"""Arithmetic of one Fourier pixel, compiled as the kernels compile it."""

from __future__ import annotations

import numpy as np
from numba import njit

from tomopolish.imaging.kernels import pixel, pixel_cpu

sine = pixel_cpu.sine


@njit(fastmath=True, error_model="numpy")
def sines(phases, out):  # type: ignore[no-untyped-def]
    for i in range(len(phases)):
        out[i] = sine(phases[i])


def test_sine_is_good_to_float32_for_hundreds_of_radians() -> None:
    near = np.linspace(-7, 7, 200_001)
    far = np.random.default_rng(1).uniform(-600, 600, 200_001)
    for phases, tolerance in ((near, 3e-7), (far, 1e-6)):
        x = phases.astype(np.float32)
        out = np.empty_like(x)
        sines(x, out)
        assert np.abs(out - np.sin(x.astype(np.float64))).max() < tolerance


def test_sine_at_multiples_of_pi() -> None:
    x = (np.arange(-200, 201) * np.pi).astype(np.float32)
    out = np.empty_like(x)
    sines(x, out)
    np.testing.assert_allclose(out, np.sin(x.astype(np.float64)), atol=1e-6)
    assert pixel.sine(np.float32(0)) == 0


def test_plain_python_takes_the_same_functions() -> None:
    """The one source serves any compiler: uncompiled it gives the same values."""
    for x in (-3.0, 0.5, 40.0):
        assert abs(pixel.sine(np.float32(x)) - np.sin(x)) < 1e-6
