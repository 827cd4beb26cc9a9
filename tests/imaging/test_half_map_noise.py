"""Errors of the predictions' envelope by the noise of half maps, against many simulated half maps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.fft
from scipy.ndimage import gaussian_filter

from tomopolish.dataset.model import References
from tomopolish.imaging.fsc import transform_correlation
from tomopolish.imaging.half_map_noise import envelope_variance, independent_coefficients, noise_extent
from tomopolish.physics.fourier import radius_half_space, shell_sums

BOX, SHELLS, DRAWS = 32, 17, 100
USED = np.arange(1, 12)


def sphere(radius: float, size: int = BOX) -> np.ndarray:
    grid = np.indices((size,) * 3) - size // 2
    return (np.sum(grid**2, axis=0) <= radius**2).astype(np.float32)


def structure(mask: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(1)
    return (gaussian_filter(rng.normal(size=mask.shape), 1.0) * mask).astype(np.float32)


def half_maps(rng: np.random.Generator, signal: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """Return half maps whose noise has `ratio` times the signal's power in each shell where the signal is."""
    power = shell_sums(np.abs(scipy.fft.rfftn(signal, norm="ortho")) ** 2) / shell_sums(
        np.ones((BOX, BOX, SHELLS))
    )
    inside = np.mean(signal != 0)
    amplitude = np.interp(radius_half_space(BOX), np.arange(SHELLS), np.sqrt(ratio * power / inside))
    noise = scipy.fft.rfftn(rng.normal(size=(2, *signal.shape)), axes=(1, 2, 3)) * amplitude
    return (signal + scipy.fft.irfftn(noise, s=signal.shape, axes=(1, 2, 3))).astype(np.float32)


def references(maps: np.ndarray, mask: np.ndarray | None) -> References:
    return References(half_maps=maps, pixel_size_angstrom=1.0, mask=mask)


def by_fsc(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return transform_correlation(first, second)


def by_mean_power(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    power = shell_sums(np.abs(first) ** 2 + np.abs(second) ** 2) / 2
    return shell_sums((first * np.conj(second)).real) / power


@pytest.mark.parametrize(
    ("noise", "radius", "correlation"), [(0.3, 8.0, by_fsc), (2.0, 11.0, by_fsc), (0.8, 11.0, by_mean_power)]
)
def test_scale_and_b_factor_vary_as_the_formula_says(
    noise: float, radius: float, correlation: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> None:
    mask, rng = sphere(radius), np.random.default_rng(2)
    signal = structure(mask)
    ratio = noise * np.exp((np.arange(SHELLS) - 8.0) / 3)
    transform = scipy.fft.rfftn(signal)
    found, stated = [], []
    fits = np.stack([np.ones(len(USED)), -(USED**2) / 4])
    information = USED / (1 + ratio[USED])
    response = -np.linalg.solve((fits * information) @ fits.T, fits * information)
    for _ in range(DRAWS):
        maps = half_maps(rng, signal, ratio)
        own = [scipy.fft.rfftn(half * mask) for half in maps]
        share = correlation(*own)
        errors = [
            share * shell_sums(np.abs(half) ** 2) / shell_sums((transform * np.conj(half)).real) - 1
            for half in own
        ]
        found.append(response @ np.mean(errors, axis=0)[USED])
        coefficients = independent_coefficients(SHELLS, noise_extent(references(maps, mask), 2 * BOX) * 8)
        stated.append(response**2 @ envelope_variance(np.clip(share, 0, 1), coefficients)[USED])
    np.testing.assert_allclose(np.std(found, axis=0), np.sqrt(np.mean(stated, axis=0)), rtol=0.25)


def test_noise_fills_its_mask() -> None:
    rng = np.random.default_rng(3)
    maps = rng.normal(size=(2, BOX, BOX, BOX)).astype(np.float32)
    mask = sphere(14.0)
    for box in (2 * BOX, 3 * BOX):
        extent = noise_extent(references(maps, mask), box)
        assert extent == pytest.approx(mask.sum() / box**3, rel=0.1)
    assert noise_extent(references(1e-9 * maps, mask), 2 * BOX) == pytest.approx(
        noise_extent(references(maps, mask), 2 * BOX), rel=1e-5
    )
    tapered = noise_extent(references(maps, None), BOX)
    assert 0.05 < tapered < sphere(BOX / 2).mean()


def test_half_maps_without_noise_have_no_errors() -> None:
    maps = np.stack([structure(sphere(9.0))] * 2)
    extent = noise_extent(references(maps, None), BOX)
    assert extent == 1.0
    variance = envelope_variance(np.array([1.0, 0.5, 0.0, -0.1]), independent_coefficients(4, extent))
    assert variance[0] == 0 and variance[1] > 0 and not variance[2:].any()


def test_errors_grow_with_noise_and_with_fewer_coefficients() -> None:
    shares = np.linspace(0.95, 0.1, 20)
    few, many = (envelope_variance(shares, np.full(20, count)) for count in (100.0, 400.0))
    assert (np.diff(few) > 0).all()
    np.testing.assert_allclose(few, 4 * many)
