"""Windows as 16-bit integers: rounding is small against each pair's largest value; nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

from tomopolish.imaging.packed import PackedSamples


def random_samples(seed: int) -> np.ndarray:
    """Samples of very different magnitude, one pair of them empty."""
    rng = np.random.default_rng(seed)
    samples = rng.normal(size=(3, 4, 8, 8)) * 10.0 ** rng.uniform(-6, 8, (3, 4, 1, 1))
    samples[1, 2] = 0
    return samples.astype(np.float32)


def packed(samples: np.ndarray) -> PackedSamples:
    result = PackedSamples.zeros(samples.shape)
    for tilt, own in enumerate(samples):
        result.put(tilt, own)
    return result


def test_each_pair_is_rounded_on_its_own_scale() -> None:
    samples = random_samples(0)
    error = np.abs(np.asarray(packed(samples)) - samples).max(axis=(2, 3))
    largest = np.abs(samples).max(axis=(2, 3))
    assert (error <= 0.51 * largest / 32767).all() and (error[largest > 0] > 0).all()
    assert packed(samples).numbers.nbytes == samples.nbytes / 2


def test_reading_some_is_reading_all() -> None:
    whole = np.asarray(packed(random_samples(1)))
    some = packed(random_samples(1))
    pairs = (np.array([0, 2]), np.array([3, 1]))
    for index in (1, slice(0, 2), pairs):
        np.testing.assert_array_equal(some[index], whole[index])
    np.testing.assert_array_equal(some.of_tilts(slice(1, 3)), whole[1:3])
    np.testing.assert_array_equal(some.of_particles(np.array([3, 0])), whole[:, [3, 0]])
    np.testing.assert_array_equal(PackedSamples.joined([some, some]), np.concatenate([whole, whole], axis=1))


def test_pairs_are_replaced_scaled_and_cleared() -> None:
    some, fresh = packed(random_samples(2)), random_samples(3)
    pairs = (np.array([0, 2]), np.array([1, 1]))
    some.put_pairs(*pairs, fresh[pairs])
    np.testing.assert_array_equal(some[pairs], packed(fresh)[pairs])
    before = np.asarray(some)
    some.scale(np.array([1.0, 2.0, 0.5, 1.0]))
    np.testing.assert_allclose(some, before * np.array([1.0, 2.0, 0.5, 1.0])[:, None, None], rtol=1e-6)
    some.clear(pairs)
    assert not some[pairs].any() and some[0, 0].any()


@pytest.mark.parametrize("magnitude", [1e-38, 1e30])
def test_extreme_values_do_not_overflow(magnitude: float) -> None:
    samples = np.full((1, 1, 4, 4), magnitude, dtype=np.float32)
    np.testing.assert_allclose(packed(samples), samples, rtol=1e-4, atol=1e-29)
