"""Whole tomograms, from images to refined geometry: better than RELION, and what options keep."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from relion_runs import (
    Solved,
    open_project,
    open_result,
    positions_2d,
    rms_error_angstrom,
    solve_windows,
)
from small_project import align_one, compute_windows, errors_of, make_settings
from tomopolish import pipeline
from tomopolish.dataset.model import Particles, TiltSeries
from tomopolish.dataset.project import Dataset
from tomopolish.physics.geometry import (
    mean_rotation,
    relion5_parameters,
    relion5_projections,
    rotation_vector,
    tomogram_centre_px,
)
from tomopolish.results.tomogram import TomogramResult
from tomopolish.settings.alignment import AlignSettings, FitSettings, RunSettings, WindowSettings
from tomopolish.simulate.evaluate import geometry_of
from tomopolish.simulate.geometry_errors import geometry_errors
from tomopolish.simulate.parts import read_truth
from tomopolish.solve.surface import evaluate_surface, smooth_surface

SETTINGS = make_settings(48, 6)


def align(
    dataset: Dataset, series: TiltSeries, particles: Particles, settings: AlignSettings = SETTINGS
) -> TomogramResult:
    prepared = pipeline.prepare(dataset.references(), settings)
    return align_one(series, particles, prepared, settings)


def refined_2d(result: TomogramResult) -> np.ndarray:
    return positions_2d(result.alignment.projections_px, result.alignment.positions_px)


def assert_better_than_relion(root: Path, box: int, reach: int, published_error: float) -> None:
    """Higher objective on the same windows, fewer steps, lower error, in every tomogram."""
    dataset, settings = open_project(root), make_settings(box, reach)
    references, truths = dataset.references(), read_truth(root / "truth.json")
    relion_errors2 = []
    for name in dataset.tomogram_names:
        series, particles = dataset.load(name)
        ours = solve_windows(root, dataset, name, None, settings)
        relion_series, relion_particles = open_result(root, "static").load(name)
        theirs = positions_2d(relion_series.projections_px, relion_particles.positions_px)
        windows = compute_windows(series, particles, references, settings)
        surface = smooth_surface(windows)

        def log_likelihood(q: np.ndarray, surface: Any = surface, windows: Any = windows) -> float:
            return float(evaluate_surface(surface, q - windows.anchors_px).value.sum())

        start = positions_2d(series.projections_px, particles.positions_px)
        gain = log_likelihood(refined_2d(ours.result)) - log_likelihood(start)
        assert gain >= log_likelihood(theirs) - log_likelihood(start)
        statistics = ours.result.statistics
        assert statistics.log_likelihood_gain == pytest.approx(gain, rel=1e-5)
        assert statistics.evaluations <= 60 and not statistics.warnings
        assert statistics.visible_pairs == windows.visible.sum()
        their_error = rms_error_angstrom(root, series, box, theirs)
        assert ours.error_angstrom < their_error
        truth = truths[name]
        before = geometry_errors(truth, geometry_of(truth, series, particles))
        after = errors_of(truth, ours.result.alignment, particles)
        assert after.net_rotation_degrees < 1.2 * before.net_rotation_degrees
        assert after.rms_view_degrees < 0.5 * before.rms_view_degrees
        relion_errors2.append(their_error**2)
    assert np.sqrt(np.mean(relion_errors2)) == pytest.approx(published_error, abs=3e-3)


def test_better_than_relion_on_the_small_data_set(mini: Path) -> None:
    assert_better_than_relion(mini, 48, 6, 0.478)


def test_better_than_relion_on_the_larger_data_set(golden: Path) -> None:
    assert_better_than_relion(golden, 96, 8, 0.405)


@pytest.fixture(scope="module")
def reference_result() -> Solved:
    """The small data set, refined with default options."""
    root = Path(__file__).parents[1] / "reference" / "relion"
    return solve_windows(root, open_project(root), "TS_01", None, SETTINGS)


def test_statistics_are_those_of_the_geometry(mini: Path, reference_result: Solved) -> None:
    series, particles = open_project(mini).load("TS_01")
    result, px = reference_result.result, series.pixel_size_angstrom
    statistics, alignment = result.statistics, result.alignment
    moved = (alignment.positions_px - particles.positions_px) * px
    assert statistics.rms_position_angstrom == pytest.approx(np.sqrt(np.mean(np.sum(moved**2, axis=1))))
    before, after = series.projections_px, alignment.projections_px
    centre = [*tomogram_centre_px(series.tomogram_size_px), 1.0]
    shift = ((after - before) @ centre)[:, :2] * px
    assert statistics.rms_shift_angstrom == pytest.approx(np.sqrt(np.mean(np.sum(shift**2, axis=1))))
    cosine = (np.einsum("fij,fij->f", before[:, :3, :3], after[:, :3, :3]) - 1) / 2
    angles = np.rad2deg(np.arccos(cosine))
    assert statistics.rms_angle_degrees == pytest.approx(np.sqrt(np.mean(angles**2)), rel=1e-6)
    assert statistics.particles == 6 and set(statistics.seconds_by_stage) >= {"noise", "correlation"}
    R = after[:, :3, :3]
    np.testing.assert_allclose(R @ np.swapaxes(R, 1, 2), np.broadcast_to(np.eye(3), R.shape), atol=1e-12)


def test_the_number_of_threads_does_not_matter(mini: Path, reference_result: Solved) -> None:
    dataset = open_project(mini)
    two = make_settings(48, 6, run=RunSettings(output_folder=Path("nowhere"), threads=2))
    found, expected = align(dataset, *dataset.load("TS_01"), two), reference_result.result
    moved = found.alignment.positions_px - expected.alignment.positions_px
    assert np.abs(moved).max() * 4.0 < 1e-3
    assert np.abs(refined_2d(found) - refined_2d(expected)).max() * 4.0 < 1e-3


CONSTANT = {
    "const_p": FitSettings(const_positions=True),
    "const_a": FitSettings(const_angles=True),
    "const_s": FitSettings(const_shifts=True),
    "const_p const_a": FitSettings(const_positions=True, const_angles=True),
    "const_a const_s": FitSettings(const_angles=True, const_shifts=True),
}


@pytest.mark.parametrize("name", CONSTANT)
def test_constant_parameters_keep_their_input_values(mini: Path, name: str) -> None:
    dataset, fit = open_project(mini), CONSTANT[name]
    series, particles = dataset.load("TS_01")
    result = align(dataset, series, particles, make_settings(48, 6, fit=fit))
    before, after = series.projections_px, result.alignment.projections_px
    centre = [*tomogram_centre_px(series.tomogram_size_px), 1.0]
    kept = {
        "positions": np.abs(result.alignment.positions_px - particles.positions_px).max(),
        "angles": np.abs(after[:, :3, :3] - before[:, :3, :3]).max(),
        "shifts": np.abs(((after - before) @ centre)[:, :2]).max(),
    }
    constant = {"positions": fit.const_positions, "angles": fit.const_angles, "shifts": fit.const_shifts}
    for part, change in kept.items():
        assert (change < 1e-9) if constant[part] else (change > 1e-3), part
    assert result.statistics.log_likelihood_gain > 0


@pytest.mark.parametrize("frames", [(2, None), (0, 8), (3, 7)])
def test_tilt_images_outside_the_chosen_frames_take_no_part(
    mini: Path, frames: tuple[int, int | None]
) -> None:
    dataset = open_project(mini)
    series, particles = dataset.load("TS_01")
    first, last = frames
    windows = WindowSettings(box_px=48, range_px=6, min_frame=first, max_frame=last)
    result = align(dataset, series, particles, make_settings(48, 6, windows=windows))
    chosen = series.chronological[first : None if last is None else last + 1]
    others = np.setdiff1d(np.arange(len(series)), chosen)
    assert result.statistics.visible_pairs == len(chosen) * len(particles)
    change = np.abs(result.alignment.projections_px - series.projections_px).max(axis=(1, 2))
    assert not change[others].any() and (change[chosen] > 1e-3).all()
    # excluded on purpose: nothing to warn of
    assert not result.statistics.warnings


def test_a_tilt_image_without_visible_particle_keeps_its_projection(
    mini: Path, reference_result: Solved
) -> None:
    dataset = open_project(mini)
    series, particles = dataset.load("TS_01")
    M = series.projections_px.copy()
    M[9, 0, 3] += 150
    series = replace(series, projections_px=M)
    result = align(dataset, series, particles)
    assert result.statistics.visible_pairs == 10 * len(particles)
    np.testing.assert_array_equal(result.alignment.projections_px[9], M[9])
    (warning,) = result.statistics.warnings
    assert re.search(r"\b10\b.*TS_01", warning) and result.alignment.warnings == (warning,)
    others = np.arange(len(series)) != 9
    difference = (refined_2d(result) - refined_2d(reference_result.result))[others] * 4.0
    assert np.sqrt(np.mean(np.sum(difference**2, axis=-1))) < 0.3


def hidden(windows: Any, pairs: tuple[Any, Any]) -> Any:
    visible, values = windows.visible.copy(), windows.values.copy()
    visible[pairs] = False
    values[~visible] = 0
    return replace(windows, visible=visible, values=values)


def test_a_particle_seen_in_no_tilt_image_keeps_its_position(mini: Path) -> None:
    dataset = open_project(mini)
    series, particles = dataset.load("TS_01")
    windows = compute_windows(series, particles, dataset.references(), SETTINGS)
    solved = solve_windows(mini, dataset, "TS_01", hidden(windows, (slice(None), 2)), SETTINGS)
    np.testing.assert_array_equal(solved.result.alignment.positions_px[2], particles.positions_px[2])


def test_a_particle_seen_in_one_tilt_image_stays_near_its_input_along_the_beam(mini: Path) -> None:
    dataset = open_project(mini)
    series, particles = dataset.load("TS_01")
    windows = compute_windows(series, particles, dataset.references(), SETTINGS)
    tilt = 4
    once = hidden(windows, (np.delete(np.arange(len(series)), tilt), 2))
    moved = solve_windows(mini, dataset, "TS_01", once, SETTINGS).result.alignment.positions_px
    along = series.projections_px[tilt, :3, :3] @ (moved[2] - particles.positions_px[2])
    assert abs(along[2]) < 1.0
    assert np.linalg.norm(moved - particles.positions_px, axis=1).max() < 6


@pytest.mark.parametrize("fit", [FitSettings(), FitSettings(const_shifts=True)], ids=["", "const_s"])
def test_few_particles_do_not_turn_the_views(mini: Path, fit: FitSettings) -> None:
    """Their positions suggest some rotation, which is noise."""
    dataset = open_project(mini)
    series, particles = dataset.load("TS_01")
    result = align(dataset, series, particles, replace(SETTINGS, fit=fit))
    before, after = (m[:, :3, :3] for m in (series.projections_px, result.alignment.projections_px))
    turns = np.swapaxes(before, 1, 2) @ after
    assert np.rad2deg(np.linalg.norm(rotation_vector(mean_rotation(turns)))) < 0.03
    assert np.rad2deg(np.sqrt(np.mean(rotation_vector(turns) ** 2))) > 0.1
    if fit.const_shifts:
        centre = np.append(tomogram_centre_px(series.tomogram_size_px), 1)
        moved = (result.alignment.projections_px - series.projections_px) @ centre
        np.testing.assert_allclose(moved, 0, atol=1e-9)


def test_refined_projections_can_be_written_as_relion_writes_them(
    mini: Path, reference_result: Solved
) -> None:
    """Angles and shifts hold everything that decides where a particle is seen."""
    series, _ = open_project(mini).load("TS_01")
    M = reference_result.result.alignment.projections_px
    sizes = series.image_size_px, series.tomogram_size_px
    rebuilt = relion5_projections(*relion5_parameters(M, *sizes), *sizes)
    np.testing.assert_allclose(rebuilt[:, :2], M[:, :2], atol=1e-9)
