"""Arithmetic of one Fourier pixel, in plain Python: the common source of CPU and GPU kernels.

Functions here consist of arithmetic only, so that both `numba.njit` and `numba.cuda.jit(device=True)` compile
them. All numbers are float32, for half the memory traffic and twice the numbers per instruction.
"""

from __future__ import annotations

import numpy as np

_INV_PI = np.float32(1 / np.pi)
# Adding and subtracting 1.5·2²³ rounds a float32 to the nearest integer. numba supports np.floor only on the
# CPU, and math.floor returns integers there, which prevents vector instructions.
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
    """Return the sine of a float32 phase, accurate to about 1e-6 for phases up to a few hundred radians.

    The phase is reduced by multiples of π, then an odd polynomial is evaluated. There are no branches, so
    that loops over pixels can be vectorised.
    """
    turns = (x * _INV_PI + _ROUND) - _ROUND
    rest = (x - turns * _PI_HIGH) - turns * _PI_LOW
    square = rest * rest
    value = rest + rest * square * (_S1 + square * (_S2 + square * (_S3 + square * _S4)))
    odd = turns - np.float32(2) * ((turns * np.float32(0.5) + _ROUND) - _ROUND)  # −1, 0 or 1
    return value * (np.float32(1) - np.float32(2) * odd * odd)


def ctf_phase(kx, ky, phase, xx, xy, yy):  # type: ignore[no-untyped-def]
    """Return γ at one frequency (Fourier px) from its part without defocus and its defocus terms.

    ``xx``, ``xy`` and ``yy`` are the phase per kx², kx·ky and ky².
    """
    return phase + kx * (kx * xx + ky * xy) + ky * ky * yy


def locate(x, y, z, reach):  # type: ignore[no-untyped-def]
    """Return the cell of a half map's transform that contains a 3D frequency (Fourier px).

    Returns the number of floats before the cell's first corner in `ReferenceTransform.flat`, counted from
    the half map's first; the position within the cell along x, y and z; and −1 where the Friedel mate at −k
    is used, since kx < 0 is not stored, else 1. ``reach`` is `ReferenceTransform.reach`.
    """
    side = np.float32(1) if x >= np.float32(0) else np.float32(-1)
    low = np.float32(reach)
    x, y, z = side * x, side * y + low, side * z + low
    last = np.int32(2 * reach - 1)
    ix, iy, iz = min(np.int32(x), np.int32(reach - 1)), min(np.int32(y), last), min(np.int32(z), last)
    cell = (iz * np.int32(2 * reach + 1) + iy) * np.int32(reach + 1) + ix
    return np.uint32(2 * cell), x - np.float32(ix), y - np.float32(iy), z - np.float32(iz), side


def blend(reference, place, row, layer, tx, ty, tz, side):  # type: ignore[no-untyped-def]
    """Return the trilinear value at a place of `locate`, as (re, im).

    ``reference`` is `ReferenceTransform.flat`, with real and imaginary parts in turn: four neighbouring
    floats have the same weights along y and z, and a sum of four products needs fewer operations than three
    interpolations. ``place`` counts from the first half map; ``row`` and ``layer`` are the number of floats
    from a corner to the next along y and z. All are uint64, since signed indices would be tested for
    wrapping around.
    """
    k1, k2, k3 = np.uint64(1), np.uint64(2), np.uint64(3)
    b, c, d = place + row, place + layer, place + layer + row
    in_d = ty * tz
    in_b, in_c = ty - in_d, tz - in_d
    in_a = (np.float32(1) - ty) - in_c
    left_re = in_a * reference[place] + in_b * reference[b] + in_c * reference[c] + in_d * reference[d]
    left_im = (
        in_a * reference[place + k1] + in_b * reference[b + k1] + in_c * reference[c + k1]
        + in_d * reference[d + k1]
    )  # fmt: skip
    right_re = (
        in_a * reference[place + k2] + in_b * reference[b + k2] + in_c * reference[c + k2]
        + in_d * reference[d + k2]
    )  # fmt: skip
    right_im = (
        in_a * reference[place + k3] + in_b * reference[b + k3] + in_c * reference[c + k3]
        + in_d * reference[d + k3]
    )  # fmt: skip
    return left_re + tx * (right_re - left_re), side * (left_im + tx * (right_im - left_im))


def blend_gradient(reference, place, row, layer, tx, ty, tz, side):  # type: ignore[no-untyped-def]
    """Return the value of `blend` and its derivatives along the 3D frequency's x, y and z, as eight floats.

    They are derivatives of the interpolant itself: (re, im) of the value, then of those along x, y and z.
    """
    k1, k2, k3 = np.uint64(1), np.uint64(2), np.uint64(3)
    a0, a1, a2, a3 = (
        reference[place],
        reference[place + k1],
        reference[place + k2],
        reference[place + k3],
    )
    at = place + row
    b0, b1, b2, b3 = reference[at], reference[at + k1], reference[at + k2], reference[at + k3]
    at = place + layer
    c0, c1, c2, c3 = reference[at], reference[at + k1], reference[at + k2], reference[at + k3]
    at = place + layer + row
    d0, d1, d2, d3 = reference[at], reference[at + k1], reference[at + k2], reference[at + k3]
    b0, b1, b2, b3 = b0 - a0, b1 - a1, b2 - a2, b3 - a3  # along y, in both layers
    d0, d1, d2, d3 = d0 - c0, d1 - c1, d2 - c2, d3 - c3
    a0, a1, a2, a3 = a0 + ty * b0, a1 + ty * b1, a2 + ty * b2, a3 + ty * b3
    c0, c1, c2, c3 = c0 + ty * d0, c1 + ty * d1, c2 + ty * d2, c3 + ty * d3
    c0, c1, c2, c3 = c0 - a0, c1 - a1, c2 - a2, c3 - a3  # along z
    b0, b1, b2, b3 = b0 + tz * (d0 - b0), b1 + tz * (d1 - b1), b2 + tz * (d2 - b2), b3 + tz * (d3 - b3)
    a0, a1, a2, a3 = a0 + tz * c0, a1 + tz * c1, a2 + tz * c2, a3 + tz * c3
    # The stored half is the conjugate of its mate: values at −k are conjugated, and derivatives negated, too.
    return (
        a0 + tx * (a2 - a0),
        side * (a1 + tx * (a3 - a1)),
        side * (a2 - a0),
        a3 - a1,
        side * (b0 + tx * (b2 - b0)),
        b1 + tx * (b3 - b1),
        side * (c0 + tx * (c2 - c0)),
        c1 + tx * (c3 - c1),
    )
