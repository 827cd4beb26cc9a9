"""Figures that are stored for reports: agreement by frequency, depth and defocus, and a picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_evidence import align, simulated

from small_project import Stack, make_problem
from tomopolish.errors import RunError
from tomopolish.pipeline.record import by_depth_and_defocus, tilt_picture
from tomopolish.pipeline.shells import _predicted_window, _ring_sums
from tomopolish.results.tomogram import BinnedAgreement
from tomopolish.run.codec import decode, encode

SAMPLES, HALF = 32, 12.0


def waves(frequencies: np.ndarray, amplitudes: np.ndarray, at: np.ndarray, box: int) -> np.ndarray:
    """A window whose log-likelihood, highest at a place, is a sum of waves."""
    offsets = np.arange(SAMPLES) - SAMPLES // 2
    y, x = np.meshgrid(offsets - at[1], offsets - at[0], indexing="ij")
    phases = 2 * np.pi / box * (frequencies[:, 0, None, None] * x + frequencies[:, 1, None, None] * y)
    return np.sum(amplitudes[:, None, None] * np.cos(phases), axis=0)


@pytest.mark.parametrize("at", [(0.0, 0.0), (2.3, -3.7)])
def test_rings_hold_the_waves_of_their_frequencies_about_a_place(at: tuple[float, float]) -> None:
    box, place = 2 * SAMPLES, np.array(at)
    slow, fast = np.array([[3.0, 4.0], [0.0, 6.0]]), np.array([[20.0, 10.0]])
    window = waves(np.concatenate([slow, fast]), np.array([3.0, 2.0, 7.0]), place, box)
    found = _ring_sums(window[None], place[None], HALF)
    assert found.sum() == pytest.approx(12.0, abs=0.01), "all rings together are the value there"
    assert found[:6].sum() == pytest.approx(5.0, abs=0.3)  # rings of the box's frequencies, halved
    assert found[8:].sum() == pytest.approx(7.0, abs=0.3)


def test_a_predicted_window_has_the_power_of_its_shells() -> None:
    _, windows = make_problem(np.random.default_rng(1), tilts=2, particles=2, range_px=12)
    spectrum = np.zeros(40)
    spectrum[4], spectrum[24] = 30.0, 10.0
    window = _predicted_window(spectrum, 64, windows, SAMPLES)
    assert window[SAMPLES // 2, SAMPLES // 2] == pytest.approx(40.0)
    rings = _ring_sums(window[None], np.zeros((1, 2)), HALF)
    assert rings[:6].sum() == pytest.approx(30.0, abs=1.0)
    assert rings[9:15].sum() == pytest.approx(10.0, abs=1.0)


def test_images_without_detail_agree_at_low_frequencies_only() -> None:
    series, particles, references = simulated(3, error=0.2, pair_snr=60.0)
    limit = 0.12
    values = np.stack([series.images.read(tilt) for tilt in range(len(series))])
    radius = np.hypot(np.fft.fftfreq(values.shape[1])[:, None], np.fft.rfftfreq(values.shape[2]))
    rng = np.random.default_rng(5)
    blurred = np.fft.irfft2(np.fft.rfft2(values) * (radius < limit), s=values.shape[1:])
    blurred += values.std() * 0.3 * rng.normal(size=values.shape)
    sharp, soft = (
        align(replace(series, images=Stack(images.astype(np.float32))), particles, references)
        for images in (values, blurred)
    )
    fine, coarse = sharp.record.by_frequency, soft.record.by_frequency
    assert isinstance(fine, BinnedAgreement) and isinstance(coarse, BinnedAgreement)
    evidence = sharp.statistics.evidence
    assert evidence is not None
    sums = fine.log_likelihood.sum(axis=0) / fine.power.sum()
    assert sums == pytest.approx([evidence.agreement_before, evidence.agreement_after], abs=0.04)
    far = coarse.centres * series.pixel_size_angstrom > 1.5 * limit
    near = coarse.centres * series.pixel_size_angstrom < 0.5 * limit
    assert coarse.agreement[near, 1].min() > 0.5
    assert coarse.agreement[far, 1].max() < 0.2
    assert fine.agreement[far[: len(fine.centres)], 1][0] > 0.6, "sharp images agree there"


def test_agreement_by_depth_shows_where_the_defocus_is_wrong() -> None:
    rng = np.random.default_rng(2)
    series, _, _ = simulated(1)
    positions = rng.uniform(0, 1, (200, 3)) * series.tomogram_size_px
    tilts = len(series)
    power = np.full((tilts, 200), 4.0)
    depth = by_depth_and_defocus(series, positions, power > 0, np.stack([0 * power, power]), power)[0]
    assert depth is not None and len(depth.centres) == 16
    assert np.all(np.diff(depth.centres) > 0)
    assert depth.agreement == pytest.approx(np.tile([0.0, 1.0], (16, 1)))
    assert depth.power.sum() == power.sum()
    assert depth.error == pytest.approx(1 / np.sqrt(depth.power))
    few = by_depth_and_defocus(series, positions[:1], power[:, :1] > 0, np.zeros((2, tilts, 1)), power[:, :1])
    assert few == (None, None)


def test_a_picture_shows_the_least_tilted_image_that_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    series, _, _ = simulated(2)
    _, windows = make_problem(np.random.default_rng(1), tilts=len(series), particles=2, range_px=6)
    visible = np.ones((len(series), 2), dtype=bool)
    upright = int(np.argmax(series.projections_px[:, 2, 2]))
    picture = tilt_picture(series, replace(windows, visible=visible))
    assert picture is not None and picture.tilt == upright and picture.bin_px == 1
    assert picture.grey.dtype == np.uint8 and (picture.grey.min(), picture.grey.max()) == (0, 255)
    image = series.images.read(upright)
    assert np.corrcoef(picture.grey.ravel(), image.ravel())[0, 1] > 0.95
    arrays: dict[str, np.ndarray] = {}
    again = decode(encode(picture, arrays), arrays)
    np.testing.assert_array_equal(again.grey, picture.grey)
    visible[upright] = False
    assert tilt_picture(series, replace(windows, visible=visible)).tilt != upright
    large = replace(series, images=Stack(np.random.default_rng(3).normal(size=(len(series), 700, 900))))
    binned = tilt_picture(large, replace(windows, visible=visible))
    assert binned is not None and binned.bin_px == 3 and binned.grey.shape == (233, 300)

    def fail(_: object, tilt: int) -> np.ndarray:
        raise RunError(f"image {tilt} cannot be read")

    monkeypatch.setattr(Stack, "read", fail)
    assert tilt_picture(large, replace(windows, visible=visible)) is None
