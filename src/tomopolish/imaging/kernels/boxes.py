"""Compiled kernels (CPU) that cut boxes from an image, mask them and transform them.

Libraries transform complete arrays, line by line. Here one instruction performs the same step of many lines,
pixels are read directly from the image, two real columns form one complex column, rows of frequencies beyond
those in use are dropped after half of the work, and all data stay within the second cache. This takes a third
of the time (docs/dev/lab-notes/speed.md).
"""

from __future__ import annotations

import numpy as np

from tomopolish.jit import inlined, kernel

LANES = 64
"""Maximum number of lines that are transformed at once, so that a box's strip fits into the second cache."""

_HALF, _ONE, _J = np.float32(0.5), np.complex64(1), np.complex64(1j)
_SIN_60 = np.complex64(1j * np.sqrt(0.75))
_COS_72, _COS_144 = np.float32(np.cos(0.4 * np.pi)), np.float32(np.cos(0.8 * np.pi))
_SIN_72, _SIN_144 = np.complex64(1j * np.sin(0.4 * np.pi)), np.complex64(1j * np.sin(0.8 * np.pi))


@inlined(fastmath=True, error_model="numpy")
def _row(parts, first, lanes):  # type: ignore[no-untyped-def]
    return parts[first : first + lanes]


@inlined(fastmath=True, error_model="numpy")
def _put(re, im, i, value):  # type: ignore[no-untyped-def]
    re[i] = value.real
    im[i] = value.imag


@inlined(fastmath=True, error_model="numpy")
def _two(re, im, a, apart, lanes, turns):  # type: ignore[no-untyped-def]
    """Combine two rows of lanes, the first of which begins at a, and multiply them by the twiddles.

    The following functions do the same for other numbers of rows.
    """
    ar, ai = _row(re, a, lanes), _row(im, a, lanes)
    br, bi = _row(re, a + apart, lanes), _row(im, a + apart, lanes)
    w = turns[0]
    for i in range(lanes):
        p = complex(ar[i], ai[i])
        q = complex(br[i], bi[i])
        _put(ar, ai, i, p + q)
        _put(br, bi, i, (p - q) * w)


@inlined(fastmath=True, error_model="numpy")
def _three(re, im, a, apart, lanes, turns):  # type: ignore[no-untyped-def]
    ar, ai = _row(re, a, lanes), _row(im, a, lanes)
    br, bi = _row(re, a + apart, lanes), _row(im, a + apart, lanes)
    cr, ci = _row(re, a + 2 * apart, lanes), _row(im, a + 2 * apart, lanes)
    w, w2 = turns[0], turns[1]
    for i in range(lanes):
        p = complex(ar[i], ai[i])
        q = complex(br[i], bi[i])
        r = complex(cr[i], ci[i])
        both = q + r
        side = _SIN_60 * (q - r)
        middle = p - _HALF * both
        _put(ar, ai, i, p + both)
        _put(br, bi, i, (middle - side) * w)
        _put(cr, ci, i, (middle + side) * w2)


@inlined(fastmath=True, error_model="numpy")
def _four(re, im, a, apart, lanes, turns):  # type: ignore[no-untyped-def]
    ar, ai = _row(re, a, lanes), _row(im, a, lanes)
    br, bi = _row(re, a + apart, lanes), _row(im, a + apart, lanes)
    cr, ci = _row(re, a + 2 * apart, lanes), _row(im, a + 2 * apart, lanes)
    dr, di = _row(re, a + 3 * apart, lanes), _row(im, a + 3 * apart, lanes)
    w, w2, w3 = turns[0], turns[1], turns[2]
    for i in range(lanes):
        p = complex(ar[i], ai[i])
        q = complex(br[i], bi[i])
        r = complex(cr[i], ci[i])
        s = complex(dr[i], di[i])
        even, odd = p + r, p - r
        both, side = q + s, _J * (q - s)
        _put(ar, ai, i, even + both)
        _put(br, bi, i, (odd - side) * w)
        _put(cr, ci, i, (even - both) * w2)
        _put(dr, di, i, (odd + side) * w3)


@inlined(fastmath=True, error_model="numpy")
def _five(re, im, a, apart, lanes, turns):  # type: ignore[no-untyped-def]
    ar, ai = _row(re, a, lanes), _row(im, a, lanes)
    br, bi = _row(re, a + apart, lanes), _row(im, a + apart, lanes)
    cr, ci = _row(re, a + 2 * apart, lanes), _row(im, a + 2 * apart, lanes)
    dr, di = _row(re, a + 3 * apart, lanes), _row(im, a + 3 * apart, lanes)
    er, ei = _row(re, a + 4 * apart, lanes), _row(im, a + 4 * apart, lanes)
    w, w2, w3, w4 = turns[0], turns[1], turns[2], turns[3]
    for i in range(lanes):
        p = complex(ar[i], ai[i])
        q = complex(br[i], bi[i])
        r = complex(cr[i], ci[i])
        s = complex(dr[i], di[i])
        t = complex(er[i], ei[i])
        outer, inner = q + t, r + s
        out, inn = q - t, r - s
        first = p + _COS_72 * outer + _COS_144 * inner
        second = p + _COS_144 * outer + _COS_72 * inner
        aside = _SIN_72 * out + _SIN_144 * inn
        beside = _SIN_144 * out - _SIN_72 * inn
        _put(ar, ai, i, p + outer + inner)
        _put(br, bi, i, (first - aside) * w)
        _put(cr, ci, i, (second - beside) * w2)
        _put(dr, di, i, (second + beside) * w3)
        _put(er, ei, i, (first + aside) * w4)


@inlined(fastmath=True, error_model="numpy")
def _any(re, im, a, apart, lanes, turns, roots, work):  # type: ignore[no-untyped-def]
    """Combine as many rows as there are roots, by the definition."""
    count = len(roots)
    for k in range(count):
        out_r, out_i = work[0, k], work[1, k]
        turn = turns[k - 1] if k else _ONE
        for j in range(count):
            w = roots[j * k % count] * turn
            in_r, in_i = _row(re, a + j * apart, lanes), _row(im, a + j * apart, lanes)
            for i in range(lanes):
                y = complex(in_r[i], in_i[i]) * w
                if j:
                    y += complex(out_r[i], out_i[i])
                _put(out_r, out_i, i, y)
    for k in range(count):
        in_r, in_i = work[0, k], work[1, k]
        out_r, out_i = _row(re, a + k * apart, lanes), _row(im, a + k * apart, lanes)
        for i in range(lanes):
            out_r[i] = in_r[i]
            out_i[i] = in_i[i]


@inlined(fastmath=True, error_model="numpy")
def transform_lines(re, im, stride, first, lanes, radices, twiddles, roots, work):  # type: ignore[no-untyped-def]
    """Compute discrete Fourier transforms, in place, of `lanes` lines side by side.

    Sample t of the line in lane i is at ``t · stride + first + i``. Decimation in frequency (Cooley and Tukey
    1965, Math. Comput. 19, 297): frequency k is afterwards at index `fft_plan.FftPlan.place[k]`.

    Parameters
    ----------
    re, im : float32, flat
    radices, twiddles, roots : see `fft_plan.FftPlan`
    work : (2, r, lanes or more) float32, scratch; r is the largest radix or more
    """
    size = 1
    for radix in radices:
        size *= radix
    block, used, turned = size, 0, 0
    for radix in radices:
        step = block // radix
        apart = step * stride
        for j in range(step):
            turns = twiddles[turned : turned + radix - 1]
            for start in range(j, size, block):
                a = start * stride + first
                if radix == 4:
                    _four(re, im, a, apart, lanes, turns)
                elif radix == 2:
                    _two(re, im, a, apart, lanes, turns)
                elif radix == 3:
                    _three(re, im, a, apart, lanes, turns)
                elif radix == 5:
                    _five(re, im, a, apart, lanes, turns)
                else:
                    _any(re, im, a, apart, lanes, turns, roots[used : used + radix], work)
            turned += radix - 1
        used += radix
        block = step


@inlined(fastmath=True, error_model="numpy")
def _mean_outside(image, x0, y0, inside):  # type: ignore[no-untyped-def]
    """Return the mean of a box's pixels before and after those `inside`, as a sum of two numbers."""
    height, width = image.shape
    size = len(inside)
    total, count = 0.0, 0
    for y in range(size):
        row = image[min(max(y0 + y, 0), height - 1)]
        for first, end in ((0, inside[y, 0]), (inside[y, 1], size)):
            if x0 + first >= 0 and x0 + end <= width:
                pixels = row[x0 + first : x0 + end]
                for x in range(end - first):
                    total += pixels[x]
            else:
                for x in range(first, end):
                    total += row[min(max(x0 + x, 0), width - 1)]
            count += end - first
    mean = total / count
    rounded = np.float32(mean)
    return rounded, np.float32(mean - rounded)


@inlined(fastmath={"contract"}, error_model="numpy")
def _load(image, x0, y0, lanes, falloff, mean, rest, out):  # type: ignore[no-untyped-def]
    """Write ``(pixel − mean − rest) · falloff`` for `lanes` columns of pixels, row after row."""
    height, width = image.shape
    is_inside = x0 >= 0 and x0 + lanes <= width
    for y in range(len(falloff)):
        row, soft, line = image[min(max(y0 + y, 0), height - 1)], falloff[y], out[y * lanes : (y + 1) * lanes]
        if is_inside:
            pixels = row[x0 : x0 + lanes]
            for x in range(lanes):
                line[x] = ((pixels[x] - mean) - rest) * soft[x]
        else:
            for x in range(lanes):
                line[x] = ((row[min(max(x0 + x, 0), width - 1)] - mean) - rest) * soft[x]


@inlined(fastmath=True, error_model="numpy")
def _separate(re, im, many, at, mate, first, stride, half, rows):  # type: ignore[no-untyped-def]
    """Separate the transforms of two real columns in one complex column into rows of frequencies.

    Parameters
    ----------
    at, mate : (R,) indices of the frequencies ky and −ky among transforms of `many` lanes
    first : index of the first of the left columns; those of the right half follow `half` columns later
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


@kernel(fastmath=True, error_model="numpy")
def box_spectra(image, corners, falloff, inside, radices, twiddles, roots, place, spectra):  # type: ignore[no-untyped-def]
    """Cut boxes, subtract the mean of the pixels outside the mask, apply the mask, and transform.

    Columns of pixels are transformed first, those of the left half as real and those of the right half as
    imaginary parts; then the rows of frequencies in use, as lanes.

    Parameters
    ----------
    image : (h, w) float32
    corners : (B, 2) int64, x and y of each box's first pixel; pixels beyond the image repeat its edge
    falloff : (s, s) float32, the mask; s is even
    inside : (s, 2) int64, first column inside the mask in each row and the column after the last; (0, 2):
        nothing is subtracted
    radices, twiddles, roots, place : see `fft_plan.FftPlan`
    spectra : (B, 2, 2, R, C) float32, written: real and imaginary part of the unnormalised transform in rows
        ky = 0 … R − 1 and in rows −ky, columns kx = 0 … C − 1; rows −0 are zero
    """
    size, rows, columns = len(falloff), spectra.shape[3], spectra.shape[4]
    half = size // 2
    strips = (half + LANES - 1) // LANES
    lanes = (half + strips - 1) // strips
    stride = (rows + 15) // 16 * 16
    # The buffer begins with columns of pixels; rows of frequencies follow.
    front = size * lanes
    re, im = np.zeros(front + size * stride, np.float32), np.zeros(front + size * stride, np.float32)
    work = np.empty((2, len(roots), LANES), np.float32)
    at, mate = np.empty(rows, np.int64), np.empty(rows, np.int64)
    for b in range(len(corners)):
        x0, y0 = corners[b, 0], corners[b, 1]
        mean = rest = np.float32(0)
        if len(inside) > 0:
            mean, rest = _mean_outside(image, x0, y0, inside)
        for strip in range(strips + (stride + LANES - 1) // LANES):
            left = strip * lanes
            if strip < strips:
                first, apart = 0, min(lanes, half - left)
                many = apart
                _load(image, x0 + left, y0, many, falloff[:, left:], mean, rest, re)
                _load(image, x0 + half + left, y0, many, falloff[:, half + left :], mean, rest, im)
            else:
                done = (strip - strips) * LANES
                first, apart, many = front + done, stride, min(LANES, stride - done)
            transform_lines(re, im, apart, first, many, radices, twiddles, roots, work)
            if strip < strips:
                for r in range(rows):
                    at[r], mate[r] = place[r] * many, place[(size - r) % size] * many
                _separate(re, im, many, at, mate, front + left * stride, stride, half, rows)
        for c in range(columns):
            start, mirror = front + place[c] * stride, front + place[(size - c) % size] * stride
            for r in range(rows):
                spectra[b, 0, 0, r, c], spectra[b, 1, 0, r, c] = re[start + r], im[start + r]
                spectra[b, 0, 1, r, c], spectra[b, 1, 1, r, c] = re[mirror + r], -im[mirror + r]
            spectra[b, 0, 1, 0, c], spectra[b, 1, 1, 0, c] = 0, 0
