"""Half planes and shells, against the full plane of numpy's own transform."""

from __future__ import annotations

import numpy as np
import pytest

from tomopolish.physics.fourier import (
    column_multiplicity,
    radius_half_plane,
    row_frequencies,
    shell_average,
    shell_interpolate,
)

BOXES = [16, 18, 48]


@pytest.mark.parametrize("box", BOXES)
def test_half_plane_frequencies_are_numpys(box: int) -> None:
    ky, kx = np.fft.fftfreq(box, 1 / box), np.fft.rfftfreq(box, 1 / box)
    np.testing.assert_array_equal(row_frequencies(box), ky)
    np.testing.assert_allclose(radius_half_plane(box), np.sqrt(ky[:, None] ** 2 + kx**2))


@pytest.mark.parametrize("box", BOXES)
def test_columns_count_as_often_as_the_full_plane_has_them(box: int) -> None:
    image = np.random.default_rng(box).normal(size=(box, box))
    half = np.abs(np.fft.rfft2(image, norm="ortho")) ** 2
    assert np.sum(half * column_multiplicity(box)) == pytest.approx(np.sum(image**2))


def brute_force_shells(values: np.ndarray, box: int) -> np.ndarray:
    total, share = np.zeros(2 * box), np.zeros(2 * box)
    for y in range(box):
        for x in range(box // 2 + 1):
            r = np.hypot(y if y < box / 2 else y - box, x)
            lower = int(r)
            for shell, part in ((lower, lower + 1 - r), (lower + 1, r - lower)):
                total[shell] += part * values[y, x]
                share[shell] += part
    return (total / np.where(share > 0, share, 1))[: box // 2 + 1]


@pytest.mark.parametrize("box", BOXES)
def test_shell_average(box: int) -> None:
    values = np.random.default_rng(box).uniform(1, 2, (box, box // 2 + 1))
    np.testing.assert_allclose(shell_average(values, box), brute_force_shells(values, box), rtol=1e-12)


def test_a_constant_survives_averaging_and_interpolation() -> None:
    shells = shell_average(np.full((24, 13), 3.0), 24)
    np.testing.assert_allclose(shells, 3.0)
    np.testing.assert_allclose(shell_interpolate(shells, 24), 3.0)


def test_interpolation_is_linear_and_ends_with_the_last_shell() -> None:
    box, shells = 20, np.arange(11.0) ** 2
    plane = shell_interpolate(shells, box)
    radius = radius_half_plane(box)
    assert plane[0, 3] == 9 and plane[3, 0] == 9
    r = radius[2, 3]
    assert plane[2, 3] == pytest.approx((4 - r) * 9 + (r - 3) * 16)
    np.testing.assert_array_equal(plane[radius > 10], 100)
