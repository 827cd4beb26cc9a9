"""Products of one Fourier pixel's derivatives, in plain Python: the common source of CPU and GPU kernels.

As in `pixel`, functions consist of float32 arithmetic only, and call no other function. With V the slice of
the reference, G its derivatives by rotations, O the image and C the real factor (CTF and weights), the
prediction is C V. Its derivatives are C G by rotations, −i k C V by shifts, and V times real factors by
optics. Products of shifts with optics therefore vanish.
"""

from __future__ import annotations


def turned(gx, gy, gz, x, y, z):  # type: ignore[no-untyped-def]
    """Return derivatives by rotations about x, y and z, from those along the 3D frequency (x, y, z)."""
    return gy * z - gz * y, gz * x - gx * z, gx * y - gy * x


def multiplied(a_re, a_im, b_re, b_im):  # type: ignore[no-untyped-def]
    """Return the product of two complex numbers as (re, im)."""
    return a_re * b_re - a_im * b_im, a_re * b_im + a_im * b_re


def rotation_products(re, im, g_re, g_im, o_re, o_im, ctf):  # type: ignore[no-untyped-def]
    """Return the products of one rotation's derivative C G.

    Returns Re conj(C G) O, Re conj(C V) C G and Im conj(C V) C G.
    """
    square = ctf * ctf
    return (
        ctf * (g_re * o_re + g_im * o_im),
        square * (re * g_re + im * g_im),
        square * (re * g_im - im * g_re),
    )


def rotation_squares(a_re, a_im, b_re, b_im, c_re, c_im, ctf):  # type: ignore[no-untyped-def]
    """Return the products of the three rotations' derivatives with each other: aa, ab, ac, bb, bc, cc."""
    square = ctf * ctf
    return (
        square * (a_re * a_re + a_im * a_im),
        square * (a_re * b_re + a_im * b_im),
        square * (a_re * c_re + a_im * c_im),
        square * (b_re * b_re + b_im * b_im),
        square * (b_re * c_re + b_im * c_im),
        square * (c_re * c_re + c_im * c_im),
    )


def prediction_products(re, im, o_re, o_im, ctf):  # type: ignore[no-untyped-def]
    """Return the products of the prediction C V: |C V|², Re conj(C V) O and Im conj(C V) O."""
    return ctf * ctf * (re * re + im * im), ctf * (re * o_re + im * o_im), ctf * (re * o_im - im * o_re)


def phase_products(  # type: ignore[no-untyped-def]
    re, im, a_re, a_im, b_re, b_im, c_re, c_im, o_re, o_im, ctf, slope
):  # fmt: skip
    """Return the products of the derivative by γ, C' V, where C' is ``slope``.

    Returns those with the derivatives by the three rotations, with the prediction, and with the image.
    """
    both, power = slope * ctf, re * re + im * im
    return (
        both * (re * a_re + im * a_im),
        both * (re * b_re + im * b_im),
        both * (re * c_re + im * c_im),
        both * power,
        slope * (re * o_re + im * o_im),
    )


def phase_square(re, im, slope):  # type: ignore[no-untyped-def]
    """Return the square of the derivative by γ."""
    return slope * slope * (re * re + im * im)
