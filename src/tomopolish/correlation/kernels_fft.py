"""Compiled transforms of boxes, CPU: cut out of an image, masked, and taken to the frequencies in use.

Libraries transform whole arrays, one line after the other. Here one instruction works on the same step of
many lines, the pixels come straight from the image, two real columns make one complex one, rows of
frequencies beyond those in use are dropped after half of the work, and nothing leaves the second cache: a
third of the time (docs/performance.md).
"""

from __future__ import annotations

import numpy as np
from numba import njit

# What other kernels call is inlined: see `kernels_cpu`.

LANES = 64
"""Most lines that are transformed at once: so many leave a box's strip within the second cache."""

_COS_72, _SIN_72 = np.float32(np.cos(0.4 * np.pi)), np.float32(np.sin(0.4 * np.pi))
_COS_144, _SIN_144 = np.float32(np.cos(0.8 * np.pi)), np.float32(np.sin(0.8 * np.pi))
_HALF, _SIN_60 = np.float32(0.5), np.float32(np.sqrt(0.75))


@njit(nogil=True, fastmath=True, error_model="numpy", inline="always")
def _two(re, im, a, b, lanes, twiddles):  # type: ignore[no-untyped-def]
    """Combine two rows of lanes, which begin at a and b; so below."""
    ar, ai, br, bi = re[a : a + lanes], im[a : a + lanes], re[b : b + lanes], im[b : b + lanes]
    c, s = twiddles[0, 0], twiddles[0, 1]
    for i in range(lanes):
        x, y = ar[i] - br[i], ai[i] - bi[i]
        ar[i], ai[i] = ar[i] + br[i], ai[i] + bi[i]
        br[i], bi[i] = x * c - y * s, x * s + y * c


@njit(nogil=True, fastmath=True, error_model="numpy", inline="always")
def _three(re, im, a, b, c, lanes, twiddles):  # type: ignore[no-untyped-def]
    ar, br, cr = re[a : a + lanes], re[b : b + lanes], re[c : c + lanes]
    ai, bi, ci = im[a : a + lanes], im[b : b + lanes], im[c : c + lanes]
    c1, s1, c2, s2 = twiddles[0, 0], twiddles[0, 1], twiddles[1, 0], twiddles[1, 1]
    for i in range(lanes):
        sum_r, sum_i = br[i] + cr[i], bi[i] + ci[i]
        dif_r, dif_i = _SIN_60 * (br[i] - cr[i]), _SIN_60 * (bi[i] - ci[i])
        mid_r, mid_i = ar[i] - _HALF * sum_r, ai[i] - _HALF * sum_i
        ar[i], ai[i] = ar[i] + sum_r, ai[i] + sum_i
        x, y = mid_r + dif_i, mid_i - dif_r
        br[i], bi[i] = x * c1 - y * s1, x * s1 + y * c1
        x, y = mid_r - dif_i, mid_i + dif_r
        cr[i], ci[i] = x * c2 - y * s2, x * s2 + y * c2


@njit(nogil=True, fastmath=True, error_model="numpy", inline="always")
def _four(re, im, a, b, c, d, lanes, twiddles):  # type: ignore[no-untyped-def]
    ar, br, cr, dr = re[a : a + lanes], re[b : b + lanes], re[c : c + lanes], re[d : d + lanes]
    ai, bi, ci, di = im[a : a + lanes], im[b : b + lanes], im[c : c + lanes], im[d : d + lanes]
    c1, s1, c2, s2 = twiddles[0, 0], twiddles[0, 1], twiddles[1, 0], twiddles[1, 1]
    c3, s3 = twiddles[2, 0], twiddles[2, 1]
    for i in range(lanes):
        even_r, even_i, odd_r, odd_i = ar[i] + cr[i], ai[i] + ci[i], ar[i] - cr[i], ai[i] - ci[i]
        sum_r, sum_i, dif_r, dif_i = br[i] + dr[i], bi[i] + di[i], br[i] - dr[i], bi[i] - di[i]
        ar[i], ai[i] = even_r + sum_r, even_i + sum_i
        x, y = odd_r + dif_i, odd_i - dif_r
        br[i], bi[i] = x * c1 - y * s1, x * s1 + y * c1
        x, y = even_r - sum_r, even_i - sum_i
        cr[i], ci[i] = x * c2 - y * s2, x * s2 + y * c2
        x, y = odd_r - dif_i, odd_i + dif_r
        dr[i], di[i] = x * c3 - y * s3, x * s3 + y * c3


@njit(nogil=True, fastmath=True, error_model="numpy", inline="always")
def _five(re, im, a, apart, lanes, twiddles):  # type: ignore[no-untyped-def]
    b, c, d, e = a + apart, a + 2 * apart, a + 3 * apart, a + 4 * apart
    ar, br, cr, dr, er = (
        re[a : a + lanes],
        re[b : b + lanes],
        re[c : c + lanes],
        re[d : d + lanes],
        re[e : e + lanes],
    )
    ai, bi, ci, di, ei = (
        im[a : a + lanes],
        im[b : b + lanes],
        im[c : c + lanes],
        im[d : d + lanes],
        im[e : e + lanes],
    )
    c1, s1, c2, s2 = twiddles[0, 0], twiddles[0, 1], twiddles[1, 0], twiddles[1, 1]
    c3, s3, c4, s4 = twiddles[2, 0], twiddles[2, 1], twiddles[3, 0], twiddles[3, 1]
    for i in range(lanes):
        p_re, p_im, q_re, q_im = br[i] + er[i], bi[i] + ei[i], cr[i] + dr[i], ci[i] + di[i]
        u_re, u_im, v_re, v_im = br[i] - er[i], bi[i] - ei[i], cr[i] - dr[i], ci[i] - di[i]
        m_re, m_im = ar[i] + _COS_72 * p_re + _COS_144 * q_re, ai[i] + _COS_72 * p_im + _COS_144 * q_im
        n_re, n_im = ar[i] + _COS_144 * p_re + _COS_72 * q_re, ai[i] + _COS_144 * p_im + _COS_72 * q_im
        x_re, x_im = _SIN_72 * u_re + _SIN_144 * v_re, _SIN_72 * u_im + _SIN_144 * v_im
        y_re, y_im = _SIN_144 * u_re - _SIN_72 * v_re, _SIN_144 * u_im - _SIN_72 * v_im
        ar[i], ai[i] = ar[i] + p_re + q_re, ai[i] + p_im + q_im
        x, y = m_re + x_im, m_im - x_re
        br[i], bi[i] = x * c1 - y * s1, x * s1 + y * c1
        x, y = n_re + y_im, n_im - y_re
        cr[i], ci[i] = x * c2 - y * s2, x * s2 + y * c2
        x, y = n_re - y_im, n_im + y_re
        dr[i], di[i] = x * c3 - y * s3, x * s3 + y * c3
        x, y = m_re - x_im, m_im + x_re
        er[i], ei[i] = x * c4 - y * s4, x * s4 + y * c4


@njit(nogil=True, fastmath=True, error_model="numpy", inline="always")
def _any(re, im, a, apart, lanes, twiddles, roots, work):  # type: ignore[no-untyped-def]
    """Combine as many rows as there are roots, each `apart` from the last, by the definition."""
    count = len(roots)
    for k in range(count):
        out_r, out_i = work[0, k], work[1, k]
        for i in range(lanes):
            out_r[i], out_i[i] = 0, 0
        for j in range(count):
            c, s = roots[j * k % count, 0], roots[j * k % count, 1]
            at = a + j * apart
            in_r, in_i = re[at : at + lanes], im[at : at + lanes]
            for i in range(lanes):
                out_r[i] += in_r[i] * c - in_i[i] * s
                out_i[i] += in_r[i] * s + in_i[i] * c
    for k in range(count):
        c, s = (twiddles[k - 1, 0], twiddles[k - 1, 1]) if k else (np.float32(1), np.float32(0))
        at = a + k * apart
        in_r, in_i = work[0, k], work[1, k]
        out_r, out_i = re[at : at + lanes], im[at : at + lanes]
        for i in range(lanes):
            out_r[i], out_i[i] = in_r[i] * c - in_i[i] * s, in_r[i] * s + in_i[i] * c


@njit(nogil=True, fastmath=True, error_model="numpy")
def transform_lines(re, im, stride, first, lanes, radices, twiddles, roots, work):  # type: ignore[no-untyped-def]
    """Discrete Fourier transforms, in place, of `lanes` lines side by side.

    Sample t of the line in lane i is at ``t · stride + first + i``. Decimation in frequency (Cooley and Tukey
    1965, Math. Comput. 19, 297): frequency k ends up where `fft_plan.FftPlan.place` says.

    Parameters
    ----------
    re, im : float32, flat
    radices, twiddles, roots : see `fft_plan.FftPlan`
    work : (2, r, lanes or more) float32, scratch; r is the largest radix
    """
    size = 1
    for radix in radices:
        size *= radix
    block, used, turned = size, 0, 0
    for radix in radices:
        step = block // radix
        apart = step * stride
        for j in range(step):
            turn = twiddles[turned : turned + radix - 1]
            for start in range(j, size, block):
                a = start * stride + first
                if radix == 4:
                    _four(re, im, a, a + apart, a + 2 * apart, a + 3 * apart, lanes, turn)
                elif radix == 2:
                    _two(re, im, a, a + apart, lanes, turn)
                elif radix == 3:
                    _three(re, im, a, a + apart, a + 2 * apart, lanes, turn)
                elif radix == 5:
                    _five(re, im, a, apart, lanes, turn)
                else:
                    _any(re, im, a, apart, lanes, turn, roots[used : used + radix], work)
            turned += radix - 1
        used += radix
        block = step


@njit(nogil=True, fastmath=True, error_model="numpy", inline="always")
def _mean_outside(image, x0, y0, outside):  # type: ignore[no-untyped-def]
    """Mean of a box's pixels where `outside` is 1, in two parts: some pixel, and what is missing."""
    height, width = image.shape
    size = len(outside)
    whole = x0 >= 0 and x0 + size <= width
    # Differences to a pixel near the mean lose no digits in float32.
    pivot = image[min(max(y0, 0), height - 1), min(max(x0, 0), width - 1)]
    total, count = 0.0, 0.0
    for y in range(size):
        row, ring = image[min(max(y0 + y, 0), height - 1)], outside[y]
        part, counted = np.float32(0), np.float32(0)
        if whole:
            pixels = row[x0 : x0 + size]
            for x in range(size):
                part += (pixels[x] - pivot) * ring[x]
                counted += ring[x]
        else:
            for x in range(size):
                part += (row[min(max(x0 + x, 0), width - 1)] - pivot) * ring[x]
                counted += ring[x]
        total, count = total + part, count + counted
    return pivot, np.float32(total / count)


@njit(nogil=True, fastmath={"contract"}, error_model="numpy", inline="always")
def _load(image, x0, y0, lanes, falloff, pivot, rest, out):  # type: ignore[no-untyped-def]
    """Write ``(pixel − pivot − rest) · falloff`` for `lanes` columns of pixels, row after row."""
    height, width = image.shape
    whole = x0 >= 0 and x0 + lanes <= width
    for y in range(len(falloff)):
        row, soft, line = image[min(max(y0 + y, 0), height - 1)], falloff[y], out[y * lanes : (y + 1) * lanes]
        if whole:
            pixels = row[x0 : x0 + lanes]
            for x in range(lanes):
                line[x] = ((pixels[x] - pivot) - rest) * soft[x]
        else:
            for x in range(lanes):
                line[x] = ((row[min(max(x0 + x, 0), width - 1)] - pivot) - rest) * soft[x]


@njit(nogil=True, fastmath=True, error_model="numpy", inline="always")
def _separate(re, im, many, at, mate, first, stride, half, rows):  # type: ignore[no-untyped-def]
    """Turn transforms of two real columns in one into rows of lanes that are frequencies.

    Parameters
    ----------
    at, mate : (R,) places of the frequencies ky and −ky among transforms of `many` lanes
    first : place of the first of the left columns; those of the right half follow `half` columns later
    """
    for x in range(many):
        left = first + x * stride
        right = left + half * stride
        a_re, a_im, b_re, b_im = (
            re[left : left + rows],
            im[left : left + rows],
            re[right : right + rows],
            im[right : right + rows],
        )
        for r in range(rows):
            p, q = np.uint32(at[r] + x), np.uint32(mate[r] + x)
            p_re, p_im, q_re, q_im = re[p], im[p], re[q], im[q]
            a_re[r], a_im[r] = _HALF * (p_re + q_re), _HALF * (p_im - q_im)
            b_re[r], b_im[r] = _HALF * (p_im + q_im), _HALF * (q_re - p_re)


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def box_spectra(image, corners, falloff, outside, radices, twiddles, roots, place, spectra):  # type: ignore[no-untyped-def]
    """Cut boxes, subtract the mean of the pixels outside the mask, apply the mask, and transform.

    Columns of pixels are transformed first, those of the left half as real and those of the right half as
    imaginary parts; then the rows of frequencies in use, as lanes.

    Parameters
    ----------
    image : (h, w) float32
    corners : (B, 2) int64, x and y of each box's first pixel; pixels beyond the image repeat its edge
    falloff : (s, s) float32, the mask; s is even
    outside : (s, s) float32, 1 outside the mask and 0 inside; (0, s): nothing is subtracted
    radices, twiddles, roots, place : see `fft_plan.FftPlan`
    spectra : (B, 2, 2, R, C) float32, written: real and imaginary part of the unnormalised transform in rows
        ky = 0 … R − 1 and in rows −ky, columns kx = 0 … C − 1; rows −0 are zero
    """
    size, rows, columns = len(falloff), spectra.shape[3], spectra.shape[4]
    half = size // 2
    strips = (half + LANES - 1) // LANES
    lanes = (half + strips - 1) // strips
    stride = (rows + 15) // 16 * 16
    # Columns of pixels at the front, rows of frequencies after them.
    front = size * lanes
    re, im = np.zeros(front + size * stride, np.float32), np.zeros(front + size * stride, np.float32)
    work = np.empty((2, radices.max(), LANES), np.float32)
    at, mate = np.empty(rows, np.int64), np.empty(rows, np.int64)
    for b in range(len(corners)):
        x0, y0 = corners[b, 0], corners[b, 1]
        pivot = rest = np.float32(0)
        if len(outside) > 0:
            pivot, rest = _mean_outside(image, x0, y0, outside)
        for strip in range(strips + (stride + LANES - 1) // LANES):
            left = strip * lanes
            if strip < strips:
                first, apart = 0, min(lanes, half - left)
                many = apart
                _load(image, x0 + left, y0, many, falloff[:, left:], pivot, rest, re)
                _load(image, x0 + half + left, y0, many, falloff[:, half + left :], pivot, rest, im)
            else:
                done = (strip - strips) * LANES
                first, apart, many = front + done, stride, min(LANES, stride - done)
            transform_lines(re, im, apart, first, many, radices, twiddles, roots, work)
            if strip < strips:
                for r in range(rows):
                    at[r], mate[r] = place[r] * many, place[(size - r) % size] * many
                _separate(re, im, many, at, mate, front + left * stride, stride, half, rows)
        for c in range(columns):
            start, other = front + place[c] * stride, front + place[(size - c) % size] * stride
            for r in range(rows):
                spectra[b, 0, 0, r, c], spectra[b, 1, 0, r, c] = re[start + r], im[start + r]
                spectra[b, 0, 1, r, c], spectra[b, 1, 1, r, c] = re[other + r], -im[other + r]
            spectra[b, 0, 1, 0, c], spectra[b, 1, 1, 0, c] = 0, 0


@njit(nogil=True, fastmath=True, error_model="numpy")
def _transform_axis(re, im, first, last, wanted, turned, radices, twiddles, roots, place, out_re, out_im):  # type: ignore[no-untyped-def]
    """Transform some columns of an array along its first axis, and keep the frequencies wanted.

    Parameters
    ----------
    re, im : (n, m) float32
    first, last : int, columns first … last − 1 are transformed
    wanted : (K,) int64, frequencies 0 … n − 1
    turned : bool, whether the result's axes change places
    radices, twiddles, roots, place : see `fft_plan.FftPlan`
    out_re, out_im : (K, m) float32, or (m, K) when turned; their columns (or rows) are written
    """
    size = len(re)
    work_re, work_im = np.empty(size * LANES, np.float32), np.empty(size * LANES, np.float32)
    work = np.empty((2, radices.max(), LANES), np.float32)
    for start in range(first, last, LANES):
        lanes = min(LANES, last - start)
        for t in range(size):
            from_re, from_im = re[t, start : start + lanes], im[t, start : start + lanes]
            to_re, to_im = work_re[t * lanes : (t + 1) * lanes], work_im[t * lanes : (t + 1) * lanes]
            for i in range(lanes):
                to_re[i], to_im[i] = from_re[i], from_im[i]
        transform_lines(work_re, work_im, lanes, 0, lanes, radices, twiddles, roots, work)
        if turned:
            for i in range(lanes):
                for k in range(len(wanted)):
                    at = place[wanted[k]] * lanes + i
                    out_re[start + i, k], out_im[start + i, k] = work_re[at], work_im[at]
        else:
            for k in range(len(wanted)):
                at = place[wanted[k]] * lanes
                for i in range(lanes):
                    out_re[k, start + i], out_im[k, start + i] = work_re[at + i], work_im[at + i]


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def transform_columns(re, im, first, last, wanted, radices, twiddles, roots, place, out_re, out_im):  # type: ignore[no-untyped-def]
    """Transform columns first … last − 1 of an array, (n, m) to (K, m): see `_transform_axis`."""
    _transform_axis(re, im, first, last, wanted, False, radices, twiddles, roots, place, out_re, out_im)


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def transform_layers(re, im, first, last, wanted, radices, twiddles, roots, place, out_re, out_im):  # type: ignore[no-untyped-def]
    """Transform layers first … last − 1 of a stack along both of their axes, (L, n, n) to (L, K, K)."""
    size = re.shape[1]
    turned_re = np.empty((size, len(wanted)), np.float32)
    turned_im = np.empty((size, len(wanted)), np.float32)
    for layer in range(first, last):
        _transform_axis(
            re[layer], im[layer], 0, size, wanted, True, radices, twiddles, roots, place, turned_re, turned_im
        )
        _transform_axis(
            turned_re, turned_im, 0, len(wanted), wanted, True, radices, twiddles, roots, place,
            out_re[layer], out_im[layer],
        )  # fmt: skip
