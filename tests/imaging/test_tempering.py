"""Pairs with far more noise than the others of their tilt image count less."""

from __future__ import annotations

import numpy as np
import pytest

from tomopolish.imaging.held_out import HeldOutWindows
from tomopolish.imaging.tempering import temper

NOISY, PEAK = 3, 5


def windows(rng: np.random.Generator, power: float = 100.0) -> tuple[np.ndarray, np.ndarray]:
    """Noise of the variance that the power predicts; one pair ten times louder, one with a strong peak."""
    values = (np.sqrt(power) * rng.normal(size=(12, 40, 40))).astype(np.float32)
    values[NOISY] *= 10
    values[PEAK, 18:22, 18:22] += 3 * power
    return values, np.full(12, power)


def test_a_noisy_pair_is_divided_by_its_variance_and_a_peak_is_not() -> None:
    rng = np.random.default_rng(0)
    values, power = windows(rng)
    before = values.copy()
    held = HeldOutWindows(
        tilts=np.zeros(2, dtype=np.int64),
        particles=np.array([NOISY, 8]),
        values=before[[NOISY, 8]].copy(),
        power=power[[NOISY, 8]].copy(),
    )
    temper(values, power, np.ones(12, dtype=bool), held)
    others = np.delete(np.arange(12), NOISY)
    np.testing.assert_array_equal(values[others], before[others])
    assert power[others].tolist() == [100.0] * 11
    limit = 3 + 100 / 200  # where weighting down begins, so that its factor has no jump there
    assert power[NOISY] == pytest.approx(limit, rel=0.2)
    np.testing.assert_allclose(values[NOISY], before[NOISY] * power[NOISY] / 100, rtol=1e-5)
    np.testing.assert_array_equal(held.values, values[[NOISY, 8]])
    np.testing.assert_array_equal(held.power, power[[NOISY, 8]])


def test_pairs_that_are_not_visible_do_not_count() -> None:
    values, power = windows(np.random.default_rng(1))
    visible = np.zeros(12, dtype=bool)
    visible[[NOISY, PEAK]] = True
    before = values.copy()
    values[~visible] = 0
    power[~visible] = 0
    temper(values, power, np.zeros(12, dtype=bool))
    np.testing.assert_array_equal(values[visible], before[visible])


def test_weights_have_no_jump_where_weighting_down_begins() -> None:
    """A pair a little noisier than the limit counts like a pair at it, with hardly less than full weight."""
    values, power = windows(np.random.default_rng(4))
    values[NOISY] /= 10
    factors = []
    for louder in np.sqrt(np.linspace(2.5, 6.0, 36)):
        loud, strength = values.copy(), power.copy()
        loud[NOISY] *= np.float32(louder)
        factors.append(temper(loud, strength, np.ones(12, dtype=bool))[NOISY])
    assert factors[0] == 1 and factors[-1] < 0.8
    assert np.max(-np.diff(factors)) < 0.04 and np.all(np.diff(factors) <= 1e-12)


def test_blank_boxes_in_the_majority_do_not_make_the_others_noisy() -> None:
    values, power = windows(np.random.default_rng(5))
    values[:8] = 0
    np.testing.assert_array_equal(temper(values, power, np.ones(12, dtype=bool)), np.ones(12))
