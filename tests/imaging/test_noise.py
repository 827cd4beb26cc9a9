"""Noise power, against the mean periodogram tile by tile (docs/dev/conventions.md, References)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import spec_windows

from small_project import smooth_noise
from tomopolish.imaging.noise import ENOUGH_IN_SERIES, Turn, noise_power, tile_grid
from tomopolish.imaging.weights import whitening


def image(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(height)
    return (5 + smooth_noise(rng, (height, width), 1.5) + rng.normal(size=(height, width))).astype(np.float32)


@pytest.mark.parametrize(
    ("height", "width", "box"), [(48, 48, 48), (100, 131, 32), (131, 100, 32), (79, 80, 16), (95, 70, 18)]
)
def test_mean_periodogram(height: int, width: int, box: int) -> None:
    with ThreadPoolExecutor(2) as pool:
        found = noise_power(image(height, width), box, box / 2, pool)
    np.testing.assert_allclose(found, spec_windows.mean_periodogram(image(height, width), box), rtol=2e-5)


@pytest.mark.parametrize("last", [0.0, 5.0, 7.4, 14.0, 15.0, 16.0])
def test_shells_beyond_the_last_frequency_are_left_out(last: float) -> None:
    with ThreadPoolExecutor(1) as pool:
        found = noise_power(image(100, 131), 32, last, pool)
    expected = spec_windows.mean_periodogram(image(100, 131), 32)
    needed = int(np.ceil(last)) + 1
    np.testing.assert_allclose(found[:needed], expected[:needed], rtol=2e-5)
    # a shell is whole or absent
    assert all(v == 0 or abs(v / e - 1) < 2e-5 for v, e in zip(found, expected, strict=True))


def test_white_noise_of_unit_variance_has_unit_power() -> None:
    white = np.random.default_rng(3).normal(size=(400, 400)).astype(np.float32)
    with ThreadPoolExecutor(1) as pool:
        np.testing.assert_allclose(noise_power(white, 32, 16.0, pool)[2:], 1, atol=0.05)


def test_beads_and_edges_of_covers_do_not_count_as_noise() -> None:
    """A few of them would raise the power of low frequencies a hundredfold; a cover has a weaker noise."""
    clean = image(300, 330)
    y, x = np.mgrid[:300, :330]
    beads = (np.hypot(y - 60, x - 70) < 9) | (np.hypot(y - 200, x - 250) < 9)
    covered = np.where(x < 100, 0.8 * (clean - 5) - 20, clean)
    with ThreadPoolExecutor(2) as pool:
        expected = noise_power(clean, 32, 16.0, pool)
        for dirty in (clean - 30 * beads, covered):
            found = noise_power(dirty.astype(np.float32), 32, 16.0, pool)
            np.testing.assert_allclose(found[1:], expected[1:], rtol=0.3)


def test_blank_images_have_no_noise() -> None:
    with ThreadPoolExecutor(1) as pool:
        np.testing.assert_array_equal(noise_power(np.zeros((70, 80), np.float32), 32, 16.0, pool), 0)


@pytest.mark.parametrize(("side", "count"), [(300, 41), (520, 7), (520, 41)])
def test_images_that_are_averaged_share_the_work(side: int, count: int) -> None:
    """Their mean is that of all tiles of all images, to what the number of tiles leaves open."""
    grids = [tile_grid((side, side), 16, 8.0, Turn(index=i, count=count)) for i in range(count)]
    tiles = sum(g.rows * g.columns for g in grids)
    whole = tile_grid((side, side), 16, 8.0)
    assert ENOUGH_IN_SERIES <= tiles < count * whole.rows * whole.columns
    rows = {g.top + i * g.step_down for g in grids for i in range(g.rows)}
    assert rows == {16 * i for i in range(whole.rows)}  # no part of the images goes unseen
    series = [image(side, side + i) for i in range(count)]
    with ThreadPoolExecutor(2) as pool:
        shared = [noise_power(x, 16, 8.0, pool, Turn(index=i, count=count)) for i, x in enumerate(series)]
        all_of_it = [noise_power(x, 16, 8.0, pool) for x in series]
    np.testing.assert_allclose(np.mean(shared, axis=0)[1:], np.mean(all_of_it, axis=0)[1:], rtol=0.04)


@pytest.mark.parametrize(("side", "count"), [(300, 41), (520, 41), (80, 3)])
def test_rows_of_pixels_that_no_tile_covers_do_not_matter(side: int, count: int) -> None:
    """They are not read."""
    for index in range(0, count, 5):
        turn = Turn(index=index, count=count)
        whole = image(side, side)
        torn = np.full_like(whole, np.nan)
        for rows in tile_grid(whole.shape, 16, 8.0, turn).pixel_rows(16):
            torn[rows] = whole[rows]
        with ThreadPoolExecutor(1) as pool:
            found, expected = (noise_power(x, 16, 8.0, pool, turn) for x in (torn, whole))
        np.testing.assert_array_equal(found, expected)


def test_the_number_of_threads_changes_no_bit() -> None:
    results = []
    for threads in (1, 2, 3):
        with ThreadPoolExecutor(threads) as pool:
            results.append(noise_power(image(300, 150), 32, 16.0, pool))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_whitening_inverts_shell_by_shell_and_leaves_empty_shells_alone() -> None:
    shells = np.array([1.0, 4.0, 2.0, 0.0, 5.0, 5.0, 5.0, 5.0, 8.0])
    plane = whitening(shells, 16)
    assert plane[0, 1] == pytest.approx(1 / 4) and plane[0, 2] == pytest.approx(1 / 2)
    r = np.hypot(1, 1)
    # the inverses are interpolated, not the power
    assert plane[1, 1] == pytest.approx((2 - r) / 4 + (r - 1) / 2)
    assert plane[0, 3] == 0 and plane[8, 0] == pytest.approx(1 / 8)
