"""Planted geometry: what is true, what the input believes, and how they differ."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from simulation_cases import varied

from tomopolish.errors import InputError
from tomopolish.physics.geometry import project, project_trajectories, rotation_vector
from tomopolish.simulate.acquisition import exposure_order, tilt_angles_degrees
from tomopolish.simulate.motion import random_trajectories
from tomopolish.simulate.parts import (
    AcquisitionSettings,
    PlantedErrors,
    PlantedMotion,
    PlantedWarp,
    SimulationSettings,
    simulate_tomogram,
    with_true_geometry,
)
from tomopolish.simulate.scene import build_scene
from tomopolish.simulate.specimen import random_rotations
from tomopolish.simulate.warp import warp_displacement_px


def _distances(settings: SimulationSettings) -> tuple[np.ndarray, np.ndarray]:
    """Distance of every pair's true from its believed 2D position; whether it is visible."""
    tomogram = simulate_tomogram(settings)
    believed = project(tomogram.series.projections_px, tomogram.particles.positions_px)[..., :2]
    distance = np.linalg.norm(tomogram.truth.positions_2d_px - np.swapaxes(believed, 0, 1), axis=-1)
    return distance, tomogram.truth.visible


def test_true_2d_positions_are_projections_of_true_positions(small: SimulationSettings) -> None:
    truth = simulate_tomogram(small).truth
    expected = project(truth.projections_px, truth.positions_px)[..., :2]
    np.testing.assert_allclose(truth.positions_2d_px, np.swapaxes(expected, 0, 1), atol=1e-9)
    assert np.all(truth.trajectories_px == 0)
    assert truth.deformation is None


def test_true_2d_positions_follow_trajectories_and_warp(small: SimulationSettings) -> None:
    settings = replace(
        small,
        motion=PlantedMotion(velocity_scale=0.2),
        warp=PlantedWarp(model="spline", amplitude_px=1.5, per_frame=True),
        errors=PlantedErrors(),
    )
    truth = simulate_tomogram(settings).truth
    assert truth.deformation is not None
    for particle in (0, 5):
        for tilt in (0, 4, 10):
            point = truth.positions_px[particle] + truth.trajectories_px[particle, tilt]
            q = (truth.projections_px[tilt] @ np.append(point, 1))[:2]
            one = replace(truth.deformation, coefficients=truth.deformation.coefficients[tilt : tilt + 1])
            warped = q + warp_displacement_px(one, q[None, None], truth.image_size_px)[0, 0]
            np.testing.assert_allclose(truth.positions_2d_px[particle, tilt], warped, atol=1e-9)
    assert not np.allclose(truth.deformation.coefficients[0], truth.deformation.coefficients[1])


@pytest.mark.parametrize("fraction", [0.3, 0.9])
def test_largest_displacement_is_the_one_asked_for(small: SimulationSettings, fraction: float) -> None:
    search_range = 8
    settings = replace(
        varied(small, "errors", max_displacement_px=fraction * search_range),
        motion=PlantedMotion(velocity_scale=0.05),
        warp=PlantedWarp(amplitude_px=0.5),
    )
    distance, visible = _distances(settings)
    assert distance[visible].max() == pytest.approx(fraction * search_range, abs=1e-3)
    assert 0.1 < visible.mean() <= 1


def test_motion_beyond_the_largest_displacement_is_refused(small: SimulationSettings) -> None:
    settings = replace(
        varied(small, "errors", max_displacement_px=0.5), motion=PlantedMotion(velocity_scale=2.0)
    )
    with pytest.raises(InputError, match="motion and warp alone"):
        simulate_tomogram(settings)


def test_errors_have_the_sizes_asked_for() -> None:
    settings = SimulationSettings(
        seed=5,
        acquisition=AcquisitionSettings(image_size_px=(400, 400), tilt_step_degrees=1.0),
        errors=PlantedErrors(shift_px=3.0, angle_degrees=0.4, position_px=2.0),
    )
    settings = varied(settings, "specimen", particles=60, min_distance_px=10.0)
    scene = build_scene(settings, 0, box_px=96, diameter_px=60.0)
    turn = scene.projections_px[:, :3, :3] @ np.swapaxes(scene.input_projections_px[:, :3, :3], 1, 2)
    assert np.rad2deg(np.std(rotation_vector(turn))) == pytest.approx(0.4, rel=0.1)
    # The rotation is about the projected centre of the tomogram, which only the shift error moves.
    centre = np.append(np.array(scene.tomogram_size_px) / 2, 1.0)
    moved = (scene.projections_px - scene.input_projections_px) @ centre
    assert np.std(moved[:, :2]) == pytest.approx(3.0, rel=0.15)
    np.testing.assert_allclose(moved[:, 2], 0, atol=1e-9)
    assert np.std(scene.input_positions_px - scene.positions_px) == pytest.approx(2.0, rel=0.15)


def test_particles_keep_their_distance_and_lie_in_the_specimen(small: SimulationSettings) -> None:
    settings = varied(small, "specimen", particles=20, min_distance_px=25.0, edge_margin_px=30.0)
    truth = simulate_tomogram(settings).truth
    apart = np.linalg.norm(truth.positions_px[:, None] - truth.positions_px, axis=-1) + 1e9 * np.eye(20)
    assert apart.min() >= 25.0
    from_centre = np.abs(truth.positions_px - [101.5, 87.5, 75.5])
    assert np.all(from_centre <= [101.5 - 30, 87.5 - 30, 50.0])  # 400 Å thick, 4 Å/px
    assert from_centre[:, 2].max() > 20


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"particles": 500, "min_distance_px": 30.0}, "of 500 particles fit"),
        ({"edge_margin_px": 95.0}, "leaves nothing"),
    ],
)
def test_particles_that_do_not_fit_are_refused(small: SimulationSettings, changes: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        simulate_tomogram(varied(small, "specimen", **changes))


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        ("dose-symmetric", [0, 1, -1, -2, 2, 3, -3]),
        ("bidirectional", [0, 1, 2, 3, -1, -2, -3]),
        ("continuous", [-3, -2, -1, 0, 1, 2, 3]),
    ],
)
def test_dose_schemes(scheme: str, expected: list[int]) -> None:
    np.testing.assert_array_equal(exposure_order(7, scheme) - 3, expected)


@pytest.mark.parametrize("order", ["angle", "exposure", "shuffled"])
def test_dose_stays_with_its_tilt_in_every_file_order(small: SimulationSettings, order: str) -> None:
    tomogram = simulate_tomogram(varied(small, "acquisition", file_order=order))
    angles, dose = tomogram.angles_degrees, tomogram.series.pre_exposure
    ascending = tilt_angles_degrees(small.acquisition)
    np.testing.assert_array_equal(np.sort(angles), ascending)
    np.testing.assert_array_equal(angles[np.argsort(dose)], ascending[exposure_order(11, "dose-symmetric")])
    np.testing.assert_allclose(np.sort(dose), 3.0 * np.arange(11))
    ordered = {"angle": np.all(np.diff(angles) > 0), "exposure": np.all(np.diff(dose) > 0)}
    assert ordered.get(order, not (ordered["angle"] or ordered["exposure"]))
    tilt = np.rad2deg(np.arcsin(-tomogram.series.projections_px[:, 2, 0]))
    np.testing.assert_allclose(tilt, angles, atol=1e-9)


@pytest.mark.parametrize("squared", [False, True])
def test_motion_has_the_prior_s_statistics(squared: bool) -> None:
    motion = PlantedMotion(velocity_scale=0.2, distance_scale=100.0, squared_exponential=squared)
    positions = np.array([[0.0, 0, 0], [40.0, 0, 0], [0, 0, 90.0]])
    order = np.array([2, 0, 1, *range(3, 2001)])
    acquisition = AcquisitionSettings(frame_dose=2.0, pixel_size_angstrom=4.0)
    settings = SimulationSettings(motion=motion, acquisition=acquisition)
    trajectories = random_trajectories(settings, positions, 2.0 * np.argsort(order), np.random.default_rng(0))
    assert np.all(trajectories[:, 2] == 0)  # the chronologically first
    velocity = np.diff(trajectories[:, order], axis=1)
    sigma_v, sigma_d = 2.0 * 0.2 / 4.0, 2.0 * 100.0 / 4.0
    assert np.std(velocity) == pytest.approx(sigma_v, rel=0.05)
    flat = velocity.reshape(3, -1)
    for i, j, distance in [(0, 1, 40.0), (0, 2, 90.0), (1, 2, np.hypot(40, 90))]:
        x = distance / sigma_d
        expected = np.exp(-(x**2) if squared else -x)
        assert np.mean(flat[i] * flat[j]) / sigma_v**2 == pytest.approx(expected, abs=0.06)
    assert abs(np.mean(flat[:, :-3] * flat[:, 3:])) < 0.05 * sigma_v**2  # independent in time


def test_orientations_are_uniform() -> None:
    rotations = random_rotations(4000, np.random.default_rng(1))
    np.testing.assert_allclose(
        rotations @ np.swapaxes(rotations, 1, 2), np.eye(3)[None].repeat(4000, 0), atol=1e-9
    )
    np.testing.assert_allclose(np.linalg.det(rotations), 1)
    assert np.abs(rotations.mean(axis=0)).max() < 0.04  # standard error of each entry: 0.009
    assert np.mean(rotations[:, 2, 2] ** 2) == pytest.approx(1 / 3, abs=0.02)


def test_tomograms_and_purposes_are_independent(small: SimulationSettings) -> None:
    first, second = (simulate_tomogram(small, i) for i in (0, 1))
    assert not np.allclose(first.truth.positions_px, second.truth.positions_px)
    again = simulate_tomogram(replace(small, tomograms=5, noise=replace(small.noise, sigma=2.0)), 1)
    np.testing.assert_array_equal(second.truth.positions_px, again.truth.positions_px)
    np.testing.assert_array_equal(second.truth.projections_px, again.truth.projections_px)
    moving = simulate_tomogram(replace(small, motion=PlantedMotion(velocity_scale=0.01)), 1)
    np.testing.assert_array_equal(second.truth.positions_px, moving.truth.positions_px)


def test_half_sets_and_optics_groups_alternate(small: SimulationSettings) -> None:
    particles = simulate_tomogram(varied(small, "acquisition", optics_groups=3)).particles
    np.testing.assert_array_equal(particles.half_set, [0, 1, 0, 1, 0, 1, 0, 1])
    np.testing.assert_array_equal(particles.optics_group, [0, 1, 2, 0, 1, 2, 0, 1])


def test_an_alignment_can_be_started_from_the_truth(small: SimulationSettings) -> None:
    settings = replace(small, motion=PlantedMotion(velocity_scale=0.05), warp=PlantedWarp(amplitude_px=0.5))
    tomogram = simulate_tomogram(settings)
    series, particles = with_true_geometry(tomogram.series, tomogram.particles, tomogram.truth)
    assert series.deformation is tomogram.truth.deformation
    assert particles.trajectories_px is not None
    moving = particles.positions_px + np.swapaxes(particles.trajectories_px, 0, 1)
    q = project_trajectories(series.projections_px, moving)[..., :2]
    warped = q + warp_displacement_px(series.deformation, q, series.image_size_px)
    np.testing.assert_allclose(np.swapaxes(warped, 0, 1), tomogram.truth.positions_2d_px, atol=1e-9)
    still = simulate_tomogram(small)
    assert with_true_geometry(still.series, still.particles, still.truth)[1].trajectories_px is None
