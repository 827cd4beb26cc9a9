"""What scales and B factors follow of noise, against fits of many structures to noisy images."""

from __future__ import annotations

import numpy as np
import pytest

from tomopolish.pipeline.joint.overfit import gradient_by_noise
from tomopolish.pipeline.joint.shared import Predicted

PAIRS = 4000


def structures(power: np.ndarray) -> np.ndarray:
    """Return transforms of random structures, of known mean power."""
    rng = np.random.default_rng(1)
    parts = rng.normal(size=(2, PAIRS, len(power))) * np.sqrt(power / 2)
    values: np.ndarray = parts[0] + 1j * parts[1]
    return values


@pytest.mark.parametrize("decay", [0.0, 200.0])
def test_shifts_that_follow_noise_raise_scales_and_lower_b_factors(decay: float) -> None:
    """One shift for each pair is fitted to its image, whose real and imaginary parts have noise of 1."""
    k = np.arange(1, 16) / 90
    damping = -(k**2) / 4
    signal = structures(60 / len(k) * np.exp(decay * damping))
    rng = np.random.default_rng(2)
    image = signal + rng.normal(size=signal.shape) + 1j * rng.normal(size=signal.shape)
    slope = -2j * np.pi * k
    shift = np.zeros(PAIRS)
    for _ in range(6):
        there = signal * np.exp(shift[:, None] * slope)
        gradient = np.sum(np.conj(slope * there) * image, axis=1).real
        curvature = np.sum(np.abs(slope * there) ** 2, axis=1)
        shift += np.clip(gradient / curvature, -1.0, 1.0)
    there = signal * np.exp(shift[:, None] * slope)
    residual = np.real(np.conj(there) * (image - there))
    noise_alone = np.real(np.conj(signal) * (image - signal))  # at the truth, zero on average
    found = np.array([np.sum(residual - noise_alone), np.sum((residual - noise_alone) * damping)])
    predicted = Predicted(
        information=np.sum(np.abs(signal) ** 2, axis=0)[None], damping=damping, variance=np.zeros(len(k))
    )
    expected = gradient_by_noise(predicted, np.array([float(PAIRS)]))[0]
    np.testing.assert_allclose(found, expected, rtol=0.12)


def test_images_without_information_follow_nothing() -> None:
    predicted = Predicted(information=np.zeros((2, 4)), damping=-np.arange(4.0), variance=np.zeros(4))
    np.testing.assert_array_equal(gradient_by_noise(predicted, np.zeros(2)), np.zeros((2, 2)))
