"""Compiled kernels of the correlation stage, CPU.

Each works on a chunk of particle–tilt pairs small enough to stay in cache, on one thread, without holding
Python's lock; the caller spreads chunks over threads (`windows`). Results do not depend on the threads.
Rows are copied element by element: numba takes four seconds to compile what an assignment of arrays might
raise.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from tomopolish.correlation import pixel

# What other kernels call is inlined: a copy compiled on its own may round otherwise, and which of both a run
# uses would depend on whether it compiles the kernels or finds them in the cache.

VECTOR = 16
"""Floats that one instruction takes at most."""

# Reassociation would undo the sine's two-part reduction by π.
_sine = njit(pixel.sine, fastmath={"nnan", "ninf", "nsz", "arcp", "contract", "afn"})
_ctf_phase = njit(pixel.ctf_phase, fastmath=True)
_locate = njit(pixel.locate, fastmath=True, error_model="numpy")
_blend = njit(pixel.blend, fastmath=True)


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def extract_boxes(image, corners, falloff, outside, boxes):  # type: ignore[no-untyped-def]
    """Cut boxes, subtract the mean of the pixels outside the inscribed circle, and apply the soft edge.

    Parameters
    ----------
    image : (h, w) float32
    corners : (B, 2) int64, x and y of each box's first pixel; pixels beyond the image repeat its edge
    falloff : (s, s) float32 soft circular mask
    outside : (s, s) float32, 1 outside the circle and 0 inside
    boxes : (B, s, s) float32, written
    """
    height, width = image.shape
    size = falloff.shape[0]
    pixels, soft, ring = image.reshape(-1), falloff.reshape(-1), outside.reshape(-1)
    count = np.float32(0)
    for i in range(len(ring)):
        count += ring[i]
    for b in range(boxes.shape[0]):
        x0, y0 = corners[b, 0], corners[b, 1]
        whole = x0 >= 0 and x0 + size <= width
        # Any pixel near the mean: differences to it lose no digits in float32.
        pivot = image[min(max(y0, 0), height - 1), min(max(x0, 0), width - 1)]
        box = boxes[b].reshape(-1)
        for y in range(size):
            row = min(max(y0 + y, 0), height - 1)
            if whole:
                first, at = np.uint64(row * width + x0), np.uint64(y * size)
                for x in range(np.uint64(size)):
                    box[at + x] = pixels[first + x]
            else:
                for x in range(size):
                    box[y * size + x] = image[row, min(max(x0 + x, 0), width - 1)]
        total = np.float32(0)
        for i in range(len(box)):
            total += (box[i] - pivot) * ring[i]
        mean = pivot + total / count
        for i in range(len(box)):
            box[i] = (box[i] - mean) * soft[i]


@njit(fastmath=True, error_model="numpy", inline="always")
def slice_reference(  # type: ignore[no-untyped-def]
    reference, reach, half, view, columns_used, odd, places, within, slice_re, slice_im
):  # fmt: skip
    """Predicted spectrum of one pair before the CTF, over the frequencies in use.

    In each row all places are found first, in vector instructions; then what is there, which jumps through
    memory.

    Parameters
    ----------
    reference, reach : `ReferenceTransform.flat`, `.reach`
    odd : (2, R, C) complex64 factor; (2, R, 0) when there is none
    places, within : (W,) uint32 and (4, W) float32, scratch; W is C rounded up to `VECTOR`
    slice_re, slice_im : (2, R, C) float32, written where frequencies are in use
    """
    width, height = 2 * (reach + 1), 2 * reach + 1
    row, layer, first = np.uint64(width), np.uint64(width * height), np.uint64(half * width * height**2)
    tx, ty, tz, side = within[0], within[1], within[2], within[3]
    for sign in range(2):
        for r in range(sign, columns_used.shape[1]):
            ky = np.float32(r - 2 * sign * r)
            bx, by, bz = ky * view[1, 0], ky * view[1, 1], ky * view[1, 2]
            count = columns_used[sign, r]
            # Whole vectors: what is left over would be done one by one.
            for i in range((count + VECTOR - 1) // VECTOR * VECTOR):
                k = np.float32(i)
                places[i], tx[i], ty[i], tz[i], side[i] = _locate(
                    bx + k * view[0, 0], by + k * view[0, 1], bz + k * view[0, 2], reach
                )
            for i in range(count):
                re, im = _blend(
                    reference, first + np.uint64(places[i]), row, layer, tx[i], ty[i], tz[i], side[i]
                )
                if odd.shape[2] > 0:
                    turn = odd[sign, r, i]
                    re, im = re * turn.real - im * turn.imag, re * turn.imag + im * turn.real
                slice_re[sign, r, i], slice_im[sign, r, i] = re, im


@njit(fastmath=True, error_model="numpy", inline="always")
def compare(  # type: ignore[no-untyped-def]
    observed, slice_re, slice_im, kx, ky, weight, signal_weight, defocus, quartic, constant_phase, even,
    turn_x, turn_y, re, im,
):  # fmt: skip
    """Compute w · O · conj(S) · e^{2πi k·centre/s} of one pair, in one long loop of vector instructions.

    All arrays but `defocus` are flat over (2, R, C). `re` and `im` are written; returns Σ w |S|².
    """
    power = np.float32(0)
    quarter = np.float32(np.pi / 2)
    for i in range(len(kx)):
        x, y = kx[i], ky[i]
        y2 = y * y
        gamma = _ctf_phase(x, y2, constant_phase + defocus[2] * y2, defocus[1] * y, defocus[0], quartic)
        if len(even) > 0:
            gamma += even[i]
        sine = _sine(gamma)
        factor = weight[i] * sine
        power += signal_weight[i] * sine * sine * (slice_re[i] * slice_re[i] + slice_im[i] * slice_im[i])
        o_re, o_im = observed[i].real, observed[i].imag
        p_re = factor * (o_re * slice_re[i] + o_im * slice_im[i])
        p_im = factor * (o_im * slice_re[i] - o_re * slice_im[i])
        turn = x * turn_x + y * turn_y
        q_re, q_im = _sine(turn + quarter), _sine(turn)
        re[i] = p_re * q_re - p_im * q_im
        im[i] = p_re * q_im + p_im * q_re
    return power


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def correlate_spectra(  # type: ignore[no-untyped-def]
    spectra, reference, reach, half_set, views, centre, columns_used, weight, signal_weight, defocus,
    quartic, constant_phase, even, odd, group, product, power,
):  # fmt: skip
    """Multiply image spectra with the conjugate of the predicted ones, over the frequencies in use.

    Slice of the reference, then CTF, aberrations, weights, product, and the phase that moves the particle's
    exact centre to the origin: G = w · O · conj(S) · e^{2πi k·centre/s}, up to the sign that −sin γ and the
    negative contrast leave (spec §3, §5): positive correlation is a match. Rows ky and −ky are done together,
    and their sum E and difference D written as real numbers, which halves the work of the small inverse
    transform (`windows.small_inverse`).

    Parameters
    ----------
    spectra : (B, s, C) complex64, unnormalised transforms, columns kx = 0 … C − 1
    reference, reach : (N,) float32 and int, `ReferenceTransform.flat`, `.reach`
    half_set, group : (B,) int64
    views : (B, 2, 3) float32, first two rows of each view matrix
    centre : (B, 2) float32, position of the particle's centre relative to pixel s/2 of its box, px
    columns_used : (2, R) int64, number of columns in use in rows ky = 0 … R − 1 and in rows −ky
    weight, signal_weight : (2, R, C) float32, all real weights of this tilt in the product and in Σ w |S|²
    defocus : (B, 3) float32, phase per kx², kx·ky and ky²
    quartic, constant_phase : float32
    even : (G, 2, R, C) float32 added to γ; (G, 2, R, 0) when there is none
    odd : (G, 2, R, C) complex64 factor of the prediction; (G, 2, R, 0) when there is none
    product : (B, 4, R, C) float32, written: Re E, Im D, Im E, Re D
    power : (B,) float64, written: Σ w |S|² over the full plane
    """
    size, rows, columns = spectra.shape[1], weight.shape[1], weight.shape[2]
    plane = rows * columns
    slice_re, slice_im = np.zeros((2, rows, columns), np.float32), np.zeros((2, rows, columns), np.float32)
    kx, ky = np.empty(2 * plane, np.float32), np.empty(2 * plane, np.float32)
    signed = np.empty(2 * plane, np.float32)
    for i in range(2 * plane):
        r, c = (i % plane) // columns, i % columns
        kx[i], ky[i] = c, r if i < plane else -r
        signed[i] = (1 - 2 * ((r + c) % 2)) * weight[i // plane, r, c]  # e^{2πi k·(s/2)/s}, box centre
    padded = (columns + VECTOR - 1) // VECTOR * VECTOR
    places, within = np.empty(padded, np.uint32), np.empty((4, padded), np.float32)
    observed = np.zeros((2, rows, columns), np.complex64)
    re, im = np.empty(2 * plane, np.float32), np.empty(2 * plane, np.float32)
    unit = 2 * np.pi / size
    for b in range(spectra.shape[0]):
        for r in range(rows):
            for c in range(columns):
                observed[0, r, c] = spectra[b, r, c]
                if r > 0:
                    observed[1, r, c] = spectra[b, size - r, c]
        slice_reference(
            reference, reach, half_set[b], views[b], columns_used, odd[group[b]], places, within,
            slice_re, slice_im,
        )  # fmt: skip
        power[b] = compare(
            observed.reshape(-1), slice_re.reshape(-1), slice_im.reshape(-1), kx, ky, signed,
            signal_weight.reshape(-1), defocus[b], quartic, constant_phase, even[group[b]].reshape(-1),
            np.float32(unit * centre[b, 0]), np.float32(unit * centre[b, 1]), re, im,
        )  # fmt: skip
        out = product[b].reshape(-1)
        for i in range(plane):
            out[i] = re[i] + re[plane + i]
            out[plane + i] = im[i] - im[plane + i]
            out[2 * plane + i] = im[i] + im[plane + i]
            out[3 * plane + i] = re[i] - re[plane + i]


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


def wake() -> bool:
    """Have numba set itself up, which its first call does and which takes a tenth of a second.

    Returns whether the kernels are yet to be compiled: none was kept from an earlier run.
    """
    add_power(np.zeros((1, 1, 2), np.float32), np.zeros((1, 1)))
    return bool(sum(add_power.stats.cache_misses.values()))
