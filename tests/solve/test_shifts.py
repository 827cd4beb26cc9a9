"""One shift per tilt image, from summed windows or whole micrographs: RELION's, and planted ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from relion_runs import faulty_windows, open_project
from small_project import Stack, align_one, make_problem, make_settings, make_windows
from tomopolish import pipeline
from tomopolish.dataset.model import Particles, References, TiltSeries, Tomogram
from tomopolish.imaging.windows import CorrelationWindows
from tomopolish.physics.geometry import tomogram_centre_px
from tomopolish.pipeline.shifts import shifts_before_warp
from tomopolish.progress import SilentProgress
from tomopolish.results.tomogram import TomogramResult
from tomopolish.settings.alignment import AlignSettings, FitSettings, WindowSettings
from tomopolish.simulate.parts import (
    AcquisitionSettings,
    MoleculeSettings,
    NoiseSettings,
    PlantedErrors,
    PlantedWarp,
    SimulationSettings,
    SpecimenSettings,
    simulate_tomogram,
)
from tomopolish.simulate.structure import build_structure
from tomopolish.solve.problem import predicted_positions
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
GLOBAL = FitSettings(shift_only=True)


def highest_points(windows: CorrelationWindows) -> np.ndarray:
    """True maxima of splines through the summed windows, by a fine search around the peaks."""
    surface = smooth_surface(summed_windows(windows))
    steps = np.linspace(-0.4, 0.4, 33)
    tries = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 1, 2) + summed_peaks(windows)[0]
    heights = np.stack([evaluate_surface(surface, t[:, None]).value[:, 0] for t in tries])
    return tries[heights.argmax(axis=0), np.arange(heights.shape[1])]


def assert_as_relion(
    root: Path, run: str, box: int, range_px: int, parts: dict[str, Any], tomograms: str, padding: float
) -> None:
    atol = 0.01 if run == "variant_shift_by_particles" else 1e-4
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
        np.testing.assert_allclose(summed_peaks(windows)[0], expected, atol=atol)
        difference = highest_points(windows) - expected
        assert np.sqrt(np.mean(difference**2)) < 0.06
        assert np.abs(difference).max() < 0.2


def test_small_data_set(mini: Path) -> None:
    assert_as_relion(mini, "shift_by_particles", 48, 6, *RUNS["shift_by_particles"])


@pytest.mark.parametrize("run", RUNS)
def test_larger_data_set(golden: Path, run: str) -> None:
    assert_as_relion(golden, run, 96, 8, *RUNS[run])


@pytest.mark.parametrize("step_px", [1.0, 0.5])
def test_peaks_of_paraboloids_are_exact(step_px: float) -> None:
    rng = np.random.default_rng(3)
    windows = make_windows(rng, tilts=6, particles=1, range_px=6, step_px=step_px)
    peaks = rng.uniform(-5, 5, (6, 2))
    axis = (np.arange(windows.values.shape[-1]) - windows.origin) * step_px
    fall = (axis - peaks[:, 1:]) ** 2, (axis - peaks[:, :1]) ** 2
    windows.values[:, 0] = 100 - fall[0][:, :, None] - 2 * fall[1][:, None, :]
    shifts_px, at_the_edge = summed_peaks(replace(windows, visible=np.ones((6, 1), dtype=bool)))
    np.testing.assert_allclose(shifts_px, peaks, atol=1e-4)
    assert not at_the_edge.any()


def test_a_peak_beyond_the_range_is_said_to_be_at_its_end() -> None:
    windows = make_windows(np.random.default_rng(3), tilts=2, particles=1, range_px=6)
    windows.values[:] = np.arange(windows.values.shape[-1])  # ever higher to the right
    windows.values[1] = 0
    shifts_px, at_the_edge = summed_peaks(replace(windows, visible=np.ones((2, 1), dtype=bool)))
    assert list(at_the_edge) == [True, False]
    assert 5 <= shifts_px[0, 0] <= 6
    np.testing.assert_array_equal(shifts_px[1], 0)  # a window that says nothing moves nothing


def moved_px(before: TiltSeries, projections_px: np.ndarray) -> np.ndarray:
    """How far the projections of the tomogram's centre moved."""
    centre = np.append(tomogram_centre_px(before.tomogram_size_px), 1.0)
    return ((projections_px - before.projections_px) @ centre)[:, :2]


def align(
    series: TiltSeries, particles: Particles, references: References, settings: AlignSettings
) -> TomogramResult:
    prepared = pipeline.prepare(references, settings)
    return align_one(series, particles, prepared, settings)


def test_micrographs_of_the_larger_data_set(golden: Path) -> None:
    """All tilt images within 0.05 px of RELION's; 0.021 px when written."""
    dataset = open_project(golden)
    result = open_project(golden, tomograms="relion/shift_global/tomograms.star")
    settings = make_settings(96, 8, fit=GLOBAL)
    for name in dataset.tomogram_names:
        series, particles = dataset.load(name)
        found = align(series, particles, dataset.references(), settings).alignment
        expected = moved_px(series, result.load(name)[0].projections_px)
        difference = moved_px(series, found.projections_px) - expected
        assert np.abs(difference).max() < 0.05
        assert np.sqrt(np.mean(difference**2)) < 0.01


@pytest.mark.parametrize("fit", [SHIFTS, GLOBAL], ids=["by particles", "micrographs"])
def test_only_the_shifts_move_and_a_blind_tilt_image_keeps_its_projection(
    mini: Path, fit: FitSettings
) -> None:
    dataset = open_project(mini)
    series, particles = dataset.load("TS_01")
    away = series.projections_px.copy()
    away[2, :2, 3] += 1000  # what this tilt image shows is elsewhere
    series = replace(series, projections_px=away)
    limits = WindowSettings(box_px=48, range_px=6, max_frame=len(series) - 2)
    last = series.chronological[-1]
    assert last != 2
    settings = make_settings(48, 6, fit=fit, windows=limits)
    found = align(series, particles, dataset.references(), settings).alignment
    np.testing.assert_array_equal(found.positions_px, particles.positions_px)
    np.testing.assert_allclose(found.projections_px[:, :3, :3], series.projections_px[:, :3, :3], atol=1e-12)
    moved = moved_px(series, found.projections_px)
    assert not moved[[2, last]].any()
    assert np.abs(np.delete(moved, [2, last], axis=0)).max(axis=1).min() > 0.01
    assert np.abs(moved).max() <= 6.5
    assert any("tilt images 3 of TS_01 show no particle" in sentence for sentence in found.warnings)


SIMULATION = SimulationSettings(
    seed=4,
    molecule=MoleculeSettings(box_px=48, blobs=120),
    acquisition=AcquisitionSettings(
        image_size_px=(201, 173), tilt_step_degrees=15.0, pixel_size_angstrom=4.0
    ),
    specimen=SpecimenSettings(particles=10, thickness_angstrom=300.0, tomogram_size_px=(203, 175, 101)),
    errors=PlantedErrors(shift_px=2.0, angle_degrees=0.0, position_px=0.0),
    noise=NoiseSettings(pair_snr=100.0),
)


@pytest.mark.parametrize("warped", [False, True], ids=["straight", "warped"])
@pytest.mark.parametrize("fit", [SHIFTS, GLOBAL], ids=["by particles", "micrographs"])
def test_planted_shifts_are_found(fit: FitSettings, warped: bool) -> None:
    """Images of odd size; a warp that was planted is one that the input knows."""
    warp = PlantedWarp(amplitude_px=3.0) if warped else None
    settings = replace(SIMULATION, warp=warp)
    structure = build_structure(settings)
    made = simulate_tomogram(settings, 0, structure)
    series = replace(made.series, deformation=made.truth.deformation)
    found = align(series, made.particles, structure.references, make_settings(48, 8, fit=fit)).alignment
    planted = moved_px(series, made.truth.projections_px)
    rest = moved_px(series, found.projections_px) - planted
    assert np.sqrt(np.mean(planted**2)) > 1.5
    assert np.sqrt(np.mean(rest**2)) < 0.15
    assert np.abs(rest).max() < 0.3


def test_brightness_and_contrast_of_the_images_move_nothing(mini: Path) -> None:
    dataset = open_project(mini)
    series, particles = dataset.load("TS_01")
    settings = make_settings(48, 6, fit=GLOBAL)
    images = np.stack([series.images.read(tilt) for tilt in range(len(series))])
    other = replace(series, images=Stack(30 * images + 500))
    found, expected = (
        align(s, particles, dataset.references(), settings).alignment.projections_px for s in (other, series)
    )
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_shifts_beyond_the_range_draw_a_warning() -> None:
    structure = build_structure(SIMULATION)
    made = simulate_tomogram(SIMULATION, 0, structure)
    settings = make_settings(48, 2, fit=GLOBAL)
    found = align(made.series, made.particles, structure.references, settings).alignment
    assert any("increase --r" in sentence for sentence in found.warnings)
    assert np.abs(moved_px(made.series, found.projections_px)).max() <= 2.5


def test_shifts_before_a_warp_move_the_particles_as_measured() -> None:
    rng = np.random.default_rng(8)
    problem, windows = make_problem(rng, input_warp=True)
    wanted = rng.normal(size=(problem.layout.tilts, 2)) * 4
    shifts = shifts_before_warp(problem, wanted)
    assert np.abs(shifts - wanted).max() > 0.01
    start, moved = (problem.layout.unpack(np.zeros(problem.layout.size)) for _ in range(2))
    moved.shifts_px[...] = shifts
    change = predicted_positions(problem, moved) - predicted_positions(problem, start)
    for tilt, seen in enumerate(windows.visible):
        np.testing.assert_allclose(change[tilt, seen].mean(axis=0), wanted[tilt], atol=1e-8)
    straight, _ = make_problem(rng)
    np.testing.assert_array_equal(shifts_before_warp(straight, wanted), wanted)


def test_several_species_make_one_micrograph(mini: Path) -> None:
    """A species split into two is the same prediction, but for the order of sums."""
    dataset = open_project(mini)
    series, particles = dataset.load("TS_01")
    settings = make_settings(48, 6, fit=GLOBAL)
    prepared = pipeline.prepare(dataset.references(), settings)
    parts = [np.arange(len(particles)) % 2 == i for i in (0, 1)]
    species = [
        replace(
            particles,
            rows=particles.rows[part],
            names=tuple(np.array(particles.names)[part]),
            positions_px=particles.positions_px[part],
            rotations=particles.rotations[part],
            half_set=particles.half_set[part],
            optics_group=particles.optics_group[part],
        )
        for part in parts
    ]
    tomogram = Tomogram(series=series, species=tuple(species))
    split = pipeline.align_tomogram(tomogram, [prepared] * 2, settings, SilentProgress()).alignments[0]
    whole = align(series, particles, dataset.references(), settings).alignment
    np.testing.assert_allclose(split.projections_px, whole.projections_px, atol=1e-3)
