"""Predicted micrographs against their definition, and their correlation with images summed by hand."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import spec_windows
from test_windows_by_definition import ABERRATED, BOX, REACH, scene

from small_project import make_settings
from tomopolish.dataset.model import Particles, References, TiltSeries
from tomopolish.imaging.frequencies import tilt_frequencies
from tomopolish.imaging.micrograph import add_prediction, micrograph_weight, micrograph_window
from tomopolish.imaging.windows import TiltTask, pair_geometry, window_samples
from tomopolish.pipeline import prepare
from tomopolish.settings.alignment import WeightSettings


def predict(
    series: TiltSeries, particles: Particles, references: References, tilt: int, threads: int = 1
) -> np.ndarray:
    """The program's predicted micrograph, without weights but the frequencies that take part."""
    settings = make_settings(BOX, REACH, weights=WeightSettings(whiten=False, cutoff_fraction=0))
    prepared = prepare(references, settings)
    weight = (prepared.weight.half_plane > 0).astype(np.float64)
    task = TiltTask(
        image=np.zeros((1, 1), dtype=np.float32),
        tilt=tilt,
        geometry=pair_geometry(series, particles, BOX, np.ones(len(series), dtype=bool)),
        particles=particles,
        frequencies=tilt_frequencies(series, tilt, weight, particles.optics_groups, 0.0),
        reference=prepared.transform,
        displacements_px=np.zeros(0),
    )
    width, height = series.image_size_px
    micrograph = np.zeros((height, width), dtype=np.float32)
    with ThreadPoolExecutor(threads) as pool:
        add_prediction(task, pool, micrograph)
    return micrograph


def predict_by_definition(
    series: TiltSeries, particles: Particles, references: References, tilt: int
) -> np.ndarray:
    """Every particle's prediction, dark, cut out of nothing but added pixel by pixel where the image is."""
    kx, ky = spec_windows.full_plane(BOX)
    used = spec_windows.reference_weight(references, BOX, WeightSettings()) > 0
    used &= np.hypot(kx, ky) <= BOX / 2
    used[0, 0] = False
    spectra = [spec_windows.reference_transform(references, half, BOX) for half in (0, 1)]
    width, height = series.image_size_px
    micrograph = np.zeros((height, width))
    for p in range(len(particles)):
        q = spec_windows.position_2d(series, particles, tilt, p)
        first = np.floor(q + 0.5).astype(int) - BOX // 2
        S = spec_windows.prediction(series, particles, spectra[particles.half_set[p]], tilt, p)
        x, y = q - first
        S = np.where(used, S, 0) * np.exp(-2j * np.pi * (kx * x + ky * y) / BOX)
        box = -np.fft.ifft2(S, norm="ortho").real
        for i in range(BOX):
            for j in range(BOX):
                if 0 <= first[1] + i < height and 0 <= first[0] + j < width:
                    micrograph[first[1] + i, first[0] + j] += box[i, j]
    return micrograph


@pytest.mark.parametrize("seed", [1, 2])
def test_a_micrograph_is_the_sum_of_its_predicted_particles(seed: int) -> None:
    series, particles, references = scene(seed, groups=ABERRATED)
    for tilt in range(len(series)):
        expected = predict_by_definition(series, particles, references, tilt)
        found = predict(series, particles, references, tilt)
        assert np.abs(expected).max() > 0
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_the_number_of_threads_changes_no_bit() -> None:
    series, particles, references = scene(3)
    one, two = (predict(series, particles, references, 1, threads) for threads in (1, 2))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("padding", [1.0, 2.0])
def test_the_window_is_a_sum_over_pixels(padding: float) -> None:
    rng = np.random.default_rng(5)
    image, predicted = (rng.normal(size=(37, 46)).astype(np.float32) for _ in range(2))
    displacements = window_samples(3, padding)
    found = micrograph_window(image, predicted, displacements, threads=1)
    flat = np.pad(image, 10)
    for i, y in enumerate(displacements):
        for j, x in enumerate(displacements):
            if x == round(x) and y == round(y):
                moved = flat[10 + int(y) : 47 + int(y), 10 + int(x) : 56 + int(x)]
                assert found[i, j] == pytest.approx(np.sum(moved * predicted, dtype=np.float64), abs=2e-3)


def test_a_planted_displacement_is_the_highest_sample() -> None:
    series, particles, references = scene(4)
    predicted = predict(series, particles, references, 0)
    image = np.roll(predicted, (-2, 4), axis=(0, 1))
    displacements = window_samples(6, 1.0)
    window = micrograph_window(image, predicted, displacements, threads=1)
    row, column = np.unravel_index(window.argmax(), window.shape)
    assert (displacements[column], displacements[row]) == (4, -2)


def test_weights_follow_their_options() -> None:
    _, _, references = scene(1)
    settings = WeightSettings()
    prepared = prepare(references, make_settings(BOX, REACH))
    rng = np.random.default_rng(1)
    noise = rng.uniform(1, 4, BOX // 2 + 1)

    def weight(**changes: object) -> np.ndarray:
        return micrograph_weight(noise, 2.0, prepared.weight, BOX, replace(settings, **changes))

    plane = weight()
    np.testing.assert_allclose(plane[0, 3], 1 / np.sqrt(noise[3] + 6))
    np.testing.assert_allclose(weight(whiten_abs=True)[0, 3], (noise[3] + 6) ** -0.25)
    np.testing.assert_array_equal(weight(whiten=False), prepared.weight.half_plane > 0)
    np.testing.assert_allclose(weight(hp_sigma=3.0)[0, 3], plane[0, 3] * (1 - np.exp(-0.5)))
    np.testing.assert_allclose(weight(srp=1.0)[0, 3], plane[0, 3] * 3 / (BOX / 2))
    np.testing.assert_allclose(
        weight(use_snr_weight=True)[0, :8], plane[0, :8] * prepared.weight.half_plane[0, :8]
    )
    # in other units of the images nothing changes but a common factor
    scaled = micrograph_weight(100 * noise, 200.0, prepared.weight, BOX, settings)
    np.testing.assert_allclose(scaled, plane / 10)
