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


def ctf_phase(kx, ky, phase, xx, xy, yy):  # type: ignore[no-untyped-def]
    """γ at one frequency (Fourier px): what it is but for defocus, and defocus per kx², kx·ky and ky²."""
    return phase + kx * (kx * xx + ky * xy) + ky * ky * yy


def locate(x, y, z, reach):  # type: ignore[no-untyped-def]
    """Cell of a half map's transform that holds a 3D frequency (Fourier px): its place, and where within it.

    Returns the number of floats before the cell's first corner in `ReferenceTransform.flat`, counted from
    the half map's first; the position within the cell along x, y and z; and −1 where Friedel's mate at −k
    was taken, since kx < 0 is not stored, else 1. ``reach`` is `ReferenceTransform.reach`.
    """
    side = np.float32(1) if x >= np.float32(0) else np.float32(-1)
    low = np.float32(reach)
    x, y, z = side * x, side * y + low, side * z + low
    last = np.int32(2 * reach - 1)
    ix, iy, iz = min(np.int32(x), np.int32(reach - 1)), min(np.int32(y), last), min(np.int32(z), last)
    cell = (iz * np.int32(2 * reach + 1) + iy) * np.int32(reach + 1) + ix
    return np.uint32(2 * cell), x - np.float32(ix), y - np.float32(iy), z - np.float32(iz), side


def blend(reference, place, row, layer, tx, ty, tz, side):  # type: ignore[no-untyped-def]
    """Trilinear value at the place that `locate` found, as (re, im).

    ``reference`` is `ReferenceTransform.flat`: real and imaginary parts in turn, so that along y and z four
    neighbouring floats are blended alike, which compilers turn into one vector operation. ``place`` counts
    from the first half map; ``row`` and ``layer`` are the floats from a corner to the next along y and z.
    All are uint64: signed numbers would be looked at for wrapping around.
    """
    one, two, three = np.uint64(1), np.uint64(2), np.uint64(3)
    a0, a1, a2, a3 = (
        reference[place],
        reference[place + one],
        reference[place + two],
        reference[place + three],
    )
    at = place + row
    b0, b1, b2, b3 = reference[at], reference[at + one], reference[at + two], reference[at + three]
    at = place + layer
    c0, c1, c2, c3 = reference[at], reference[at + one], reference[at + two], reference[at + three]
    at = place + layer + row
    d0, d1, d2, d3 = reference[at], reference[at + one], reference[at + two], reference[at + three]
    a0, a1, a2, a3 = a0 + ty * (b0 - a0), a1 + ty * (b1 - a1), a2 + ty * (b2 - a2), a3 + ty * (b3 - a3)
    c0, c1, c2, c3 = c0 + ty * (d0 - c0), c1 + ty * (d1 - c1), c2 + ty * (d2 - c2), c3 + ty * (d3 - c3)
    a0, a1, a2, a3 = a0 + tz * (c0 - a0), a1 + tz * (c1 - a1), a2 + tz * (c2 - a2), a3 + tz * (c3 - a3)
    return a0 + tx * (a2 - a0), side * (a1 + tx * (a3 - a1))
