"""Compiled kernel (CPU) of the derivatives of a pair's prediction, on one thread, without Python's lock.

Nothing is transformed back: a pair leaves only products of its derivatives with the image and with each
other, whose number does not depend on the box.
"""

from __future__ import annotations

import numpy as np

from tomopolish.imaging.kernels.pixel_cpu import (
    blend,
    blend_gradient,
    ctf_phase,
    locate,
    multiplied,
    phase_products,
    phase_square,
    prediction_products,
    rotation_products,
    rotation_squares,
    sine,
    turned,
)
from tomopolish.jit import inlined, kernel

# Two rules let the compiler use vector instructions. Loops read slices that begin at a block's first
# frequency, since an index that is a sum may be negative. Sums have loops of their own without stores, since
# before stores the compiler tests whether arrays overlap, and gives up where there are many.

BLOCK = 512
"""Frequencies that are processed together: their values and derivatives fit into the first cache."""

SCALE = 5
"""Row of the derivative by the logarithm of the scale, between those of the geometry and of other optics."""


@inlined(fastmath=True, error_model="numpy")
def _slice(  # type: ignore[no-untyped-def]
    reference, reach, half, view, kx, ky, odd, places, within, values
):  # fmt: skip
    """Write the prediction before the CTF, and its derivatives by rotations, of a block of frequencies.

    ``values`` (8, BLOCK) receives (re, im) of the value and of the derivatives by rotations of the particle
    about its own x, y and z axes.
    """
    width, height, count = 2 * (reach + 1), 2 * reach + 1, len(kx)
    row, layer, start = np.uint64(width), np.uint64(width * height), np.uint64(half * width * height**2)
    tx, ty, tz, side = within[0], within[1], within[2], within[3]
    wx, wy, wz = within[4], within[5], within[6]
    for i in range(count):
        x, y = kx[i], ky[i]
        wx[i] = x * view[0, 0] + y * view[1, 0]
        wy[i] = x * view[0, 1] + y * view[1, 1]
        wz[i] = x * view[0, 2] + y * view[1, 2]
        places[i], tx[i], ty[i], tz[i], side[i] = locate(wx[i], wy[i], wz[i], reach)
    for i in range(count):
        (
            values[0, i], values[1, i], values[2, i], values[3, i],
            values[4, i], values[5, i], values[6, i], values[7, i],
        ) = blend_gradient(
            reference, start + np.uint64(places[i]), row, layer, tx[i], ty[i], tz[i], side[i]
        )  # fmt: skip
    for part in range(2):
        along_x, along_y, along_z = values[2 + part], values[4 + part], values[6 + part]
        for i in range(count):
            along_x[i], along_y[i], along_z[i] = turned(
                along_x[i], along_y[i], along_z[i], wx[i], wy[i], wz[i]
            )
    if len(odd) > 0:
        for j in range(4):
            for i in range(count):
                values[2 * j, i], values[2 * j + 1, i] = multiplied(
                    values[2 * j, i], values[2 * j + 1, i], odd[i].real, odd[i].imag
                )


@inlined(fastmath=True, error_model="numpy")
def _image(  # type: ignore[no-untyped-def]
    observed_re, observed_im, place, kx, ky, turn_x, turn_y, image_weight, image
):  # fmt: skip
    """Write the weighted image, with the particle's exact centre at the origin, of a block of frequencies."""
    quarter, re, im = np.float32(np.pi / 2), image[0], image[1]
    for i in range(len(kx)):
        re[i] = observed_re[place[i]]
    for i in range(len(kx)):
        im[i] = observed_im[place[i]]
    for i in range(len(kx)):
        turn = kx[i] * turn_x + ky[i] * turn_y
        q_re, q_im = sine(turn + quarter) * image_weight[i], sine(turn) * image_weight[i]
        re[i], im[i] = multiplied(re[i], im[i], q_re, q_im)


@inlined(fastmath=True, error_model="numpy")
def _ctf(kx, ky, gamma, terms, amplitude, ctf, slope):  # type: ignore[no-untyped-def]
    """Write the prediction's factor, and its derivative by γ, of a block of frequencies."""
    quarter, xx, xy, yy = np.float32(np.pi / 2), terms[0], terms[1], terms[2]
    for i in range(len(kx)):
        angle = ctf_phase(kx[i], ky[i], gamma[i], xx, xy, yy)
        ctf[i] = amplitude[i] * sine(angle)
        slope[i] = amplitude[i] * sine(angle + quarter)


@inlined(fastmath=True, error_model="numpy")
def _match(kx, ky, gamma, terms, amplitude, values, image):  # type: ignore[no-untyped-def]
    """Return the products of the prediction with the image and with itself, of a block of frequencies."""
    xx, xy, yy, re, im, o_re, o_im = terms[0], terms[1], terms[2], values[0], values[1], image[0], image[1]
    matched = power = np.float32(0)
    for i in range(len(kx)):
        factor = amplitude[i] * sine(ctf_phase(kx[i], ky[i], gamma[i], xx, xy, yy))
        own, matching, _ = prediction_products(re[i], im[i], o_re[i], o_im[i], factor)
        matched += matching
        power += own
    return matched, power


@inlined(fastmath=True, error_model="numpy")
def _add_rotation(  # type: ignore[no-untyped-def]
    j, values, image, ctf, kx, ky, damping, unit, matched, normal
):  # fmt: skip
    """Add the products of the derivative by rotation j with the image, shifts, ln scale and B factor."""
    re, im, g_re, g_im, o_re, o_im = (
        values[0], values[1], values[2 + 2 * j], values[3 + 2 * j], image[0], image[1]
    )  # fmt: skip
    seen = scale = damped = along_x = along_y = np.float32(0)
    for i in range(len(kx)):
        matching, along, aside = rotation_products(re[i], im[i], g_re[i], g_im[i], o_re[i], o_im[i], ctf[i])
        seen += matching
        scale += along
        damped += along * damping[i]
        along_x += aside * kx[i]
        along_y += aside * ky[i]
    matched[j] += seen
    normal[j, 3] -= unit * along_x
    normal[j, 4] -= unit * along_y
    normal[j, 5] += scale
    normal[j, 6] += damped


@inlined(fastmath=True, error_model="numpy")
def _add_rotations(values, ctf, count, normal):  # type: ignore[no-untyped-def]
    """Add the products of the derivatives by rotations with each other."""
    a_re, a_im, b_re, b_im, c_re, c_im = (
        values[2], values[3], values[4], values[5], values[6], values[7]
    )  # fmt: skip
    aa = ab = ac = bb = bc = cc = np.float32(0)
    for i in range(count):
        products = rotation_squares(a_re[i], a_im[i], b_re[i], b_im[i], c_re[i], c_im[i], ctf[i])
        aa += products[0]
        ab += products[1]
        ac += products[2]
        bb += products[3]
        bc += products[4]
        cc += products[5]
    normal[0, 0] += aa
    normal[0, 1] += ab
    normal[0, 2] += ac
    normal[1, 1] += bb
    normal[1, 2] += bc
    normal[2, 2] += cc


@inlined(fastmath=True, error_model="numpy")
def _add_shifts_and_scale(  # type: ignore[no-untyped-def]
    values, image, ctf, kx, ky, damping, unit, matched, normal
):  # fmt: skip
    """Add the products of the derivatives by shifts, ln scale and B factor, and those with the image."""
    re, im, o_re, o_im = values[0], values[1], image[0], image[1]
    xx = xy = yy = ss = sb = bb = np.float32(0)
    seen_x = seen_y = seen_s = seen_b = np.float32(0)
    for i in range(len(kx)):
        x, y, b = kx[i], ky[i], damping[i]
        power, along, aside = prediction_products(re[i], im[i], o_re[i], o_im[i], ctf[i])
        xx += power * x * x
        xy += power * x * y
        yy += power * y * y
        ss += power
        sb += power * b
        bb += power * b * b
        seen_x += aside * x
        seen_y += aside * y
        seen_s += along
        seen_b += along * b
    matched[3] -= unit * seen_x
    matched[4] -= unit * seen_y
    matched[5] += seen_s
    matched[6] += seen_b
    normal[3, 3] += unit * unit * xx
    normal[3, 4] += unit * unit * xy
    normal[4, 4] += unit * unit * yy
    normal[5, 5] += ss
    normal[5, 6] += sb
    normal[6, 6] += bb


@inlined(fastmath=True, error_model="numpy")
def _add_phase(  # type: ignore[no-untyped-def]
    m, values, image, ctf, slope, damping, rates, first, matched, normal
):  # fmt: skip
    """Add the products of the derivative by term m of γ with all before it, itself and the image."""
    re, im, o_re, o_im, rate = values[0], values[1], image[0], image[1], rates[m, first:]
    a_re, a_im, b_re, b_im, c_re, c_im = (
        values[2], values[3], values[4], values[5], values[6], values[7]
    )  # fmt: skip
    a = b = c = scale = damped = seen = np.float32(0)
    for i in range(len(damping)):
        with_a, with_b, with_c, power, matching = phase_products(
            re[i], im[i], a_re[i], a_im[i], b_re[i], b_im[i], c_re[i], c_im[i], o_re[i], o_im[i], ctf[i],
            slope[i],
        )  # fmt: skip
        a += rate[i] * with_a
        b += rate[i] * with_b
        c += rate[i] * with_c
        scale += rate[i] * power
        damped += rate[i] * power * damping[i]
        seen += rate[i] * matching
    normal[0, 7 + m] += a
    normal[1, 7 + m] += b
    normal[2, 7 + m] += c
    normal[5, 7 + m] += scale
    normal[6, 7 + m] += damped
    matched[7 + m] += seen
    for n in range(m + 1):
        earlier, part = rates[n, first:], np.float32(0)
        for i in range(len(damping)):
            part += rate[i] * earlier[i] * phase_square(re[i], im[i], slope[i])
        normal[7 + n, 7 + m] += part


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
    values, within = np.empty((8, BLOCK), np.float32), np.empty((7, BLOCK), np.float32)
    image, places = np.empty((2, BLOCK), np.float32), np.empty(BLOCK, np.uint32)
    ctf, slope = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    unit = np.float32(2 * np.pi / box_px)
    for b in range(len(spectra)):
        observed_re, observed_im = spectra[b, 0].reshape(-1), spectra[b, 1].reshape(-1)
        g, turn_x, turn_y = group[b], unit * np.float32(centre[b, 0]), unit * np.float32(centre[b, 1])
        own, both = matched[b], normal[b]
        own[:], both[:] = 0, 0
        for first in range(0, total, BLOCK):
            end = min(first + BLOCK, total)
            x, y, damped = kx[first:end], ky[first:end], damping[first:end]
            _slice(reference, reach, half_set[b], views[b], x, y, odd[g, first:end], places, within, values)
            _image(
                observed_re, observed_im, place[first:end], x, y, turn_x, turn_y, image_weight[first:end],
                image,
            )  # fmt: skip
            _ctf(x, y, phase[g, first:end], defocus[b], amplitude[first:end], ctf, slope)
            for j in range(3):
                _add_rotation(j, values, image, ctf, x, y, damped, unit, own, both)
            _add_rotations(values, ctf, len(x), both)
            _add_shifts_and_scale(values, image, ctf, x, y, damped, unit, own, both)
            for m in range(unknowns - 7):
                _add_phase(m, values, image, ctf, slope, damped, rates, first, own, both)
        for m in range(unknowns):
            for n in range(m):
                both[m, n] = both[n, m]


@kernel(fastmath=True, error_model="numpy")
def pair_values(  # type: ignore[no-untyped-def]
    spectra, place, box_px, reference, reach, half_set, views, centre, kx, ky, image_weight, amplitude,
    defocus, phase, odd, group, values,
):  # fmt: skip
    """Compute each prediction's product with the image and with itself, as `pair_derivatives` does.

    Parameters
    ----------
    values : (B, 2) float64, written: Re Σ O conj(S) and Σ |S|²
    """
    width, height = 2 * (reach + 1), 2 * reach + 1
    row, layer = np.uint64(width), np.uint64(width * height)
    within, image = np.empty((4, BLOCK), np.float32), np.empty((2, BLOCK), np.float32)
    slices, places = np.empty((2, BLOCK), np.float32), np.empty(BLOCK, np.uint32)
    tx, ty, tz, side, re, im = within[0], within[1], within[2], within[3], slices[0], slices[1]
    unit = np.float32(2 * np.pi / box_px)
    for b in range(len(spectra)):
        observed_re, observed_im = spectra[b, 0].reshape(-1), spectra[b, 1].reshape(-1)
        g, turn_x, turn_y = group[b], unit * np.float32(centre[b, 0]), unit * np.float32(centre[b, 1])
        start, view = np.uint64(half_set[b] * width * height**2), views[b]
        matched, power = 0.0, 0.0
        for first in range(0, len(kx), BLOCK):
            end = min(first + BLOCK, len(kx))
            x, y, count, turns = kx[first:end], ky[first:end], end - first, odd[g, first:end]
            for i in range(count):
                places[i], tx[i], ty[i], tz[i], side[i] = locate(
                    x[i] * view[0, 0] + y[i] * view[1, 0],
                    x[i] * view[0, 1] + y[i] * view[1, 1],
                    x[i] * view[0, 2] + y[i] * view[1, 2],
                    reach,
                )  # fmt: skip
            for i in range(count):
                re[i], im[i] = blend(
                    reference, start + np.uint64(places[i]), row, layer, tx[i], ty[i], tz[i], side[i]
                )  # fmt: skip
            if len(turns) > 0:
                for i in range(count):
                    re[i], im[i] = multiplied(re[i], im[i], turns[i].real, turns[i].imag)
            _image(
                observed_re, observed_im, place[first:end], x, y, turn_x, turn_y, image_weight[first:end],
                image,
            )  # fmt: skip
            seen, own = _match(
                x, y, phase[g, first:end], defocus[b], amplitude[first:end], slices, image
            )  # fmt: skip
            matched, power = matched + seen, power + own
        values[b, 0], values[b, 1] = matched, power
