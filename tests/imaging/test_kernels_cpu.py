"""Rounding does not depend on the position of arrays in memory."""

from __future__ import annotations

import numpy as np
from numba import njit

from tomopolish.imaging.kernels import compare as compare_kernels

slice_reference, compare = compare_kernels.slice_reference, compare_kernels.compare
centre_phases = compare_kernels.centre_phases
ROWS = COLUMNS = 24
REACH = 26


@njit(fastmath=True, error_model="numpy")
def slice_of(reference, view, columns_used, odd, column, places, within, slice_re, slice_im):  # type: ignore[no-untyped-def]
    slice_reference(reference, REACH, 0, view, columns_used, odd, column, places, within, slice_re, slice_im)


def test_a_slice_does_not_depend_on_where_an_empty_array_of_factors_lies() -> None:
    """Before a vectorised loop overlaps are looked for; an array that is not read must not be among them."""
    rng = np.random.default_rng(0)
    reference = rng.normal(size=4 * (REACH + 1) * (2 * REACH + 1) ** 2).astype(np.float32)
    view = rng.normal(size=(2, 3)).astype(np.float32)
    view /= np.linalg.norm(view, axis=1, keepdims=True)
    used = np.full((2, ROWS), 16)
    places, within = np.empty(32, np.uint32), np.empty((4, 32), np.float32)
    column = np.arange(32, dtype=np.float32)
    memory = np.zeros((2, 2, ROWS, COLUMNS), np.float32)
    found = []
    # As complex numbers, the memory that is written, from its start on and from places within.
    for start in (None, 0, 2, 46, 2 * ROWS * COLUMNS - 2):
        if start is None:
            odd = np.empty((2, ROWS, 0), np.complex64)
        else:
            odd = np.ndarray((2, ROWS, 0), np.complex64, buffer=memory, offset=4 * start)
            assert odd.ctypes.data == memory.ctypes.data + 4 * start
        memory[:] = 0
        slice_of(reference, view, used, odd, column, places, within, memory[0], memory[1])
        found.append(memory.copy())
    assert np.abs(found[0][:, :, 1:, :16]).min() > 0
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


@njit(fastmath=True, error_model="numpy")
def compared(  # type: ignore[no-untyped-def]
    o_re, o_im, s_re, s_im, kx, ky, weight, signal_weight, defocus, phase, turn_re, turn_im, re, im
):  # fmt: skip
    return compare(
        o_re, o_im, s_re, s_im, kx, ky, weight, signal_weight, defocus, phase, turn_re, turn_im, re, im
    )  # fmt: skip


def test_a_comparison_does_not_depend_on_how_its_arrays_lie() -> None:
    rng = np.random.default_rng(1)
    pixels = 2 * 18 * 18
    inputs = rng.normal(size=(11, pixels)).astype(np.float32)
    defocus = np.array([0.01, 0.002, 0.012], np.float32)
    found = []
    for gap in (0, 1, 3, 16, 333):
        memory = np.zeros(14 * (pixels + gap), np.float32)
        lines = memory.reshape(14, -1)[:, :pixels]
        lines[:11] = inputs
        re, im = lines[11], lines[12]
        first = [*(lines[i] for i in range(8)), defocus, lines[8], lines[9], lines[10]]
        power = compared(*first, re, im)
        found.append((power, re.copy(), im.copy()))
    for power, re, im in found[1:]:
        assert power == found[0][0]
        np.testing.assert_array_equal(re, found[0][1])
        np.testing.assert_array_equal(im, found[0][2])
    # A read under a condition, for which LLVM would look even where the condition never holds.
    assert all("masked.load" not in code for code in compared.inspect_llvm().values())


@njit(fastmath=True, error_model="numpy")
def phases_of(rows, columns, turn_x, turn_y, column, factors, turn):  # type: ignore[no-untyped-def]
    centre_phases(rows, columns, turn_x, turn_y, column, factors[0], factors[1], turn[0], turn[1])


def test_phases_of_a_box_are_those_of_its_frequencies() -> None:
    rows, columns, padded = 19, 21, 32
    turn = np.full((2, 2 * rows * columns + compare_kernels.VECTOR), np.nan, np.float32)
    column, factors = np.arange(padded, dtype=np.float32), np.empty((2, padded), np.float32)
    phases_of(rows, columns, np.float32(0.4), np.float32(-1.7), column, factors, turn)
    ky = np.arange(rows)[:, None]
    expected = [np.exp(1j * (0.4 * np.arange(columns) - 1.7 * sign * ky)) for sign in (1, -1)]
    found = (turn[0] + 1j * turn[1])[: 2 * rows * columns].reshape(2, rows, columns)
    np.testing.assert_allclose(found, expected, atol=3e-6)
