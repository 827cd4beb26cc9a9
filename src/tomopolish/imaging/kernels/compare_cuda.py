"""Compiled kernels of the correlation stage, CUDA: the same per-pixel arithmetic as the CPU's (`pixel`).

Nothing here imports CuPy: kernels take any arrays on the device. With NUMBA_ENABLE_CUDASIM=1 numba runs them
in Python on numpy arrays, thread by thread. Sums are taken in a fixed order, without atomics, so that results
do not depend on the scheduling.
"""

from __future__ import annotations

import numpy as np
from numba import cuda, float32

from tomopolish.imaging.kernels import pixel

# Reassociation would undo the sine's rounding and its two-part reduction by π.
_sine = cuda.jit(pixel.sine, device=True)
_ctf_phase = cuda.jit(pixel.ctf_phase, device=True, fastmath=True)
_locate = cuda.jit(pixel.locate, device=True, fastmath=True)
_blend = cuda.jit(pixel.blend, device=True, fastmath=True)

THREADS = 256
"""Threads of a block of `extract_boxes` and `correlate_spectra`: a power of two, as `_block_sum` needs."""

_HALF_TURN = np.float32(np.pi)
_QUARTER_TURN = np.float32(np.pi / 2)


@cuda.jit(device=True)
def _block_sum(values):  # type: ignore[no-untyped-def]
    """Sum of a block's shared array, one value per thread; the same on every thread."""
    thread = cuda.threadIdx.x
    width = THREADS // 2
    cuda.syncthreads()
    while width > 0:
        if thread < width:
            values[thread] += values[thread + width]
        cuda.syncthreads()
        width //= 2
    return values[0]


@cuda.jit
def extract_boxes(image, corners, falloff, ring, boxes):  # type: ignore[no-untyped-def]
    """Cut boxes, subtract the mean of the pixels outside the inscribed circle, and apply the mask.

    One block of threads per box. Arguments as in `kernels.boxes.box_spectra`; `ring` is its `outside`.
    """
    shared = cuda.shared.array(THREADS, float32)
    count = cuda.shared.array(THREADS, float32)
    box, thread = cuda.blockIdx.x, cuda.threadIdx.x
    size = falloff.shape[0]
    bottom, right = image.shape[0] - 1, image.shape[1] - 1
    x0, y0 = corners[box, 0], corners[box, 1]
    # Differences from a pixel near the mean lose no digits in float32.
    pivot = image[min(max(y0, 0), bottom), min(max(x0, 0), right)]
    total, outside = np.float32(0), 0
    for p in range(thread, size * size, THREADS):
        y, x = p // size, p % size
        if ring[y, x] > 0:
            total += image[min(max(y0 + y, 0), bottom), min(max(x0 + x, 0), right)] - pivot
            outside += 1
    shared[thread] = total
    count[thread] = np.float32(outside)
    mean = pivot + _block_sum(shared) / _block_sum(count)
    for p in range(thread, size * size, THREADS):
        y, x = p // size, p % size
        value = image[min(max(y0 + y, 0), bottom), min(max(x0 + x, 0), right)]
        boxes[box, y, x] = (value - mean) * falloff[y, x]


@cuda.jit(device=True, fastmath=True)
def _correlate_pixel(  # type: ignore[no-untyped-def]
    observed, reference, reach, half, seen, kx, ky, weight, signal_weight, phase, odd, unit,
):  # fmt: skip
    """Return w · O · conj(S) · e^{2πi k·centre/s} as (re, im), and w |S|², of one pixel."""
    place, tx, ty, tz, side = _locate(
        kx * seen[0] + ky * seen[3],
        kx * seen[1] + ky * seen[4],
        kx * seen[2] + ky * seen[5],
        reach,
    )
    width, height = 2 * (reach + 1), 2 * reach + 1
    row, layer, first = np.uint64(width), np.uint64(width * height), np.uint64(half * width * height * height)
    re, im = _blend(reference, first + np.uint64(place), row, layer, tx, ty, tz, side)
    re, im = re * odd.real - im * odd.imag, re * odd.imag + im * odd.real
    sine = _sine(_ctf_phase(kx, ky, phase, seen[8], seen[9], seen[10]))
    factor = weight * sine
    p_re = factor * (observed.real * re + observed.imag * im)
    p_im = factor * (observed.imag * re - observed.real * im)
    turn = unit * (kx * seen[6] + ky * seen[7])
    q_re, q_im = _sine(turn + _QUARTER_TURN), _sine(turn)
    power = signal_weight * sine * sine * (re * re + im * im)
    return p_re * q_re - p_im * q_im, p_re * q_im + p_im * q_re, power


@cuda.jit
def correlate_spectra(  # type: ignore[no-untyped-def]
    spectra, reference, reach, chosen, seen, columns_used, weights, phase, odd, product, power,
):  # fmt: skip
    """Multiply image spectra with the conjugate of the predicted ones, over the frequencies in use.

    The grid is (pairs, blocks); each thread processes pixels (kx, ky) and (kx, −ky) of one pair and writes
    their sum E and difference D. The data of single pairs are in two arrays, since each array costs the host
    time at every launch. Arguments are as in `kernels.compare.correlate_spectra`, except:

    Parameters
    ----------
    spectra : (boxes, s, at least C) complex64, unnormalised transforms
    chosen : (B, 3) int64, half map, optics group and box of each pair
    seen : (B, 11) float32, view (6), centre (2) and defocus (3) of each pair
    weights : (2, 2, R, C) float32, weight and signal weight
    product : (2, 2 R, B, C) float32, written: Re E over Im D, then Im E over Re D
    power : (B, blocks) float32, written: parts of Σ w |S|² over the full plane
    """
    shared = cuda.shared.array(THREADS, float32)
    pair, thread = cuda.blockIdx.x, cuda.threadIdx.x
    size, rows, columns = spectra.shape[1], weights.shape[2], weights.shape[3]
    position = cuda.blockIdx.y * THREADS + thread
    gained = np.float32(0)
    if position < rows * columns:
        r, c = position // columns, position % columns
        kx, ky = np.float32(c), np.float32(r)
        half, g, box, own = chosen[pair, 0], chosen[pair, 1], chosen[pair, 2], seen[pair]
        unit = np.float32(2) * _HALF_TURN / np.float32(size)
        # e^{2πi k·(s/2)/s} refers to the box's centre
        sign = np.float32(1 - 2 * ((r + c) % 2))
        plus_re, plus_im, minus_re, minus_im = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
        factor = np.complex64(1)
        if c < columns_used[0, r]:
            if odd.shape[3] > 0:
                factor = odd[g, 0, r, c]
            plus_re, plus_im, part = _correlate_pixel(
                spectra[box, r, c], reference, reach, half, own, kx, ky, weights[0, 0, r, c],
                weights[1, 0, r, c], phase[g, 0, r, c], factor, unit,
            )  # fmt: skip
            gained += part
        if r > 0 and c < columns_used[1, r]:
            if odd.shape[3] > 0:
                factor = odd[g, 1, r, c]
            minus_re, minus_im, part = _correlate_pixel(
                spectra[box, size - r, c], reference, reach, half, own, kx, -ky, weights[0, 1, r, c],
                weights[1, 1, r, c], phase[g, 1, r, c], factor, unit,
            )  # fmt: skip
            gained += part
        product[0, r, pair, c] = sign * (plus_re + minus_re)
        product[0, rows + r, pair, c] = sign * (plus_im - minus_im)
        product[1, r, pair, c] = sign * (plus_im + minus_im)
        product[1, rows + r, pair, c] = sign * (plus_re - minus_re)
    shared[thread] = gained
    total = _block_sum(shared)
    if thread == 0:
        power[pair, cuda.blockIdx.y] = total


@cuda.jit
def add_power(transforms, total):  # type: ignore[no-untyped-def]
    """Add the power of many transforms: ``total[y, x] += Σ_t |transform[t, y, x]|²``, one thread per pixel.

    ``transforms`` is (T, s, at least C) complex64, ``total`` (s, C) float64.
    """
    position = cuda.grid(1)
    columns = total.shape[1]
    if position < total.shape[0] * columns:
        y, x = position // columns, position % columns
        line = np.float32(0)
        for t in range(transforms.shape[0]):
            value = transforms[t, y, x]
            line += value.real * value.real + value.imag * value.imag
        total[y, x] += line
