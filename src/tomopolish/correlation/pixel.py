"""Arithmetic of one Fourier pixel, in plain Python: the one source that CPU and GPU kernels compile.

Functions here call nothing but arithmetic, so that `numba.njit` and `numba.cuda.jit(device=True)` both take
them as they are. Everything is float32 on purpose: half the memory traffic, twice the lanes.
"""

from __future__ import annotations

import numpy as np

_INV_PI = np.float32(1 / np.pi)
# π in two parts: the first has 11 significant bits, so that multiples of it are exact in float32.
_PI_HIGH = np.float32(3.140625)
_PI_LOW = np.float32(np.pi - 3.140625)
# Minimax fit of (sin x − x)/x³ in x² over |x| ≤ π/2: the error of the sine is 5e-9 before rounding.
_S1 = np.float32(-0.16666657)
_S2 = np.float32(8.333017e-3)
_S3 = np.float32(-1.9806615e-4)
_S4 = np.float32(2.6000546e-6)


def sine(x):  # type: ignore[no-untyped-def]
    """Sine of a float32 phase, accurate to about 1e-6 for phases up to a few hundred radians.

    Branch-free, so that loops over pixels vectorise: reduce by multiples of π, then an odd polynomial.
    """
    turns = np.floor(x * _INV_PI + np.float32(0.5))
    rest = (x - turns * _PI_HIGH) - turns * _PI_LOW
    square = rest * rest
    value = rest + rest * square * (_S1 + square * (_S2 + square * (_S3 + square * _S4)))
    parity = turns - np.float32(2) * np.floor(turns * np.float32(0.5))
    return value * (np.float32(1) - np.float32(2) * parity)


def ctf_phase(kx, ky2, row_phase, linear, quadratic, quartic):  # type: ignore[no-untyped-def]
    """γ at column kx of one row: the row's constant plus its polynomial in kx (Fourier px).

    ``quartic`` multiplies k⁴ = (kx² + ky²)²; ``linear`` and ``quadratic`` already hold the row's defocus.
    """
    kx2 = kx * kx
    k2 = kx2 + ky2
    return row_phase + kx * linear + kx2 * quadratic + k2 * k2 * quartic


def lerp(a, b, t):  # type: ignore[no-untyped-def]
    """Linear interpolation between a and b."""
    return a + t * (b - a)
