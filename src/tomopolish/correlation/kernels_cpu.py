"""Compiled kernels of the correlation stage, CPU.

Each works on a chunk of particle–tilt pairs small enough to stay in cache, on one thread, without holding
Python's lock; the caller spreads chunks over threads (`windows`). Results do not depend on the threads.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from tomopolish.correlation import pixel

_sine = njit(pixel.sine, fastmath=True, inline="always")
_ctf_phase = njit(pixel.ctf_phase, fastmath=True, inline="always")
_lerp = njit(pixel.lerp, fastmath=True, inline="always")


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
def correlate_spectra(  # type: ignore[no-untyped-def]
    spectra, reference, half_set, views, centre, row_index, row_ky, row_columns,
    weight, defocus, quartic, constant_phase, even, odd, group, product,
):  # fmt: skip
    """Multiply image spectra with the conjugate of the predicted ones, over the frequencies in use.

    One pass per pixel: slice of the reference, CTF, aberrations, weights, product, and the phase that moves
    the particle's exact centre to the origin. ``product = w · O · conj(S) · e^{2πi k·centre/s}`` up to the
    sign that −sin γ and the negative contrast leave (spec §3, §5): positive correlation is a match.

    Parameters
    ----------
    spectra : (B, s, C) complex64, unnormalised transforms, columns kx = 0 … C − 1
    reference : (2, n, n, m) complex64, `ReferenceTransform.values`
    half_set, group : (B,) int64
    views : (B, 2, 3) float32, first two rows of each view matrix
    centre : (B, 2) float32, position of the particle's centre in its box, px
    row_index, row_ky, row_columns : (R,) int64, position in the spectrum, signed ky and number of columns
    weight : (R, C) float32, all real weights of this tilt
    defocus : (B, 3) float32, phase per kx², kx·ky and ky²
    quartic, constant_phase : float32
    even : (G, R, C) float32 added to γ; (G, 0, 0) when there is none
    odd : (G, R, C) complex64 factor of the prediction; (G, 0, 0) when there is none
    product : (B, R, C) complex64, written
    """
    size = spectra.shape[1]
    columns = spectra.shape[2]
    reach = reference.shape[3] - 1
    top = reach - 1
    lowest = -reach
    slice_re = np.empty(columns, np.float32)
    slice_im = np.empty(columns, np.float32)
    shift_re = np.empty(columns, np.float32)
    shift_im = np.empty(columns, np.float32)
    has_even = even.shape[1] > 0
    has_odd = odd.shape[1] > 0
    for b in range(spectra.shape[0]):
        volume = reference[half_set[b]]
        ax, ay, az = views[b, 0, 0], views[b, 0, 1], views[b, 0, 2]
        turn = 2 * np.pi * centre[b, 0] / size
        for kx in range(columns):
            shift_re[kx] = np.cos(turn * kx)
            shift_im[kx] = np.sin(turn * kx)
        for r in range(row_ky.shape[0]):
            ky = np.float32(row_ky[r])
            used = row_columns[r]
            bx, by, bz = ky * views[b, 1, 0], ky * views[b, 1, 1], ky * views[b, 1, 2]
            for kx in range(used):
                k = np.float32(kx)
                x, y, z = bx + k * ax, by + k * ay, bz + k * az
                conjugate = np.float32(1)
                if x < 0:
                    x, y, z = -x, -y, -z
                    conjugate = np.float32(-1)
                ix = min(int(x), top)
                iy = min(int(np.floor(y)), top)
                iz = min(int(np.floor(z)), top)
                tx, ty, tz = x - np.float32(ix), y - np.float32(iy), z - np.float32(iz)
                iy -= lowest
                iz -= lowest
                near = volume[iz]
                far = volume[iz + 1]
                v00 = _lerp(near[iy, ix], near[iy, ix + 1], tx)
                v01 = _lerp(near[iy + 1, ix], near[iy + 1, ix + 1], tx)
                v10 = _lerp(far[iy, ix], far[iy, ix + 1], tx)
                v11 = _lerp(far[iy + 1, ix], far[iy + 1, ix + 1], tx)
                value = _lerp(_lerp(v00, v01, ty), _lerp(v10, v11, ty), tz)
                slice_re[kx] = value.real
                slice_im[kx] = value.imag * conjugate
            if has_odd:
                for kx in range(used):
                    turned = complex(slice_re[kx], slice_im[kx]) * odd[group[b], r, kx]
                    slice_re[kx] = turned.real
                    slice_im[kx] = turned.imag
            angle = 2 * np.pi * centre[b, 1] * row_ky[r] / size
            row_re, row_im = np.float32(np.cos(angle)), np.float32(np.sin(angle))
            ky2 = ky * ky
            row_phase = constant_phase + defocus[b, 2] * ky2
            linear = defocus[b, 1] * ky
            source = spectra[b, row_index[r]]
            out = product[b, r]
            for kx in range(used):
                gamma = _ctf_phase(np.float32(kx), ky2, row_phase, linear, defocus[b, 0], quartic)
                if has_even:
                    gamma += even[group[b], r, kx]
                factor = weight[r, kx] * _sine(gamma)
                o_re, o_im = source[kx].real, source[kx].imag
                p_re = o_re * slice_re[kx] + o_im * slice_im[kx]
                p_im = o_im * slice_re[kx] - o_re * slice_im[kx]
                q_re = shift_re[kx] * row_re - shift_im[kx] * row_im
                q_im = shift_re[kx] * row_im + shift_im[kx] * row_re
                out[kx] = complex(factor * (p_re * q_re - p_im * q_im), factor * (p_re * q_im + p_im * q_re))
            for kx in range(used, columns):
                out[kx] = 0
