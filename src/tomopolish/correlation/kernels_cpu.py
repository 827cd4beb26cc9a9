"""Compiled kernels of the correlation stage, CPU.

Each works on a chunk of particle–tilt pairs small enough to stay in cache, on one thread, without holding
Python's lock; the caller spreads chunks over threads (`windows`). Results do not depend on the threads.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from tomopolish.correlation import pixel

# Reassociation would undo the sine's two-part reduction by π.
_sine = njit(pixel.sine, fastmath={"nnan", "ninf", "nsz", "arcp", "contract", "afn"})
_ctf_phase = njit(pixel.ctf_phase, fastmath=True, inline="always")
_sample = njit(pixel.sample, fastmath=True, inline="always")


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def extract_boxes(image, corners, falloff, inside_start, inside_stop, boxes):  # type: ignore[no-untyped-def]
    """Cut boxes, subtract the mean of the pixels outside the inscribed circle, and apply the soft edge.

    Parameters
    ----------
    image : (h, w) float32
    corners : (B, 2) int64, x and y of each box's first pixel; pixels beyond the image repeat its edge
    falloff : (s, s) float32 soft circular mask
    inside_start, inside_stop : (s,) int64, columns of each row that lie inside the circle
    boxes : (B, s, s) float32, written
    """
    height, width = image.shape
    size = falloff.shape[0]
    for b in range(boxes.shape[0]):
        x0, y0 = corners[b, 0], corners[b, 1]
        whole = x0 >= 0 and x0 + size <= width
        total = 0.0
        count = 0
        for y in range(size):
            source = image[min(max(y0 + y, 0), height - 1)]
            row = boxes[b, y]
            if whole:
                for x in range(size):
                    row[x] = source[x0 + x]
            else:
                for x in range(size):
                    row[x] = source[min(max(x0 + x, 0), width - 1)]
            part = np.float32(0)
            for x in range(inside_start[y]):
                part += row[x]
            for x in range(inside_stop[y], size):
                part += row[x]
            total += part
            count += inside_start[y] + size - inside_stop[y]
        mean = np.float32(total / count)
        for y in range(size):
            row = boxes[b, y]
            for x in range(size):
                row[x] = (row[x] - mean) * falloff[y, x]


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def correlate_row(  # type: ignore[no-untyped-def]
    source, reference, half, view, ky, used, weight, signal_weight, defocus, quartic, constant_phase,
    even, odd, shift, row_turn, slice_re, slice_im, out_re, out_im,
):  # fmt: skip
    """One row of w · O · conj(S) · e^{2πi k·centre/s}, zero beyond the columns in use; returns Σ w |S|².

    Two passes: the slice of the reference, which jumps through memory, then everything else, which the
    compiler turns into vector instructions. Arguments as in `correlate_spectra`.
    """
    ky = np.float32(ky)
    bx, by, bz = ky * view[1, 0], ky * view[1, 1], ky * view[1, 2]
    ax, ay, az = view[0, 0], view[0, 1], view[0, 2]
    for kx in range(used):
        k = np.float32(kx)
        slice_re[kx], slice_im[kx] = _sample(reference, half, bx + k * ax, by + k * ay, bz + k * az)
    if odd.shape[0] > 0:
        for kx in range(used):
            re, im = slice_re[kx], slice_im[kx]
            slice_re[kx] = re * odd[kx].real - im * odd[kx].imag
            slice_im[kx] = re * odd[kx].imag + im * odd[kx].real
    ky2 = ky * ky
    row_phase = constant_phase + defocus[2] * ky2
    linear = defocus[1] * ky
    row_re, row_im = np.float32(np.cos(row_turn)), np.float32(np.sin(row_turn))
    power = np.float32(0)
    for kx in range(used):
        gamma = _ctf_phase(np.float32(kx), ky2, row_phase, linear, defocus[0], quartic)
        if even.shape[0] > 0:
            gamma += even[kx]
        sine = _sine(gamma)
        factor = weight[kx] * sine
        power += signal_weight[kx] * sine * sine * (slice_re[kx] * slice_re[kx] + slice_im[kx] * slice_im[kx])
        o_re, o_im = source[kx].real, source[kx].imag
        p_re = factor * (o_re * slice_re[kx] + o_im * slice_im[kx])
        p_im = factor * (o_im * slice_re[kx] - o_re * slice_im[kx])
        q_re = shift[0, kx] * row_re - shift[1, kx] * row_im
        q_im = shift[0, kx] * row_im + shift[1, kx] * row_re
        out_re[kx] = p_re * q_re - p_im * q_im
        out_im[kx] = p_re * q_im + p_im * q_re
    for kx in range(used, out_re.shape[0]):
        out_re[kx] = 0
        out_im[kx] = 0
    return power


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def correlate_spectra(  # type: ignore[no-untyped-def]
    spectra, reference, half_set, views, centre, columns_used, weight, signal_weight, defocus, quartic,
    constant_phase, even, odd, group, product, power,
):  # fmt: skip
    """Multiply image spectra with the conjugate of the predicted ones, over the frequencies in use.

    One pass per pixel: slice of the reference, CTF, aberrations, weights, product, and the phase that moves
    the particle's exact centre to the origin: G = w · O · conj(S) · e^{2πi k·centre/s}, up to the sign that
    −sin γ and the negative contrast leave (spec §3, §5): positive correlation is a match. Rows ky and −ky are
    done together, and their sum E and difference D written as real numbers, which halves the work of the
    small inverse transform (`windows.small_inverse`).

    Parameters
    ----------
    spectra : (B, s, C) complex64, unnormalised transforms, columns kx = 0 … C − 1
    reference : (2, n, n, m) complex64, `ReferenceTransform.values`
    half_set, group : (B,) int64
    views : (B, 2, 3) float32, first two rows of each view matrix
    centre : (B, 2) float32, position of the particle's centre in its box, px
    columns_used : (2, R) int64, number of columns in use in rows ky = 0 … R − 1 and in rows −ky
    weight, signal_weight : (2, R, C) float32, all real weights of this tilt in the product and in Σ w |S|²
    defocus : (B, 3) float32, phase per kx², kx·ky and ky²
    quartic, constant_phase : float32
    even : (G, 2, R, C) float32 added to γ; (G, 2, R, 0) when there is none
    odd : (G, 2, R, C) complex64 factor of the prediction; (G, 2, R, 0) when there is none
    product : (B, 2, R, 2C) float32, written: [Re E | Im E] and [Im D | Re D]
    power : (B,) float64, written: Σ w |S|² over the full plane
    """
    size = spectra.shape[1]
    columns = spectra.shape[2]
    slice_re = np.empty(columns, np.float32)
    slice_im = np.empty(columns, np.float32)
    shift = np.empty((2, columns), np.float32)
    plus = np.empty((2, columns), np.float32)
    minus = np.empty((2, columns), np.float32)
    for b in range(spectra.shape[0]):
        turn = 2 * np.pi * centre[b, 0] / size
        for kx in range(columns):
            shift[0, kx] = np.cos(turn * kx)
            shift[1, kx] = np.sin(turn * kx)
        turn = 2 * np.pi * centre[b, 1] / size
        g = group[b]
        power[b] = 0
        for r in range(weight.shape[1]):
            power[b] += correlate_row(
                spectra[b, r], reference, half_set[b], views[b], r, columns_used[0, r],
                weight[0, r], signal_weight[0, r], defocus[b], quartic, constant_phase,
                even[g, 0, r], odd[g, 0, r], shift, turn * r, slice_re, slice_im, plus[0], plus[1],
            )  # fmt: skip
            total, difference = product[b, 0, r], product[b, 1, r]
            if r == 0:
                for kx in range(columns):
                    total[kx], total[columns + kx] = plus[0, kx], plus[1, kx]
                    difference[kx], difference[columns + kx] = 0, 0
                continue
            power[b] += correlate_row(
                spectra[b, size - r], reference, half_set[b], views[b], -r, columns_used[1, r],
                weight[1, r], signal_weight[1, r], defocus[b], quartic, constant_phase,
                even[g, 1, r], odd[g, 1, r], shift, -turn * r, slice_re, slice_im, minus[0], minus[1],
            )  # fmt: skip
            for kx in range(columns):
                total[kx] = plus[0, kx] + minus[0, kx]
                total[columns + kx] = plus[1, kx] + minus[1, kx]
                difference[kx] = plus[1, kx] - minus[1, kx]
                difference[columns + kx] = plus[0, kx] - minus[0, kx]


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def add_power(parts, total):  # type: ignore[no-untyped-def]
    """Add the power of many transforms: ``total[y, x] += Σ_t |transform[y, t, x]|²``.

    ``parts`` (s, T, 2C) float32 holds real and imaginary parts in turn, so that the inner loop is one
    vector operation; ``total`` is (s, C) float64.
    """
    rows, tiles, width = parts.shape
    line = np.empty(width, np.float32)
    for y in range(rows):
        line[:] = 0
        for t in range(tiles):
            for x in range(width):
                line[x] += parts[y, t, x] * parts[y, t, x]
        for x in range(width // 2):
            total[y, x] += line[2 * x] + line[2 * x + 1]
