"""Every window equals a brute-force evaluation of its definition, whatever the geometry and the options."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import spec_windows

from small_project import (
    compute_windows,
    make_particles,
    make_references,
    make_series,
    make_settings,
    smooth_noise,
)
from tomopolish.dataset.model import OpticsGroup, Particles, References, TiltSeries
from tomopolish.imaging.windows import window_samples
from tomopolish.physics.optics import Microscope
from tomopolish.settings.alignment import AlignSettings, WeightSettings, WindowSettings

BOX, REACH = 32, 5
FALLING_FSC = np.concatenate([np.linspace(1, 0.5, 12), [0.3, 0.16, 0.13, 0.05], np.zeros(9)])
ABERRATED = (
    OpticsGroup(
        name="odd and even",
        even_zernike=(0.3, 9.0, -0.4, 12.0),
        odd_zernike=(4.0, -7.0, 60.0, 0.8),
    ),
    OpticsGroup(name="plain"),
)


def scene(
    seed: int, size: tuple[int, int] = (91, 120), tilts: int = 3, **changes: Any
) -> tuple[TiltSeries, Particles, References]:
    """A few particles in coloured noise, some of them near or beyond the images' edges."""
    rng = np.random.default_rng(seed)
    images = np.stack([3 + smooth_noise(rng, size, 0.6) + rng.normal(size=size) for _ in range(tilts)])
    fsc = changes.pop("fsc", FALLING_FSC)
    groups = changes.pop("groups", None)
    series = make_series(rng, images.astype(np.float32), **changes)
    positions = rng.uniform(-0.5, 0.5, (6, 3)) * [60, 60, 40] + np.array(series.tomogram_size_px) / 2
    positions[0] = [4, 5, 20]
    references = make_references(rng, 24, fsc=fsc)
    return series, make_particles(rng, positions, groups), references


def assert_equal_to_definition(
    series: TiltSeries, particles: Particles, references: References, settings: AlignSettings
) -> None:
    box, weights = settings.windows.box_px, settings.weights
    found = compute_windows(series, particles, references, settings)
    spectra = [spec_windows.reference_transform(references, half, box) for half in (0, 1)]
    planes = spec_windows.frequency_weights(series, references, box, weights)
    displacements = window_samples(settings.windows.range_px, settings.windows.padding)
    w, h = series.image_size_px
    seen = 0
    for f in range(len(series)):
        for p in range(len(particles)):
            q = spec_windows.position_2d(series, particles, f, p)
            visible = box / 2 <= q[0] <= w - box / 2 and box / 2 <= q[1] <= h - box / 2
            assert found.visible[f, p] == visible
            np.testing.assert_allclose(found.anchors_px[f, p], q, atol=1e-9)
            if not visible:
                assert not found.values[f, p].any()
                continue
            seen += 1
            expected, power = spec_windows.window(
                series, particles, spectra, planes[f], (f, p), displacements, weights
            )
            assert np.linalg.norm(found.values[f, p] - expected) < 3e-5 * np.linalg.norm(expected), (f, p)
            assert found.power[f, p] == pytest.approx(power, rel=1e-5)
    assert 0 < seen < len(series) * len(particles)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("hand", [-1.0, 1.0])
def test_random_geometry(seed: int, hand: float) -> None:
    slope = 0.8 if seed % 2 else 1.0
    size = [(91, 120), (120, 91), (101, 77), (128, 128)][seed]
    bfactor = np.array([0.0, 4.0, 0.0]) if seed == 3 else np.zeros(3)
    series, particles, references = scene(
        seed, size, hand=hand, defocus_slope=slope, groups=ABERRATED, bfactor_per_dose=bfactor
    )
    assert_equal_to_definition(series, particles, references, make_settings(BOX, REACH))


OPTIONS = {
    "per_frame_noise": WeightSettings(per_frame_noise=True),
    "no_whiten": WeightSettings(whiten=False),
    "whiten_abs": WeightSettings(whiten_abs=True, per_frame_noise=True),
    "hp": WeightSettings(hp_sigma=3.0),
    "srp": WeightSettings(srp=1.5),
    "use_SNR_weight": WeightSettings(use_snr_weight=True),
    "freq_cutoff": WeightSettings(freq_cutoff_angstrom=14.0),
    "sharp edge": WeightSettings(fsc_thresh_width=0.0),
    "cutoff_fract 0.6": WeightSettings(cutoff_fraction=0.6),
    "cutoff_fract 0": WeightSettings(cutoff_fraction=0.0),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_weight_options(name: str) -> None:
    series, particles, references = scene(11)
    assert_equal_to_definition(
        series, particles, references, make_settings(BOX, REACH, weights=OPTIONS[name])
    )


@pytest.mark.parametrize("snr_weight", [False, True])
def test_without_fsc(snr_weight: bool) -> None:
    series, particles, references = scene(12, fsc=None)
    settings = make_settings(BOX, REACH, weights=WeightSettings(use_snr_weight=snr_weight))
    assert_equal_to_definition(series, particles, references, settings)


def test_references_that_are_good_to_the_last_shell() -> None:
    """Nothing is cut off: the edge of the Fourier plane itself is in use."""
    series, particles, references = scene(13, fsc=np.ones(17), pre_exposure=np.arange(3) * 0.01)
    assert_equal_to_definition(series, particles, references, make_settings(BOX, REACH))


def test_padded_windows_sample_the_same_function_more_finely() -> None:
    series, particles, references = scene(14)
    windows = WindowSettings(box_px=BOX, range_px=REACH, padding=2.0)
    fine = make_settings(BOX, REACH, windows=windows)
    assert_equal_to_definition(series, particles, references, fine)
    coarse = compute_windows(series, particles, references, make_settings(BOX, REACH))
    padded = compute_windows(series, particles, references, fine)
    assert (padded.step_px, padded.range_px) == (0.5, REACH)
    a, b = coarse.origin, padded.origin
    core = coarse.values[..., a - REACH : a + REACH + 1, a - REACH : a + REACH + 1]
    same = padded.values[..., b - 2 * REACH : b + 2 * REACH + 1 : 2, b - 2 * REACH : b + 2 * REACH + 1 : 2]
    np.testing.assert_allclose(same, core, atol=1e-5 * np.abs(core).max())


def test_trajectories_move_the_anchor_but_not_the_depth() -> None:
    series, particles, references = scene(15)
    tracks = np.random.default_rng(1).normal(size=(len(particles), len(series), 3)) * 3
    particles = make_particles(np.random.default_rng(2), particles.positions_px, trajectories_px=tracks)
    assert_equal_to_definition(series, particles, references, make_settings(BOX, REACH))


def test_strong_defocus_and_another_microscope() -> None:
    """Phases of a few hundred radians, where float32 alone would no longer do."""
    scope = Microscope(voltage_kv=120.0, spherical_aberration_mm=2.0, amplitude_contrast=0.07)
    rng = np.random.default_rng(16)
    series, particles, references = scene(16, microscope=scope, pixel_size_angstrom=2.0, fsc=np.ones(17))
    u, v = rng.uniform(60000, 70000, (2, 3))
    series = replace(series, ctf=replace(series.ctf, defocus_u_angstrom=u, defocus_v_angstrom=v))
    assert_equal_to_definition(series, particles, references, make_settings(BOX, REACH))
