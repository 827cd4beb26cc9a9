"""The factor that fits references to images, and the part of it that noise of the half maps explains."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from small_project import make_references, make_settings
from tomopolish.pipeline import PreparedReferences, prepare
from tomopolish.pipeline.intensity import explained_by_noise, factors_without_noise

BOX = 32


@pytest.fixture(scope="module")
def prepared() -> PreparedReferences:
    return prepare(
        make_references(np.random.default_rng(1), BOX, np.ones(BOX // 2 + 1)), make_settings(BOX, 4)
    )


def with_share(prepared: PreparedReferences, share: float) -> PreparedReferences:
    """Return references with the same share of signal in all frequencies."""
    fraction = np.full_like(prepared.weight.signal_fraction, share)
    return replace(prepared, weight=replace(prepared.weight, signal_fraction=fraction))


def test_noise_explains_the_share_of_signal_in_the_power_that_counts(prepared: PreparedReferences) -> None:
    weights = np.stack([prepared.weight.half_plane] * 3)
    assert explained_by_noise(with_share(prepared, 0.6), weights) == pytest.approx(0.6)
    assert explained_by_noise(prepared, 0 * weights) == 1.0
    fraction = prepared.weight.signal_fraction.copy()
    fraction[:, BOX // 4 :] = 0.0
    noisy = replace(prepared, weight=replace(prepared.weight, signal_fraction=fraction))
    left_out = np.zeros_like(weights)
    left_out[..., : BOX // 4] = 1.0
    assert explained_by_noise(noisy, left_out) > explained_by_noise(noisy, weights)


def test_references_of_the_images_intensity_are_used_as_they_are(prepared: PreparedReferences) -> None:
    weights = [prepared.weight.half_plane[None]] * 3
    species = [with_share(prepared, share) for share in (0.6, 0.6, 1.0)]
    factors = factors_without_noise((0.55, 6.0, 0.4), species, weights)
    assert factors == (1.0, pytest.approx(10.0), pytest.approx(0.4))
