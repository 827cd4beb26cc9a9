"""Exposure of single images from the accumulated one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomopolish.physics.exposure import image_exposures, is_even, repeated, step_weights, typical_exposure


@pytest.mark.parametrize(
    ("accumulated", "expected"),
    [
        ([0, 2.5, 5, 7.5], [2.5, 2.5, 2.5, 2.5]),
        ([0, 40, 42, 44, 46], [40, 2, 2, 2, 2]),  # hybrid
        ([0, 1, 3, 6, 10], [1, 2, 3, 4, 2.5]),  # rising with the tilt
        ([0, 0, 6, 6, 12, 12], [3, 3, 3, 3, 3, 3]),  # two images share each step
        ([0, 0, 0, 6], [2, 2, 2, 2]),
        ([5, 8], [3, 3]),
        ([7, 7, 7], [0, 0, 0]),
        ([4], [0]),
        ([], []),
    ],
)
def test_images_are_exposed_up_to_the_next_one(accumulated: list[float], expected: list[float]) -> None:
    found = image_exposures(np.array(accumulated, dtype=np.float64))
    np.testing.assert_allclose(found, expected)


def test_rounding_leaves_an_even_scheme_even() -> None:
    accumulated = np.round(np.arange(41) * 3.3333333, 2)
    assert is_even(image_exposures(accumulated))
    assert typical_exposure(image_exposures(accumulated)) == accumulated[1]
    np.testing.assert_array_equal(step_weights(accumulated[::-1]), np.ones(40))


def test_steps_weigh_as_their_exposure() -> None:
    accumulated = np.array([0.0, 18.0, 21.0, 24.0, 25.5, 28.5])
    expected = [6.0, 1.0, 1.0, 0.5, 1.0]
    np.testing.assert_allclose(step_weights(accumulated), expected)
    shuffled = np.random.default_rng(1).permutation(accumulated)
    np.testing.assert_allclose(step_weights(shuffled), expected)
    np.testing.assert_array_equal(step_weights(np.full(4, 3.0)), np.ones(3))


@given(st.lists(st.integers(0, 30), min_size=2, max_size=12))
def test_no_image_takes_nothing_where_any_exposure_is_known(doses: list[int]) -> None:
    accumulated = np.sort(np.array(doses, dtype=np.float64))
    exposures = image_exposures(accumulated)
    if np.ptp(accumulated) > 0:
        assert (exposures > 0).all()
        before_last = accumulated < accumulated[-1]
        assert exposures[before_last].sum() == pytest.approx(accumulated[-1] - accumulated[0])
    by_hand = [doses.count(dose) > 1 for dose in doses]
    np.testing.assert_array_equal(repeated(np.array(doses)), by_hand)
