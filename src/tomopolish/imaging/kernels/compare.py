"""Compiled kernels of the correlation stage, CPU.

Each kernel works on a chunk of pairs that fits into cache, on one thread, without Python's lock; the caller
spreads chunks over threads (`windows`). Results do not depend on the number of threads.
"""

from __future__ import annotations

import numpy as np

from tomopolish.imaging.kernels.pixel_cpu import blend, ctf_phase, locate, sine
from tomopolish.jit import inlined, kernel

# No loop over pixels may read an array under a loop-invariant condition, in particular an array that may be
# empty. Before such a loop LLVM tests whether input and output overlap in memory. An empty array may lie just
# before the output; the pixels are then processed one by one, with different rounding.

VECTOR = 16
"""Maximum number of floats in one instruction."""


@inlined(fastmath=True, error_model="numpy")
def slice_reference(  # type: ignore[no-untyped-def]
    reference, reach, half, view, columns_used, odd, column, places, within, slice_re, slice_im
):  # fmt: skip
    """Compute the predicted spectrum of one pair before the CTF, over the frequencies in use.

    In each row all places are computed first, in vector instructions; the values there are spread over
    memory.

    Parameters
    ----------
    reference, reach : `ReferenceTransform.flat`, `.reach`
    odd : (2, R, C) complex64 factor; (2, R, 0) where it is 1
    column : (W,) float32, 0, 1, 2 …
    places, within : (W,) uint32 and (4, W) float32, scratch; W is C rounded up to `VECTOR`
    slice_re, slice_im : (2, R, C) float32, written where frequencies are in use
    """
    width, height = 2 * (reach + 1), 2 * reach + 1
    row, layer, first = np.uint64(width), np.uint64(width * height), np.uint64(half * width * height**2)
    tx, ty, tz, side = within[0], within[1], within[2], within[3]
    ax, ay, az = view[0, 0], view[0, 1], view[0, 2]
    for sign in range(2):
        for r in range(sign, columns_used.shape[1]):
            ky = np.float32(r - 2 * sign * r)
            bx, by, bz = ky * view[1, 0], ky * view[1, 1], ky * view[1, 2]
            count = columns_used[sign, r]
            # Rows are rounded up to full vectors; a remainder would be processed one by one.
            for i in range((count + VECTOR - 1) // VECTOR * VECTOR):
                k = column[i]
                places[i], tx[i], ty[i], tz[i], side[i] = locate(bx + k * ax, by + k * ay, bz + k * az, reach)
            for i in range(count):
                slice_re[sign, r, i], slice_im[sign, r, i] = blend(
                    reference, first + np.uint64(places[i]), row, layer, tx[i], ty[i], tz[i], side[i]
                )
            if odd.shape[2] > 0:
                for i in range(count):
                    re, im, turn = slice_re[sign, r, i], slice_im[sign, r, i], odd[sign, r, i]
                    slice_re[sign, r, i] = re * turn.real - im * turn.imag
                    slice_im[sign, r, i] = re * turn.imag + im * turn.real


@inlined(fastmath=True, error_model="numpy")
def centre_phases(  # type: ignore[no-untyped-def]
    rows, columns, turn_x, turn_y, column, column_re, column_im, re, im
):  # fmt: skip
    """Compute e^{i (kx · turn_x + ky · turn_y)}, as the product of a column's and a row's factor.

    Rows are rounded up to `VECTOR`; the excess is overwritten by the next row.

    Parameters
    ----------
    column, column_re, column_im : (W,) float32, 0, 1, 2 …, and scratch
    re, im : (2 R C + VECTOR,) float32, written
    """
    quarter, padded = np.float32(np.pi / 2), len(column)
    for i in range(padded):
        turn = column[i] * turn_x
        column_re[i], column_im[i] = sine(turn + quarter), sine(turn)
    for half in range(2):
        for r in range(rows):
            turn = np.float32(r * (1 - 2 * half)) * turn_y
            row_re, row_im = sine(turn + quarter), sine(turn)
            begin = (half * rows + r) * columns
            line_re, line_im = re[begin : begin + padded], im[begin : begin + padded]
            for i in range(padded):
                line_re[i] = row_re * column_re[i] - row_im * column_im[i]
                line_im[i] = row_re * column_im[i] + row_im * column_re[i]


@inlined(fastmath=True, error_model="numpy")
def compare(  # type: ignore[no-untyped-def]
    observed_re, observed_im, slice_re, slice_im, kx, ky, weight, signal_weight, defocus, phase,
    turn_re, turn_im, re, im,
):  # fmt: skip
    """Compute w · O · conj(S) · e^{2πi k·centre/s} of one pair, in one long loop of vector instructions.

    All arrays but `defocus` are flat over (2, R, C). `turn` is the last factor. `re` and `im` are written;
    returns Σ w |S|².
    """
    power = np.float32(0)
    for i in range(len(kx)):
        ctf = sine(ctf_phase(kx[i], ky[i], phase[i], defocus[0], defocus[1], defocus[2]))
        factor = weight[i] * ctf
        power += signal_weight[i] * ctf * ctf * (slice_re[i] * slice_re[i] + slice_im[i] * slice_im[i])
        o_re, o_im = observed_re[i], observed_im[i]
        p_re = factor * (o_re * slice_re[i] + o_im * slice_im[i])
        p_im = factor * (o_im * slice_re[i] - o_re * slice_im[i])
        re[i] = p_re * turn_re[i] - p_im * turn_im[i]
        im[i] = p_re * turn_im[i] + p_im * turn_re[i]
    return power


@inlined(fastmath=True, error_model="numpy")
def small_inverse(product, by_rows, by_columns, partial, terms, window):  # type: ignore[no-untyped-def]
    """Write the real part of the inverse transform at a window's samples; see `small_inverse.SmallInverse`.

    Parameters
    ----------
    product : (4, R, C) float32: Re E, Im D, Im E, Re D
    by_rows, by_columns : (2, h, R) and (2, C, h) float32
    partial, terms : (h, C) and (4, h, h) float32, scratch
    window : (n, n) float32, n = 2 (h − 1), written
    """
    for term in range(4):
        np.dot(by_rows[term % 2], product[term], partial)
        np.dot(partial, by_columns[term // 2], terms[term])
    half = len(window) // 2
    for y in range(half + 1):
        cosines, in_y, in_x, in_both = terms[0, y], terms[1, y], terms[2, y], terms[3, y]
        line = window[half - y]
        for x in range(half + 1):
            line[half - x] = (cosines[x] + in_y[x]) + (in_x[x] - in_both[x])
        for x in range(half):
            line[half + x] = (cosines[x] + in_y[x]) - (in_x[x] - in_both[x])
        if y < half:
            line = window[half + y]
            for x in range(half + 1):
                line[half - x] = (cosines[x] - in_y[x]) + (in_x[x] + in_both[x])
            for x in range(half):
                line[half + x] = (cosines[x] - in_y[x]) - (in_x[x] + in_both[x])


@kernel(fastmath=True, error_model="numpy")
def correlate_spectra(  # type: ignore[no-untyped-def]
    spectra, box_px, reference, reach, half_set, views, centre, columns_used, weight, signal_weight, defocus,
    phase, odd, group, by_rows, by_columns, places, windows, power,
):  # fmt: skip
    """Multiply image spectra with the conjugate of the predicted ones, and transform to the windows.

    Slice of the reference, then CTF, aberrations, weights, product, and the phase that moves the particle's
    exact centre to the origin: G = w · O · conj(S) · e^{2πi k·centre/s}, up to the sign that results from
    −sin γ and the negative contrast (docs/dev/conventions.md): positive correlation is a match. Rows ky and
    −ky are processed together, and their sum E and difference D are kept as real numbers, which halves the
    work of the small inverse transform.

    Parameters
    ----------
    spectra : (B, 2, 2, R, C) float32, see `kernels.boxes.box_spectra`
    box_px : int, edge s of the boxes
    reference, reach : (N,) float32 and int, `ReferenceTransform.flat`, `.reach`
    half_set, group : (B,) int64
    views : (B, 2, 3) float32, first two rows of each view matrix
    centre : (B, 2) float32, position of the particle's centre relative to pixel s/2 of its box, px
    columns_used : (2, R) int64, number of columns in use in rows ky = 0 … R − 1 and in rows −ky
    weight, signal_weight : (2, R, C) float32, all real weights of this tilt in the product and in Σ w |S|²
    defocus : (B, 3) float32, phase per kx², kx·ky and ky²
    phase : (G, 2, R, C) float32, γ without defocus
    odd : (G, 2, R, C) complex64 factor of the prediction; (G, 2, R, 0) where it is 1
    by_rows, by_columns : (2, h, R) and (2, C, h) float32, `small_inverse.SmallInverse`
    places : (B,) int64, place of each pair in the following two
    windows : (P, n, n) float32, written
    power : (P,) float64, written: Σ w |S|² over the full plane
    """
    rows, columns = weight.shape[1:]
    plane = rows * columns
    slice_re, slice_im = np.zeros((2, rows, columns), np.float32), np.zeros((2, rows, columns), np.float32)
    kx, ky = np.empty(2 * plane, np.float32), np.empty(2 * plane, np.float32)
    signed = np.empty(2 * plane, np.float32)
    for half in range(2):
        for r in range(rows):
            begin = half * plane + r * columns
            for c in range(columns):
                kx[begin + c], ky[begin + c] = c, r * (1 - 2 * half)
                # The factor e^{2πi k·(s/2)/s} of the box's centre is ±1.
                signed[begin + c] = (1 - 2 * ((r + c) & 1)) * weight[half, r, c]
    padded = (columns + VECTOR - 1) // VECTOR * VECTOR
    cells, within = np.empty(padded, np.uint32), np.empty((4, padded), np.float32)
    column, factors = np.arange(padded).astype(np.float32), np.empty((2, padded), np.float32)
    turn = np.empty((2, 2 * plane + VECTOR), np.float32)
    re, im = np.empty(2 * plane, np.float32), np.empty(2 * plane, np.float32)
    size = by_rows.shape[1]
    product, partial = np.empty((4, rows, columns), np.float32), np.empty((size, columns), np.float32)
    terms, out = np.empty((4, size, size), np.float32), product.reshape(-1)
    unit = 2 * np.pi / box_px
    for b in range(spectra.shape[0]):
        slice_reference(
            reference, reach, half_set[b], views[b], columns_used, odd[group[b]], column, cells, within,
            slice_re, slice_im,
        )  # fmt: skip
        turn_x, turn_y = np.float32(unit * centre[b, 0]), np.float32(unit * centre[b, 1])
        centre_phases(
            rows, columns, turn_x, turn_y, column, factors[0], factors[1], turn[0], turn[1]
        )  # fmt: skip
        power[places[b]] = compare(
            spectra[b, 0].reshape(-1), spectra[b, 1].reshape(-1), slice_re.reshape(-1), slice_im.reshape(-1),
            kx, ky, signed,
            signal_weight.reshape(-1), defocus[b], phase[group[b]].reshape(-1),
            turn[0], turn[1], re, im,
        )  # fmt: skip
        for i in range(plane):
            out[i] = re[i] + re[plane + i]
            out[plane + i] = im[i] - im[plane + i]
            out[2 * plane + i] = im[i] + im[plane + i]
            out[3 * plane + i] = re[i] - re[plane + i]
        small_inverse(product, by_rows, by_columns, partial, terms, windows[places[b]])


@kernel(fastmath=True, error_model="numpy")
def add_power(spectra, total):  # type: ignore[no-untyped-def]
    """Add the power of many transforms: ``total[i] += Σ_b |spectrum b|²`` at frequency i.

    ``spectra`` (B, 2, N) float32 holds real and imaginary parts; ``total`` is (N,) float64.
    """
    line = np.zeros(len(total), np.float32)
    for b in range(len(spectra)):
        re, im = spectra[b, 0], spectra[b, 1]
        for i in range(len(line)):
            line[i] += re[i] * re[i] + im[i] * im[i]
    for i in range(len(line)):
        total[i] += line[i]


@kernel(fastmath=True, error_model="numpy")
def taper(volume, window, factor, window_sum, out):  # type: ignore[no-untyped-def]
    """Write ``(volume − mean) · factor``, where the mean is weighted by the window.

    Parameters
    ----------
    volume, out : (s, s, s) float32
    window, factor : (⌊s/2⌋ + 1, ⌊s/2⌋ + 1, s) float32, at distances |z − ⌊s/2⌋| and |y − ⌊s/2⌋|
    window_sum : float, sum of the window
    """
    size = len(volume)
    total = 0.0
    for z in range(size):
        for y in range(size):
            row, line = volume[z, y], window[abs(z - size // 2), abs(y - size // 2)]
            part = np.float32(0)
            for x in range(size):
                part += row[x] * line[x]
            total += part
    mean = np.float32(total / window_sum)
    for z in range(size):
        for y in range(size):
            row, line, into = volume[z, y], factor[abs(z - size // 2), abs(y - size // 2)], out[z, y]
            for x in range(size):
                into[x] = (row[x] - mean) * line[x]


@kernel(fastmath=True, error_model="numpy")
def mean_magnitudes(values, chosen, magnitude):  # type: ignore[no-untyped-def]
    """Write the mean magnitude of each chosen window's samples.

    Parameters
    ----------
    values : (P, n, n) float32
    chosen : (C,) int64, rows of `values`
    magnitude : (C,) float64, written
    """
    for i in range(len(chosen)):
        window, total = values[chosen[i]].reshape(-1), np.float32(0)
        for sample in range(len(window)):
            total += abs(window[sample])
        magnitude[i] = total / len(window)
