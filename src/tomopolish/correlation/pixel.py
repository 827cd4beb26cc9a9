"""Arithmetic of one Fourier pixel, in plain Python: the one source that CPU and GPU kernels compile.

Functions here call nothing but arithmetic, so that `numba.njit` and `numba.cuda.jit(device=True)` both take
them as they are. Everything is float32 on purpose: half the memory traffic, twice the lanes.
"""

from __future__ import annotations

import numpy as np

_INV_PI = np.float32(1 / np.pi)
# Adding and subtracting 1.5·2²³ rounds a float32 to the nearest integer. np.floor is no help: numba knows it
# on the CPU only, where math.floor in turn gives integers, which leave the vector units.
_ROUND = np.float32(1.5 * 2**23)
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
    turns = (x * _INV_PI + _ROUND) - _ROUND
    rest = (x - turns * _PI_HIGH) - turns * _PI_LOW
    square = rest * rest
    value = rest + rest * square * (_S1 + square * (_S2 + square * (_S3 + square * _S4)))
    odd = turns - np.float32(2) * ((turns * np.float32(0.5) + _ROUND) - _ROUND)  # −1, 0 or 1
    return value * (np.float32(1) - np.float32(2) * odd * odd)


def ctf_phase(kx, ky2, row_phase, linear, quadratic, quartic):  # type: ignore[no-untyped-def]
    """γ at column kx of one row: the row's constant plus its polynomial in kx (Fourier px).

    ``quartic`` multiplies k⁴ = (kx² + ky²)²; ``linear`` and ``quadratic`` already hold the row's defocus.
    """
    kx2 = kx * kx
    k2 = kx2 + ky2
    return row_phase + kx * linear + kx2 * quadratic + k2 * k2 * quartic


def sample(reference, half, x, y, z):  # type: ignore[no-untyped-def]
    """Trilinear value of a half map's transform at a 3D frequency (Fourier px); Friedel symmetry for x < 0.

    ``reference`` is `ReferenceTransform.values`: kx from 0, ky and kz from −reach.
    """
    reach = reference.shape[3] - 1
    mirrored = x < np.float32(0)
    if mirrored:
        x, y, z = -x, -y, -z
    ix = min(int(x), reach - 1)
    iy = min(int(y + np.float32(reach)), 2 * reach - 1)
    iz = min(int(z + np.float32(reach)), 2 * reach - 1)
    tx = x - np.float32(ix)
    ty = y + np.float32(reach) - np.float32(iy)
    tz = z + np.float32(reach) - np.float32(iz)
    a = reference[half, iz, iy, ix]
    b = reference[half, iz, iy + 1, ix]
    c = reference[half, iz + 1, iy, ix]
    d = reference[half, iz + 1, iy + 1, ix]
    a += tx * (reference[half, iz, iy, ix + 1] - a)
    b += tx * (reference[half, iz, iy + 1, ix + 1] - b)
    c += tx * (reference[half, iz + 1, iy, ix + 1] - c)
    d += tx * (reference[half, iz + 1, iy + 1, ix + 1] - d)
    a += ty * (b - a)
    c += ty * (d - c)
    a += tz * (c - a)
    return a.real, -a.imag if mirrored else a.imag
