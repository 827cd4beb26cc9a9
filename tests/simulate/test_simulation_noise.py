"""Noise, half maps, mask and FSC."""

from __future__ import annotations

import numpy as np
import pytest
from simulation_cases import varied

from tomopolish.imaging.fsc import shell_correlation
from tomopolish.simulate.noise import noise_image, noise_power
from tomopolish.simulate.parts import (
    SimulationSettings,
    build_structure,
    simulate_tilt_series,
    simulate_tomogram,
)
from tomopolish.simulate.references import molecule_mask


@pytest.mark.parametrize("excess", [0.0, 30.0])
def test_noise_has_the_power_asked_for(small: SimulationSettings, excess: float) -> None:
    settings = varied(small, "noise", sigma=2.0, low_frequency_excess=excess, corner_px=10.0, tilt_growth=1.0)
    w, h = settings.acquisition.image_size_px
    rng = np.random.default_rng(0)
    power = np.mean(
        [np.abs(np.fft.rfft2(noise_image(settings, 60.0, rng), norm="ortho")) ** 2 for _ in range(12)], axis=0
    )
    k = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.rfftfreq(w)[None, :])
    for low in (0.03, 0.06, 0.1, 0.2, 0.35):
        shell = (k >= low) & (k < 1.3 * low)
        expected = 4.0 * 2.0 * (1 + excess / (1 + (k[shell] * 10) ** 2))
        np.testing.assert_allclose(noise_power(settings, k[shell], 60.0), expected)
        assert power[shell].mean() == pytest.approx(expected.mean(), rel=0.1)


def test_images_without_noise_are_the_predictions(small: SimulationSettings) -> None:
    series, *_ = simulate_tilt_series(varied(small, "noise", pair_snr=float("inf")))
    painter = simulate_tomogram(small).images.painter
    # The default signal-to-noise ratio scales the map in both.
    np.testing.assert_array_equal(series.images.read(3), painter.paint(3))


def test_images_in_memory_do_not_depend_on_threads_or_order(small: SimulationSettings) -> None:
    serial, *_ = simulate_tilt_series(small)
    threaded, *_ = simulate_tilt_series(small, threads=3)
    on_demand = simulate_tomogram(small).images
    for tilt in (10, 2, 5):
        np.testing.assert_array_equal(serial.images.read(tilt), threaded.images.read(tilt))
        np.testing.assert_array_equal(serial.images.read(tilt), on_demand.read(tilt))
    assert serial.images.size_px == on_demand.size_px == (201, 173)
    assert not np.array_equal(serial.images.read(0), serial.images.read(1))


@pytest.mark.parametrize("resolution_px", [3.0, 5.0])
def test_fsc_falls_at_the_resolution_asked_for(small: SimulationSettings, resolution_px: float) -> None:
    structure = build_structure(varied(small, "molecule", box_px=64, resolution_px=resolution_px))
    references = structure.references
    assert references.fsc is not None and references.mask is not None
    shell = int(np.argmax(references.fsc < 1 / 7))
    assert 64 / shell == pytest.approx(resolution_px, rel=0.12)
    assert references.fsc[1] > 0.95
    masked = references.half_maps * references.mask
    np.testing.assert_allclose(shell_correlation(masked, None).unmasked, references.fsc, atol=1e-6)


def test_half_maps_are_the_truth_with_independent_noise(small: SimulationSettings) -> None:
    structure = build_structure(small)
    noise = structure.references.half_maps - structure.density
    correlation = np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]
    assert abs(correlation) < 0.05
    assert np.std(noise) > 0
    pair = np.stack([structure.references.half_maps[0], structure.density])
    low = shell_correlation(pair, None).unmasked[1:4]
    assert np.all(low > 0.8)


@pytest.mark.parametrize("shape", ["molecule", "sphere"])
def test_mask_holds_the_molecule_and_is_soft(small: SimulationSettings, shape: str) -> None:
    density = build_structure(small).density
    mask = molecule_mask(density, shape)
    assert mask.min() == 0 and mask.max() == 1
    assert np.sum(mask * density) > 0.98 * np.sum(density)
    border = [np.take(mask, i, axis=axis) for i in (0, -1) for axis in range(3)]
    assert np.max(border) == 0
    assert np.abs(np.diff(mask, axis=0)).max() < 0.4
    assert 0.02 < mask.mean() < 0.5


def test_signal_scales_with_the_noise(small: SimulationSettings) -> None:
    one = build_structure(varied(small, "noise", pair_snr=10.0)).density
    louder = build_structure(varied(small, "noise", pair_snr=40.0, sigma=3.0)).density
    np.testing.assert_allclose(louder, 6 * one, rtol=1e-4)
