"""Properties of windows of any image: translation, sub-pixel anchors, threads, chunks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from small_project import (
    Stack,
    compute_windows,
    make_particles,
    make_references,
    make_series,
    make_settings,
    smooth_noise,
)
from tomopolish.dataset.model import Particles, TiltSeries
from tomopolish.imaging import windows as windows_module
from tomopolish.imaging.frequencies import tilt_frequencies
from tomopolish.imaging.held_out import empty_windows
from tomopolish.imaging.windows import TiltTask, correlate_tilt, pair_geometry, window_samples
from tomopolish.physics.optics import TiltCtf
from tomopolish.pipeline import prepare
from tomopolish.settings.alignment import WeightSettings

BOX, REACH = 32, 5
RNG = np.random.default_rng(5)
FSC = np.concatenate([np.linspace(1, 0.5, 9), np.zeros(8)])
REFERENCES = make_references(RNG, BOX, fsc=FSC)
SETTINGS = make_settings(BOX, REACH, weights=WeightSettings(whiten=False, cutoff_fraction=0.0))
PREPARED = prepare(REFERENCES, SETTINGS)
NOISE = smooth_noise(RNG, (1, 128, 140), 0.7).astype(np.float32)
SERIES = make_series(RNG, NOISE)
PARTICLES = make_particles(RNG, RNG.uniform(-12, 12, (3, 3)) + np.array(SERIES.tomogram_size_px) / 2)
SAMPLES = window_samples(REACH, 1.0)


def moved(series: TiltSeries, shift: tuple[float, float], image: np.ndarray | None = None) -> TiltSeries:
    """The series with its projections shifted in the image, on another image on request."""
    M = series.projections_px.copy()
    M[:, :2, 3] += shift
    return replace(series, projections_px=M, images=series.images if image is None else Stack(image[None]))


def first_image(
    series: TiltSeries, displacements_px: np.ndarray = SAMPLES, particles: Particles = PARTICLES
) -> TiltTask:
    """The first tilt image, all particles, at displacements of choice."""
    return TiltTask(
        image=series.images.read(0),
        tilt=0,
        geometry=pair_geometry(series, particles, BOX, np.ones(len(series), dtype=bool)),
        particles=particles,
        frequencies=tilt_frequencies(series, 0, PREPARED.weight.half_plane, particles.optics_groups, 0.0),
        reference=PREPARED.transform,
        displacements_px=displacements_px,
    )


def windows(series: TiltSeries, displacements_px: np.ndarray = SAMPLES) -> np.ndarray:
    """Windows of the first tilt image, all particles, at displacements of choice."""
    task = first_image(series, displacements_px)
    assert task.geometry.visible.all()
    values = np.zeros((len(PARTICLES), len(displacements_px), len(displacements_px)), dtype=np.float32)
    with ThreadPoolExecutor(1) as pool:
        correlate_tilt(task, pool, values, np.zeros(len(PARTICLES)))
    return values


BASE = windows(SERIES)
SCALE = np.abs(BASE).max()
whole = st.integers(-9, 9)


def test_held_out_pairs_have_the_windows_of_the_other_half_map() -> None:
    other = replace(PARTICLES, half_set=1 - PARTICLES.half_set)
    usual, expected = np.zeros_like(BASE), np.zeros_like(BASE)
    power, expected_power = np.zeros(len(BASE)), np.zeros(len(BASE))
    held = empty_windows(0, np.array([0, 2]), len(SAMPLES))
    with ThreadPoolExecutor(1) as pool:
        correlate_tilt(first_image(SERIES), pool, usual, power, held)
        correlate_tilt(first_image(SERIES, particles=other), pool, expected, expected_power)
    np.testing.assert_array_equal(usual, BASE)
    np.testing.assert_allclose(held.values, expected[[0, 2]], atol=1e-6 * SCALE)
    np.testing.assert_allclose(held.power, expected_power[[0, 2]], rtol=1e-6)
    assert np.abs(held.values - BASE[[0, 2]]).max() > 0.01 * SCALE


@given(x=whole, y=whole)
def test_image_and_anchor_moved_together_change_nothing(x: int, y: int) -> None:
    image = np.roll(NOISE[0], (y, x), axis=(0, 1))
    np.testing.assert_allclose(windows(moved(SERIES, (float(x), float(y)), image)), BASE, atol=1e-5 * SCALE)


small = st.floats(-0.45, 0.45)


@given(start=st.tuples(small, small), tenths=st.integers(-4, 4))
def test_moving_the_anchor_within_its_pixel_evaluates_the_same_function_elsewhere(
    start: tuple[float, float], tenths: int
) -> None:
    step, tenths_px = tenths / 10, window_samples(REACH + 5, 10.0)
    series = moved(SERIES, start)
    anchors = pair_geometry(series, PARTICLES, BOX, np.ones(1, dtype=bool)).anchors_px
    same_pixel = (np.floor(anchors + 0.5) == np.floor(anchors + step + 0.5)).all(axis=-1)[0]
    there = windows(moved(series, (step, step)))
    chosen = len(tenths_px) // 2 + np.round(10 * SAMPLES).astype(int) + tenths
    np.testing.assert_allclose(tenths_px[chosen], SAMPLES + step)
    expected = windows(series, tenths_px)[:, chosen[:, None], chosen]
    np.testing.assert_allclose(there[same_pixel], expected[same_pixel], atol=2e-5 * SCALE)


@given(x=st.integers(-4, 4), y=st.integers(-4, 4))
def test_moving_the_anchor_shifts_the_window_against_it(x: int, y: int) -> None:
    """An image that is empty but for a dot: the box's soft edge and background touch nothing."""
    dot = np.zeros_like(NOISE[0])
    q = pair_geometry(SERIES, PARTICLES, BOX, np.ones(1, dtype=bool)).anchors_px[0, 1]
    column, row = np.floor(q + 0.5).astype(int)
    dot[row - 1 : row + 2, column - 1 : column + 2] = [[1, 2, 1], [2, 5, 0], [1, 2, 1]]
    before = windows(moved(SERIES, (0.0, 0.0), dot))[1]
    after = windows(moved(SERIES, (float(x), float(y)), dot))[1]
    n = len(SAMPLES)
    inside_y, inside_x = slice(max(0, -y), n - max(0, y)), slice(max(0, -x), n - max(0, x))
    shifted_y, shifted_x = slice(max(0, y), n - max(0, -y)), slice(max(0, x), n - max(0, -x))
    np.testing.assert_allclose(
        after[inside_y, inside_x], before[shifted_y, shifted_x], atol=1e-5 * np.abs(before).max()
    )


def test_an_image_of_the_prediction_itself_peaks_at_the_planted_displacement() -> None:
    """A map projected, dimmed and shifted by hand is found where it was put: the sign of everything."""
    rng = np.random.default_rng(9)
    identity = np.eye(4)[None]
    plain = TiltCtf(
        defocus_u_angstrom=np.array([25000.0]),
        defocus_v_angstrom=np.array([25000.0]),
        defocus_angle_degrees=np.zeros(1),
        phase_shift_degrees=np.zeros(1),
        bfactor_angstrom2=np.zeros(1),
        scale=np.ones(1),
    )
    particles = make_particles(rng, np.array([[40.0, 40.0, 20.5]]))
    particles = replace(particles, rotations=np.eye(3)[None])
    projected = np.zeros((80, 80))
    offset = (3, -2)
    y, x = 40 + offset[1] - BOX // 2, 40 + offset[0] - BOX // 2
    projected[y : y + BOX, x : x + BOX] = REFERENCES.half_maps[0].sum(axis=0)
    k = np.hypot(np.fft.fftfreq(80)[:, None], np.fft.fftfreq(80)[None, :]) / 3.0
    wavelength = 0.0196875
    gamma = -np.pi * wavelength * 25000 * k**2 + np.pi / 2 * 2.7e7 * wavelength**3 * k**4 - np.arcsin(0.1)
    # protein is dark: minus the projected density, convolved with CTF = −sin γ
    image = np.fft.ifft2(np.fft.fft2(-projected) * -np.sin(gamma)).real
    series = make_series(
        rng,
        image[None].astype(np.float32),
        projections_px=identity,
        tomogram_size_px=(80, 80, 41),
        pre_exposure=np.zeros(1),
        ctf=plain,
    )
    found = compute_windows(series, particles, REFERENCES, SETTINGS).values[0, 0]
    iy, ix = np.unravel_index(np.argmax(found), found.shape)
    assert (SAMPLES[ix], SAMPLES[iy]) == offset


@pytest.fixture(scope="module")
def crowd() -> tuple[TiltSeries, object]:
    rng = np.random.default_rng(8)
    series = make_series(rng, smooth_noise(rng, (5, 128, 128), 0.7).astype(np.float32))
    centre = np.array(series.tomogram_size_px) / 2
    return series, make_particles(rng, rng.uniform(-40, 40, (37, 3)) + centre)


def test_the_number_of_threads_changes_no_bit(crowd, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(windows_module, "CHUNK_BYTES", 4 * BOX**2 * 5)
    one, two, three = (compute_windows(*crowd, REFERENCES, SETTINGS, threads) for threads in (1, 2, 3))
    assert one.visible.sum() > 20
    np.testing.assert_array_equal(one.values, two.values)
    np.testing.assert_array_equal(one.values, three.values)
    np.testing.assert_array_equal(one.power, three.power)
    assert one.held_out is not None and two.held_out is not None and len(one.held_out) > 5
    np.testing.assert_array_equal(one.held_out.values, two.held_out.values)


def test_the_size_of_chunks_does_not_matter(crowd, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    whole = compute_windows(*crowd, REFERENCES, SETTINGS)
    for boxes in (1, 7):
        monkeypatch.setattr(windows_module, "CHUNK_BYTES", 4 * BOX**2 * boxes)
        parts = compute_windows(*crowd, REFERENCES, SETTINGS)
        np.testing.assert_allclose(parts.values, whole.values, atol=2e-6 * np.abs(whole.values).max())
        np.testing.assert_allclose(parts.power, whole.power, rtol=1e-6)
        assert parts.held_out is not None and whole.held_out is not None
        scale = np.abs(whole.held_out.values).max()
        np.testing.assert_allclose(parts.held_out.values, whole.held_out.values, atol=2e-6 * scale)
        np.testing.assert_allclose(parts.held_out.power, whole.held_out.power, rtol=1e-6)
