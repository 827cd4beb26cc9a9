"""Compiled kernel (CUDA) of the derivatives of a pair's prediction, from the arithmetic that the CPU's has.

As in `compare_cuda`, nothing here imports CuPy, and sums are taken in a fixed order, without atomics.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import cuda, float32, float64

from tomopolish.imaging.kernels import pixel, pixel_products

# Reassociation would undo the sine's rounding and its two-part reduction by π.
_sine = cuda.jit(pixel.sine, device=True)
_ctf_phase = cuda.jit(pixel.ctf_phase, device=True, fastmath=True)
_locate = cuda.jit(pixel.locate, device=True, fastmath=True)
_blend_gradient = cuda.jit(pixel.blend_gradient, device=True, fastmath=True)
_turned = cuda.jit(pixel_products.turned, device=True, fastmath=True)
_multiplied = cuda.jit(pixel_products.multiplied, device=True, fastmath=True)
_rotation_products = cuda.jit(pixel_products.rotation_products, device=True, fastmath=True)
_rotation_squares = cuda.jit(pixel_products.rotation_squares, device=True, fastmath=True)
_prediction_products = cuda.jit(pixel_products.prediction_products, device=True, fastmath=True)
_phase_products = cuda.jit(pixel_products.phase_products, device=True, fastmath=True)
_phase_square = cuda.jit(pixel_products.phase_square, device=True, fastmath=True)

THREADS = 128
"""Threads of a block, a multiple of 16. They need 128 registers each, or 168 with all terms of γ, so that 4
blocks, or 3, share the 65,536 of a multiprocessor; larger blocks would leave more of them unused."""

PER_THREAD = 64
"""Largest number of frequencies that a thread adds up in float32. More frequencies take more blocks per pair,
so that single precision does not cost digits in large boxes, and few pairs keep a device busy."""

FEW_TERMS, MANY_TERMS = 1, 4
"""Numbers of terms of γ for which there are kernels: defocus alone, and with astigmatism and phase shift."""

IMAGE = -1
"""In place of a column in `sum_places`: product with the image."""

_ROW = THREADS + 4
"""Floats between rows of shared memory: threads that add neighbouring rows at a time read different banks."""

_SCALE, _BFACTOR, _TERM = 5, 6, 7
_ZEROS = (np.float32(0),) * 10
_START = (_ZEROS[:5], _ZEROS[:5], _ZEROS[:5], _ZEROS[:6], _ZEROS)
_START_OF_FEW = (_ZEROS[:6], _ZEROS[:1])
_START_OF_MANY = (_ZEROS[:6], _ZEROS[:6], _ZEROS[:6], _ZEROS[:6], _ZEROS)
_HALF_TURN = np.float32(np.pi)
_QUARTER_TURN = np.float32(np.pi / 2)


def sum_places(terms: int) -> list[tuple[int, int]]:
    """Return row and column of the normal matrix for each sum of a kernel, in the order of the sums.

    Sums of shifts lack the factor −2π/s for each shift, since they are products with kx and ky in its place.
    """
    places = [(j, column) for j in range(3) for column in (IMAGE, _SCALE, _BFACTOR, 3, 4)]
    places += [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    places += [(3, 3), (3, 4), (4, 4), (_SCALE, _SCALE), (_SCALE, _BFACTOR), (_BFACTOR, _BFACTOR)]
    places += [(3, IMAGE), (4, IMAGE), (_SCALE, IMAGE), (_BFACTOR, IMAGE)]
    for m in range(_TERM, _TERM + terms):
        places += [(0, m), (1, m), (2, m), (_SCALE, m), (_BFACTOR, m), (m, IMAGE)]
    return places + [(n, m) for m in range(_TERM, _TERM + terms) for n in range(_TERM, m + 1)]


@cuda.jit(device=True, fastmath=True)
def _pixel(  # type: ignore[no-untyped-def]
    observed, reference, reach, half, seen, unit, kx, ky, image_weight, amplitude, phase, odd,
):  # fmt: skip
    """Return what the sums of one pixel are made of.

    Returns V and its derivatives by three rotations, as eight floats; the weighted image, as two; the
    prediction's factor, and its derivative by γ.
    """
    x = kx * seen[0] + ky * seen[3]
    y = kx * seen[1] + ky * seen[4]
    z = kx * seen[2] + ky * seen[5]
    place, tx, ty, tz, side = _locate(x, y, z, reach)
    width, height = 2 * (reach + 1), 2 * reach + 1
    row, layer, first = np.uint64(width), np.uint64(width * height), np.uint64(half * width * height * height)
    re, im, gx_re, gx_im, gy_re, gy_im, gz_re, gz_im = _blend_gradient(
        reference, first + np.uint64(place), row, layer, tx, ty, tz, side
    )
    a_re, b_re, c_re = _turned(gx_re, gy_re, gz_re, x, y, z)
    a_im, b_im, c_im = _turned(gx_im, gy_im, gz_im, x, y, z)
    re, im = _multiplied(re, im, odd.real, odd.imag)
    a_re, a_im = _multiplied(a_re, a_im, odd.real, odd.imag)
    b_re, b_im = _multiplied(b_re, b_im, odd.real, odd.imag)
    c_re, c_im = _multiplied(c_re, c_im, odd.real, odd.imag)
    turn = unit * (kx * seen[6] + ky * seen[7])
    q_re, q_im = _sine(turn + _QUARTER_TURN) * image_weight, _sine(turn) * image_weight
    o_re, o_im = _multiplied(observed.real, observed.imag, q_re, q_im)
    angle = _ctf_phase(kx, ky, phase, seen[8], seen[9], seen[10])
    ctf, slope = amplitude * _sine(angle), amplitude * _sine(angle + _QUARTER_TURN)
    return re, im, a_re, a_im, b_re, b_im, c_re, c_im, o_re, o_im, ctf, slope


@cuda.jit(device=True, fastmath=True)
def _with_rotation(sums, re, im, g_re, g_im, o_re, o_im, ctf, kx, ky, damping):  # type: ignore[no-untyped-def]
    """Return the sums of one rotation: with the image, ln scale, B factor and shifts."""
    matching, along, aside = _rotation_products(re, im, g_re, g_im, o_re, o_im, ctf)
    return (
        sums[0] + matching,
        sums[1] + along,
        sums[2] + along * damping,
        sums[3] + aside * kx,
        sums[4] + aside * ky,
    )


@cuda.jit(device=True, fastmath=True)
def _with_squares(sums, a_re, a_im, b_re, b_im, c_re, c_im, ctf):  # type: ignore[no-untyped-def]
    """Return the sums of the rotations with each other."""
    aa, ab, ac, bb, bc, cc = _rotation_squares(a_re, a_im, b_re, b_im, c_re, c_im, ctf)
    return sums[0] + aa, sums[1] + ab, sums[2] + ac, sums[3] + bb, sums[4] + bc, sums[5] + cc


@cuda.jit(device=True, fastmath=True)
def _with_prediction(sums, re, im, o_re, o_im, ctf, kx, ky, damping):  # type: ignore[no-untyped-def]
    """Return the sums of shifts, ln scale and B factor with each other and with the image."""
    power, along, aside = _prediction_products(re, im, o_re, o_im, ctf)
    return (
        sums[0] + power * kx * kx,
        sums[1] + power * kx * ky,
        sums[2] + power * ky * ky,
        sums[3] + power,
        sums[4] + power * damping,
        sums[5] + power * damping * damping,
        sums[6] + aside * kx,
        sums[7] + aside * ky,
        sums[8] + along,
        sums[9] + along * damping,
    )


@cuda.jit(device=True, fastmath=True)
def _with_geometry(sums, pixel, kx, ky, damping):  # type: ignore[no-untyped-def]
    """Return the sums that all kernels have, after one more pixel."""
    by_a, by_b, by_c, squares, prediction = sums
    re, im, a_re, a_im, b_re, b_im, c_re, c_im, o_re, o_im, ctf, _ = pixel
    return (
        _with_rotation(by_a, re, im, a_re, a_im, o_re, o_im, ctf, kx, ky, damping),
        _with_rotation(by_b, re, im, b_re, b_im, o_re, o_im, ctf, kx, ky, damping),
        _with_rotation(by_c, re, im, c_re, c_im, o_re, o_im, ctf, kx, ky, damping),
        _with_squares(squares, a_re, a_im, b_re, b_im, c_re, c_im, ctf),
        _with_prediction(prediction, re, im, o_re, o_im, ctf, kx, ky, damping),
    )


@cuda.jit(device=True, fastmath=True)
def _with_term(sums, products, damping, rate):  # type: ignore[no-untyped-def]
    """Return the sums of a term of γ with rotations, ln scale, B factor and the image."""
    a, b, c, power, matching = products
    return (
        sums[0] + rate * a,
        sums[1] + rate * b,
        sums[2] + rate * c,
        sums[3] + rate * power,
        sums[4] + rate * power * damping,
        sums[5] + rate * matching,
    )


@cuda.jit(device=True, fastmath=True)
def _with_few(sums, pixel, damping, rates, k):  # type: ignore[no-untyped-def]
    """Return the sums of one term of γ after one more pixel, and that of its square."""
    re, im, a_re, a_im, b_re, b_im, c_re, c_im, o_re, o_im, ctf, slope = pixel
    products = _phase_products(re, im, a_re, a_im, b_re, b_im, c_re, c_im, o_re, o_im, ctf, slope)
    term, square = sums
    rate = rates[0, k]
    added = _phase_square(re, im, slope) * rate * rate
    return _with_term(term, products, damping, rate), (square[0] + added,)


@cuda.jit(device=True, fastmath=True)
def _with_many(sums, pixel, damping, rates, k):  # type: ignore[no-untyped-def]
    """Return the sums of four terms of γ after one more pixel, and those of each with itself and others."""
    re, im, a_re, a_im, b_re, b_im, c_re, c_im, o_re, o_im, ctf, slope = pixel
    products = _phase_products(re, im, a_re, a_im, b_re, b_im, c_re, c_im, o_re, o_im, ctf, slope)
    term_0, term_1, term_2, term_3, crossed = sums
    r0, r1, r2, r3 = rates[0, k], rates[1, k], rates[2, k], rates[3, k]
    square = _phase_square(re, im, slope)
    s0, s1, s2, s3 = square * r0, square * r1, square * r2, square * r3
    return (
        _with_term(term_0, products, damping, r0),
        _with_term(term_1, products, damping, r1),
        _with_term(term_2, products, damping, r2),
        _with_term(term_3, products, damping, r3),
        (
            crossed[0] + s0 * r0,
            crossed[1] + s1 * r0,
            crossed[2] + s1 * r1,
            crossed[3] + s2 * r0,
            crossed[4] + s2 * r1,
            crossed[5] + s2 * r2,
            crossed[6] + s3 * r0,
            crossed[7] + s3 * r1,
            crossed[8] + s3 * r2,
            crossed[9] + s3 * r3,
        ),
    )


# Tuples are unpacked into elements one by one: an index that is not constant would need local memory.


@cuda.jit(device=True)
def _put_six(values, first, t, sums):  # type: ignore[no-untyped-def]
    """Write six sums of a thread into a column of the shared array, from one row on."""
    values[first, t], values[first + 1, t], values[first + 2, t] = sums[0], sums[1], sums[2]
    values[first + 3, t], values[first + 4, t], values[first + 5, t] = sums[3], sums[4], sums[5]


@cuda.jit(device=True)
def _put_ten(values, first, t, sums):  # type: ignore[no-untyped-def]
    """Write ten sums of a thread, as `_put_six`."""
    values[first, t], values[first + 1, t], values[first + 2, t] = sums[0], sums[1], sums[2]
    values[first + 3, t], values[first + 4, t], values[first + 5, t] = sums[3], sums[4], sums[5]
    values[first + 6, t], values[first + 7, t], values[first + 8, t] = sums[6], sums[7], sums[8]
    values[first + 9, t] = sums[9]


@cuda.jit(device=True)
def _put_geometry(values, t, sums):  # type: ignore[no-untyped-def]
    """Write a thread's sums of `_with_geometry`."""
    by_a, by_b, by_c, squares, prediction = sums
    values[0, t], values[1, t], values[2, t], values[3, t], values[4, t] = by_a
    values[5, t], values[6, t], values[7, t], values[8, t], values[9, t] = by_b
    values[10, t], values[11, t], values[12, t], values[13, t], values[14, t] = by_c
    _put_six(values, 15, t, squares)
    _put_ten(values, 21, t, prediction)


@cuda.jit(device=True)
def _put_few(values, t, sums):  # type: ignore[no-untyped-def]
    """Write a thread's sums of `_with_few`."""
    term, square = sums
    _put_six(values, 31, t, term)
    values[37, t] = square[0]


@cuda.jit(device=True)
def _put_many(values, t, sums):  # type: ignore[no-untyped-def]
    """Write a thread's sums of `_with_many`."""
    term_0, term_1, term_2, term_3, crossed = sums
    _put_six(values, 31, t, term_0)
    _put_six(values, 37, t, term_1)
    _put_six(values, 43, t, term_2)
    _put_six(values, 49, t, term_3)
    _put_ten(values, 55, t, crossed)


@cuda.jit(device=True)
def _add_threads(values, quarters, t, sums):  # type: ignore[no-untyped-def]
    """Add the columns of a shared array, one per thread; every thread of the block must call it.

    Four threads add a row. Four values at a time are added in float32, which costs no digits after as many
    additions as came before, since consumer cards add float64 at 1/64 of the speed.
    """
    cuda.syncthreads()
    quarter = t % 4
    for row in range(t // 4, values.shape[0], THREADS // 4):
        total = float64(0)
        for i in range(quarter, THREADS, 16):
            total += (values[row, i] + values[row, i + 4]) + (values[row, i + 8] + values[row, i + 12])
        quarters[row, quarter] = total
    cuda.syncthreads()
    for row in range(t, values.shape[0], THREADS):
        sums[row] = (quarters[row, 0] + quarters[row, 1]) + (quarters[row, 2] + quarters[row, 3])


def _kernel(  # type: ignore[no-untyped-def]
    terms: int, start_of_terms, with_terms, put_terms
) -> Callable[..., Any]:
    """Return the kernel for a number of terms of γ, which has sums of its own for them."""
    count = len(sum_places(terms))

    @cuda.jit
    def pair_derivatives(  # type: ignore[no-untyped-def]
        spectra, reference, reach, chosen, seen, used, rates, phase, odd, sums,
    ):  # fmt: skip
        """Add up products of each pair's weighted derivatives with its image and with each other.

        The grid is (pairs, parts): a block takes one pair and some of the frequencies. Its threads add in
        registers, in float32 as the CPU does within a vector's elements; there are no local arrays, which a
        device keeps in slow memory. See `kernels.derivatives.pair_derivatives`.

        Parameters
        ----------
        spectra : (B, s, at least C) complex64, unnormalised transforms
        reference, reach : `ReferenceTransform.flat`, `.reach`
        chosen : (B, 2) int64, half map and optics group of each pair
        seen : (B, 11) float32, view (6), centre (2) and defocus (3) of each pair
        used : (5, K) float32: kx, ky, image weight, amplitude, damping
        rates : (terms, K) float32
        phase : (G, K) float32
        odd : (G, K) complex64; (G, 0) where it is 1
        sums : (B, parts, S) float64, written; see `sum_places`
        """
        values = cuda.shared.array((count, _ROW), float32)
        quarters = cuda.shared.array((count, 4), float64)
        pair, thread, size = cuda.blockIdx.x, cuda.threadIdx.x, spectra.shape[1]
        half, g, own = chosen[pair, 0], chosen[pair, 1], seen[pair]
        unit = np.float32(2) * _HALF_TURN / np.float32(size)
        geometry, of_terms, factor = _START, start_of_terms, np.complex64(1)
        first = cuda.blockIdx.y * THREADS * PER_THREAD
        for k in range(first + thread, first + THREADS * PER_THREAD, THREADS):
            if k >= used.shape[1]:
                break
            kx, ky, damping = used[0, k], used[1, k], used[4, k]
            row = np.int32(ky)
            if row < 0:
                row += size
            if odd.shape[1] > 0:
                factor = odd[g, k]
            pixel = _pixel(
                spectra[pair, row, np.int32(kx)], reference, reach, half, own, unit, kx, ky, used[2, k],
                used[3, k], phase[g, k], factor,
            )  # fmt: skip
            geometry = _with_geometry(geometry, pixel, kx, ky, damping)
            of_terms = with_terms(of_terms, pixel, damping, rates, k)
        _put_geometry(values, thread, geometry)
        put_terms(values, thread, of_terms)
        _add_threads(values, quarters, thread, sums[pair, cuda.blockIdx.y])

    return pair_derivatives


KERNELS = {
    FEW_TERMS: _kernel(FEW_TERMS, _START_OF_FEW, _with_few, _put_few),
    MANY_TERMS: _kernel(MANY_TERMS, _START_OF_MANY, _with_many, _put_many),
}
