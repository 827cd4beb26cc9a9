"""One shift per tilt image from the summed windows: RELION's, and the true maximum."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from relion_runs import bordered, faulty_windows, open_project
from small_project import compute_windows, make_settings, make_windows
from tomopolish import pipeline
from tomopolish.correlation.windows import CorrelationWindows
from tomopolish.geometry import tomogram_centre_px
from tomopolish.progress import SilentProgress
from tomopolish.settings import FitSettings, WindowSettings
from tomopolish.solve.shifts import summed_peaks, summed_windows
from tomopolish.solve.surface import evaluate_surface, smooth_surface

MOVING = {"particles": "relion/motion/particles.star", "trajectories": "relion/motion/motion.star"}
RUNS: dict[str, tuple[dict[str, Any], str, float]] = {
    "shift_by_particles": ({}, "tomograms.star", 1.0),
    "r4_shift_by_particles": ({"optimisation_set": "optimisation_set_r4.star"}, "tomograms_r4.star", 1.0),
    "variant_shift_by_particles": ({"particles": "particles_variant.star"}, "tomograms_variant.star", 1.0),
    "shift_with_trajectories": (MOVING, "relion/motion/tomograms.star", 1.0),
    "pad2": ({}, "tomograms.star", 2.0),
}
SHIFTS = FitSettings(shift_only=True, shift_only_by_particles=True)


def parabola_peaks(windows: CorrelationWindows) -> np.ndarray:
    """RELION's peaks: a parabola through three samples of each axis around the highest one."""
    summed = bordered(windows).sum(axis=1, dtype=np.float64)
    row, column = np.unravel_index(summed.reshape(len(summed), -1).argmax(axis=1), summed.shape[1:])
    tilt = np.arange(len(summed))
    peaks = []
    for dy, dx, index in ((0, 1, column), (1, 0, row)):
        low, here, high = (summed[tilt, row + i * dy, column + i * dx] for i in (-1, 0, 1))
        peaks.append(index + (low - high) / (low - 2 * here + high) / 2 - summed.shape[1] // 2)
    return np.stack(peaks, axis=-1) * windows.step_px


def assert_as_relion(
    root: Path, run: str, box: int, range_px: int, parts: dict[str, Any], tomograms: str, padding: float
) -> None:
    dataset = open_project(root, tomograms=tomograms, **parts)
    result = open_project(root, tomograms=f"relion/{run}/tomograms.star", **parts)
    window_settings = WindowSettings(box_px=box, range_px=range_px, padding=padding)
    settings = make_settings(box, range_px, windows=window_settings)
    for name in dataset.tomogram_names:
        series, particles = dataset.load(name)
        windows = faulty_windows(series, particles, dataset.references(), settings)
        centre = np.append(tomogram_centre_px(series.tomogram_size_px), 1.0)
        moved = result.load(name)[0].projections_px - series.projections_px
        expected = (moved @ centre)[:, :2]
        np.testing.assert_allclose(parabola_peaks(windows), expected, atol=1e-4)
        difference = summed_peaks(windows).shifts_px - expected
        assert np.sqrt(np.mean(difference**2)) < 0.06
        assert np.abs(difference).max() < 0.2


def test_small_data_set(mini: Path) -> None:
    assert_as_relion(mini, "shift_by_particles", 48, 6, *RUNS["shift_by_particles"])


@pytest.mark.parametrize("run", RUNS)
def test_larger_data_set(golden: Path, run: str) -> None:
    assert_as_relion(golden, run, 96, 8, *RUNS[run])


@pytest.mark.parametrize("step_px", [1.0, 0.5])
def test_nothing_near_the_peak_is_higher(step_px: float) -> None:
    windows = make_windows(np.random.default_rng(3), tilts=6, particles=5, range_px=6, step_px=step_px)
    found = summed_peaks(windows)
    peaks, inside = found.shifts_px, ~found.at_the_edge
    assert inside.sum() >= 3
    surface = smooth_surface(summed_windows(windows))
    highest = evaluate_surface(surface, peaks[:, None]).value
    for angle in np.linspace(0, 2 * np.pi, 8, endpoint=False):
        around = peaks + 0.05 * np.array([np.cos(angle), np.sin(angle)])
        assert np.all(evaluate_surface(surface, around[:, None]).value[inside] < highest[inside])


def test_only_the_shifts_move_and_a_blind_tilt_image_keeps_its_projection(mini: Path) -> None:
    dataset = open_project(mini)
    series, particles = dataset.load("TS_01")
    settings = make_settings(48, 6, fit=SHIFTS)
    windows = compute_windows(series, particles, dataset.references(), settings)
    blind = replace(windows, visible=windows.visible & (np.arange(len(series)) != 2)[:, None])
    prepared = pipeline.prepare(dataset.references(), settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.align, "correlation_windows", lambda *_, **__: blind)
        result = pipeline.align_tomogram(series, particles, prepared, settings, SilentProgress())
    found = result.alignment
    np.testing.assert_array_equal(found.positions_px, particles.positions_px)
    np.testing.assert_allclose(found.projections_px[:, :3, :3], series.projections_px[:, :3, :3], atol=1e-12)
    moved = (found.projections_px - series.projections_px)[:, :2, 3]
    np.testing.assert_allclose(moved, summed_peaks(blind).shifts_px, atol=1e-9)
    assert not moved[2].any() and np.abs(np.delete(moved, 2, axis=0)).max() > 1
    assert any("tilt images 3 of TS_01 show no particle" in sentence for sentence in found.warnings)
