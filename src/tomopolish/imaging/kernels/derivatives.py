"""Compiled kernel (CPU) of the derivatives of a pair's prediction, on one thread, without Python's lock.

Nothing is transformed back: a pair leaves only products of its derivatives with the image and with each
other, whose number does not depend on the box.
"""

from __future__ import annotations

import numpy as np

from tomopolish.imaging.kernels.pixel_cpu import blend_gradient, ctf_phase, locate, sine
from tomopolish.jit import inlined, kernel

BLOCK = 512
"""Frequencies that are processed together: their derivatives fit into the first two caches."""

SCALE = 5
"""Row of the derivative by the logarithm of the scale, between those of the geometry and of other optics."""


@inlined(fastmath=True, error_model="numpy")
def _slice(  # type: ignore[no-untyped-def]
    reference, reach, half, view, kx, ky, first, count, odd, places, within, values
):  # fmt: skip
    """Write the prediction before the CTF, and its derivatives by rotations, of some frequencies.

    ``values`` (8, BLOCK) receives (re, im) of the value and of the derivatives by rotations of the particle
    about its own x, y and z axes.
    """
    width, height = 2 * (reach + 1), 2 * reach + 1
    row, layer, start = np.uint64(width), np.uint64(width * height), np.uint64(half * width * height**2)
    tx, ty, tz, side = within[0], within[1], within[2], within[3]
    wx, wy, wz = within[4], within[5], within[6]
    for i in range(count):
        x, y = kx[first + i], ky[first + i]
        wx[i] = x * view[0, 0] + y * view[1, 0]
        wy[i] = x * view[0, 1] + y * view[1, 1]
        wz[i] = x * view[0, 2] + y * view[1, 2]
        places[i], tx[i], ty[i], tz[i], side[i] = locate(wx[i], wy[i], wz[i], reach)
    for i in range(count):
        re, im, x_re, x_im, y_re, y_im, z_re, z_im = blend_gradient(
            reference, start + np.uint64(places[i]), row, layer, tx[i], ty[i], tz[i], side[i]
        )
        x, y, z = wx[i], wy[i], wz[i]
        values[0, i], values[1, i] = re, im
        values[2, i], values[3, i] = y_re * z - z_re * y, y_im * z - z_im * y
        values[4, i], values[5, i] = z_re * x - x_re * z, z_im * x - x_im * z
        values[6, i], values[7, i] = x_re * y - y_re * x, x_im * y - y_im * x
    if len(odd) > 0:
        for j in range(4):
            for i in range(count):
                turn, re, im = odd[first + i], values[2 * j, i], values[2 * j + 1, i]
                values[2 * j, i] = re * turn.real - im * turn.imag
                values[2 * j + 1, i] = re * turn.imag + im * turn.real


@inlined(fastmath=True, error_model="numpy")
def _image(  # type: ignore[no-untyped-def]
    observed_re, observed_im, place, kx, ky, first, count, turn_x, turn_y, image_weight, row
):  # fmt: skip
    """Write the weighted image, with the particle's exact centre at the origin, of some frequencies."""
    quarter = np.float32(np.pi / 2)
    for i in range(count):
        k = first + i
        re, im = observed_re[place[k]], observed_im[place[k]]
        turn = kx[k] * turn_x + ky[k] * turn_y
        q_re, q_im = sine(turn + quarter) * image_weight[k], sine(turn) * image_weight[k]
        row[0, i], row[1, i] = re * q_re - im * q_im, re * q_im + im * q_re


@inlined(fastmath=True, error_model="numpy")
def _add_products(rows, matched, normal):  # type: ignore[no-untyped-def]
    """Add the products of derivatives with the image, which is the last row, and with each other."""
    unknowns = len(matched)
    for m in range(unknowns):
        left = rows[m].reshape(-1)
        for n in range(m, unknowns + 1):
            right, part = rows[n].reshape(-1), np.float32(0)
            for i in range(2 * BLOCK):
                part += left[i] * right[i]
            if n < unknowns:
                normal[m, n] += part
            else:
                matched[m] += part


@kernel(fastmath=True, error_model="numpy")
def pair_derivatives(  # type: ignore[no-untyped-def]
    spectra, place, box_px, reference, reach, half_set, views, centre, kx, ky, image_weight, amplitude,
    damping, rates, defocus, phase, odd, group, matched, normal,
):  # fmt: skip
    """Compute products of each pair's weighted derivatives with its image and with each other.

    With S the prediction, multiplied by the square root of its weight, and O the image, weighted alike, the
    log-likelihood is −½ Σ |O − S|² over the full plane, up to a constant. Its derivatives follow from
    ``matched[n] = Re Σ O conj(∂S/∂n)`` and ``normal[m, n] = Re Σ conj(∂S/∂m) ∂S/∂n``: the derivative by the
    logarithm of the scale is S itself. Sums are float32 within `BLOCK` frequencies and float64 beyond.

    Parameters
    ----------
    spectra : (B, 2, 2, R, C) float32, see `kernels.boxes.box_spectra`
    place : (K,) int64, index of each frequency in a flat plane (2, R, C)
    box_px, reference, reach, half_set, views, centre, defocus, group
        As in `kernels.compare.correlate_spectra`
    kx, ky : (K,) float32, frequencies in use, Fourier px
    image_weight, amplitude : (K,) float32, real factors of the image and of the prediction
    damping : (K,) float32, derivative of the logarithm of the prediction by the B factor
    rates : (M, K) float32, derivatives of γ
    phase : (G, K) float32, γ without defocus
    odd : (G, K) complex64 factor of the prediction; (G, 0) where it is 1
    matched : (B, 7 + M) float64, written: rotation (3), shift (2, px), ln scale, B factor, terms of γ
    normal : (B, 7 + M, 7 + M) float64, written
    """
    total, unknowns = len(kx), matched.shape[1]
    rows = np.zeros((unknowns + 1, 2, BLOCK), np.float32)
    values, within = np.empty((8, BLOCK), np.float32), np.empty((7, BLOCK), np.float32)
    places = np.empty(BLOCK, np.uint32)
    unit, quarter = np.float32(2 * np.pi / box_px), np.float32(np.pi / 2)
    for b in range(len(spectra)):
        observed_re, observed_im = spectra[b, 0].reshape(-1), spectra[b, 1].reshape(-1)
        g, turn_x, turn_y = group[b], unit * np.float32(centre[b, 0]), unit * np.float32(centre[b, 1])
        gamma, factors = phase[g], odd[g]
        d0, d1, d2 = defocus[b, 0], defocus[b, 1], defocus[b, 2]
        matched[b], normal[b] = 0, 0
        for first in range(0, total, BLOCK):
            count = min(BLOCK, total - first)
            if count < BLOCK:
                rows[:, :, count:] = 0
            _slice(
                reference, reach, half_set[b], views[b], kx, ky, first, count, factors, places, within, values
            )
            _image(
                observed_re, observed_im, place, kx, ky, first, count, turn_x, turn_y, image_weight,
                rows[unknowns],
            )  # fmt: skip
            for i in range(count):
                k = first + i
                x, y = kx[k], ky[k]
                angle = ctf_phase(x, y, gamma[k], d0, d1, d2)
                ctf = amplitude[k] * sine(angle)
                slope = amplitude[k] * sine(angle + quarter)
                re, im = values[0, i], values[1, i]
                for j in range(3):
                    rows[j, 0, i], rows[j, 1, i] = ctf * values[2 + 2 * j, i], ctf * values[3 + 2 * j, i]
                s_re, s_im = ctf * re, ctf * im
                rows[3, 0, i], rows[3, 1, i] = unit * x * s_im, -unit * x * s_re
                rows[4, 0, i], rows[4, 1, i] = unit * y * s_im, -unit * y * s_re
                rows[5, 0, i], rows[5, 1, i] = s_re, s_im
                rows[6, 0, i], rows[6, 1, i] = damping[k] * s_re, damping[k] * s_im
                rows[7, 0, i], rows[7, 1, i] = slope * re, slope * im
            # Backwards, since row 7 is the prediction without its rate.
            for j in range(unknowns - 8, -1, -1):
                for i in range(count):
                    rate = rates[j, first + i]
                    rows[7 + j, 0, i], rows[7 + j, 1, i] = rate * rows[7, 0, i], rate * rows[7, 1, i]
            _add_products(rows, matched[b], normal[b])
        for m in range(unknowns):
            for n in range(m):
                normal[b, m, n] = normal[b, n, m]
