"""Scales are recovered from measurements whose scales are known; defaults are kept where nothing is known."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tuning_cases import make_prior, planted

from tomopolish.tune.noise import crowding, fit_noise, no_crowding
from tomopolish.tune.search import BOUNDS, profile, row
from tomopolish.tune.tuning import MATTERS, Candidate, Search, choose


def test_a_profile_finds_summit_and_interval() -> None:
    found = profile(lambda v: -0.5 * ((np.log(v) - np.log(0.3)) / 0.2) ** 2, 2.0)
    assert found.scale == pytest.approx(0.3, rel=0.02)
    low, high = found.interval()
    assert low == pytest.approx(0.3 * np.exp(-0.2 * 1.96), rel=0.08)
    assert high == pytest.approx(0.3 * np.exp(0.2 * 1.96), rel=0.08)


def test_a_profile_without_end_stops_at_the_bounds() -> None:
    found = profile(lambda v: -np.log1p(v), 0.5)
    assert np.exp(found.logs[0]) < 2 * BOUNDS[0]
    assert found.interval()[0] < 2 * BOUNDS[0]


def test_a_row_of_one_has_no_width() -> None:
    assert row([1.0], [5000.0]).interval() == pytest.approx((5000.0, 5000.0))


@pytest.mark.parametrize("squared", [False, True])
def test_planted_velocities_are_recovered(squared: bool) -> None:
    truth = make_prior(squared_exponential=squared)
    with ThreadPoolExecutor(1) as pool:
        tomograms = [planted(np.random.default_rng(seed), truth, 15, 15) for seed in range(5)]
        search = Search(measured=tomograms, expected_drift=0.02, pool=pool)
        found = search.summit(make_prior(velocity_scale=1.0, squared_exponential=squared))
        low, high = search.velocity_profile(found).interval()
    assert found.prior.velocity_scale == pytest.approx(truth.velocity_scale, rel=0.1)
    assert 0.6 * truth.velocity_scale < low < truth.velocity_scale < high < 1.5 * truth.velocity_scale


def test_the_right_kernel_and_distance_have_the_greatest_evidence() -> None:
    truth = make_prior(squared_exponential=True)
    with ThreadPoolExecutor(1) as pool:
        tomograms = [planted(np.random.default_rng(seed), truth, 15, 15) for seed in range(2)]
        search = Search(measured=tomograms, expected_drift=0.02, pool=pool)
        ridges = [search.ridge(truth, [25.0, 100.0, 400.0], kernel) for kernel in (False, True)]
    assert ridges[1].along_distance.scale == pytest.approx(100.0)
    assert ridges[1].along_distance.best > ridges[0].along_distance.best + MATTERS


def test_noise_by_tilt_image_and_crowding_is_recovered() -> None:
    rng = np.random.default_rng(4)
    tilts, particles = 12, 40
    crowded = rng.random((tilts, particles))
    frames = np.linspace(3.0, 0.8, tilts)
    noise = frames[:, None] * (1 + 2.0 * crowded)
    truth = make_prior()
    tomogram = planted(rng, truth, tilts, particles, noise=noise)
    seen = [crowded[m, f.particles] for m, f in enumerate(tomogram.frames)]
    found = fit_noise(tomogram, seen, truth, no_crowding(tomogram), rounds=8)
    assert 1.0 < found.slope < 4.0
    middle = found.frames * (1 + 0.5 * found.slope) / (2 * frames)
    assert np.abs(np.log(middle)).max() < 0.6
    assert np.mean(middle) == pytest.approx(1, abs=0.12)


def test_noise_that_is_as_assumed_stays_as_assumed() -> None:
    truth = make_prior()
    tomogram = planted(np.random.default_rng(6), truth, 12, 40)
    alone = [np.zeros(len(f.particles)) for f in tomogram.frames]
    found = fit_noise(tomogram, alone, truth, no_crowding(tomogram))
    assert found.slope == 0
    assert found.frames.mean() == pytest.approx(1, abs=0.1)


def test_crowding_counts_neighbours_but_not_oneself() -> None:
    positions = np.array([[[0.0, 0.0], [1.0, 0.0], [500.0, 0.0]]])
    found = crowding(positions, positions, 48)
    np.testing.assert_allclose(found, [[0.993, 0.993, 0.0]], atol=0.001)


def test_defaults_are_kept_unless_the_evidence_is_against_them() -> None:
    default = Candidate(prior=make_prior(distance_scale=5000.0), log_evidence=0.0)

    def other(gain: float, squared: bool) -> Candidate:
        return Candidate(prior=make_prior(squared_exponential=squared), log_evidence=gain)

    assert choose([default, other(MATTERS - 1, False), other(MATTERS - 1, True)]) is default
    clear = other(MATTERS + 1, False)
    assert choose([default, clear, other(MATTERS + 2, True)]) is clear
    square = other(3 * MATTERS, True)
    assert choose([default, clear, square]) is square
