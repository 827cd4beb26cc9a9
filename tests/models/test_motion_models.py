from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomopolish.errors import InputError
from tomopolish.models import gaussian_process
from tomopolish.models import motion as motion_models
from tomopolish.models.gaussian_process import GaussianProcessMotion
from tomopolish.models.motion import NoMotion, motion_model
from tomopolish.models.neighbour_motion import NeighbourMotion
from tomopolish.settings.alignment import MotionSettings

Array = np.ndarray
Make = Callable[..., Any]

KINDS: dict[str, dict[str, Any]] = {
    "exponential": {},
    "squared exponential": {"squared_exponential": True},
    "three modes": {"max_deformations": 3},
    "more modes than particles": {"max_deformations": 500},
}
kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())


def build(particles: int, tilts: int, seed: int = 1, **kind: Any) -> GaussianProcessMotion:
    rng = np.random.default_rng(seed)
    return GaussianProcessMotion.build(
        rng.uniform(0, 800, (particles, 3)),
        rng.permutation(tilts),
        sigma_velocity_px=0.3,
        sigma_distance_px=900.0,
        **kind,
    )


def covariance(positions: Array, sigma_velocity: float, sigma_distance: float, squared: bool) -> Array:
    """As in docs/dev/conventions.md, pair by pair."""
    result = np.empty((len(positions), len(positions)))
    for i, first in enumerate(positions):
        for j, second in enumerate(positions):
            x = np.linalg.norm(first - second) / sigma_distance
            result[i, j] = sigma_velocity**2 * np.exp(-(x**2) if squared else -x)
    return result


def offsets_of_velocities(velocities: Array, chronological: Array) -> Array:
    """As in docs/dev/conventions.md, velocity by velocity: (P, F − 1, 3) → (F, P, 3) in file order."""
    offsets = np.zeros((len(chronological), len(velocities), 3))
    for m, tilt in enumerate(chronological):
        for j in range(m):
            offsets[tilt] += velocities[:, j]
    return offsets


def velocity_factor(motion: Any) -> Array:
    """(P, K): what a unit of each mode's coefficient moves every particle in the first time step."""
    second = motion.chronological[1]
    unit = np.zeros(motion.shape)
    columns = []
    for k in range(motion.shape[0]):
        unit[k, 0, 0] = 1.0
        columns.append(motion.offsets_px(unit)[second, :, 0])
        unit[k, 0, 0] = 0.0
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("squared", [False, True])
def test_velocities_have_the_prior_covariance(squared: bool) -> None:
    rng = np.random.default_rng(3)
    positions = rng.uniform(0, 800, (25, 3))
    motion = GaussianProcessMotion.build(
        positions,
        np.arange(4),
        sigma_velocity_px=0.3,
        sigma_distance_px=900.0,
        squared_exponential=squared,
    )
    L = velocity_factor(motion)
    np.testing.assert_allclose(L @ L.T, covariance(positions, 0.3, 900.0, squared), atol=1e-8 * 0.3**2)


@kinds
def test_offsets_are_sums_of_velocities_in_order_of_exposure(kind: dict[str, Any]) -> None:
    motion = build(6, 9, **kind)
    coefficients = np.random.default_rng(2).normal(size=motion.shape)
    velocities = np.einsum("pk,kti->pti", velocity_factor(motion), coefficients)
    expected = offsets_of_velocities(velocities, motion.chronological)
    offsets = motion.offsets_px(coefficients)
    np.testing.assert_allclose(offsets, expected, atol=1e-12)
    assert not offsets[motion.chronological[0]].any()


@given(
    particles=st.integers(1, 12),
    tilts=st.integers(1, 9),
    squared=st.booleans(),
    modes=st.none() | st.integers(1, 14),
    seed=st.integers(0, 1000),
)
def test_adjoint_is_the_transpose(
    particles: int, tilts: int, squared: bool, modes: int | None, seed: int
) -> None:
    motion = build(particles, tilts, seed, squared_exponential=squared, max_deformations=modes)
    rng = np.random.default_rng(seed)
    coefficients = rng.normal(size=motion.shape)
    gradient = rng.normal(size=(tilts, particles, 3))
    forward = np.sum(motion.offsets_px(coefficients) * gradient)
    backward = np.sum(coefficients * motion.adjoint(gradient))
    assert forward == pytest.approx(backward, rel=1e-10, abs=1e-12)


@kinds
def test_coefficients_invert_offsets(kind: dict[str, Any]) -> None:
    motion = build(8, 6, **kind)
    coefficients = np.random.default_rng(2).normal(size=motion.shape)
    recovered = motion.coefficients(motion.offsets_px(coefficients))
    np.testing.assert_allclose(recovered, coefficients, atol=1e-7)


@kinds
def test_a_step_of_more_exposure_moves_more(kind: dict[str, Any]) -> None:
    weights = np.array([16.0, 1.0, 0.25, 1.0, 4.0])
    even, uneven = build(7, 6, **kind), build(7, 6, step_weights=weights, **kind)
    coefficients = np.random.default_rng(3).normal(size=even.shape)
    scaled = coefficients * np.sqrt(weights)[:, None]
    np.testing.assert_allclose(uneven.offsets_px(coefficients), even.offsets_px(scaled), atol=1e-12)
    recovered = uneven.coefficients(uneven.offsets_px(coefficients))
    np.testing.assert_allclose(recovered, coefficients, atol=1e-7)
    gradient = np.random.default_rng(4).normal(size=(6, 7, 3))
    forward = np.sum(uneven.offsets_px(coefficients) * gradient)
    assert forward == pytest.approx(np.sum(coefficients * uneven.adjoint(gradient)), rel=1e-10)


@pytest.mark.parametrize("absolute", [False, True])
def test_the_prior_goes_by_the_exposure_of_each_image(series: Make, particles: Make, absolute: bool) -> None:
    exposure = np.array([9.0, 3.0, 12.0, 0.0, 36.0])  # steps of 3, 6, 3, 24: 4.5 as a rule
    hybrid = replace(series(), pre_exposure=exposure)
    motion = motion_model(MotionSettings(velocity_scale=0.2, absolute=absolute), hybrid, particles())
    unit = np.ones(motion.shape)
    moved = np.diff(motion.offsets_px(unit)[[3, 1, 0, 2, 4], 0, 0])
    weights = np.ones(4) if absolute else np.array([3, 6, 3, 24]) / 4.5
    np.testing.assert_allclose(moved / moved[0], np.sqrt(weights / weights[0]))
    assert hybrid.frame_dose == 4.5
    one = motion_model(MotionSettings(velocity_scale=0.2, absolute=True), series(), particles())
    scale = 1.0 if absolute else 4.5 * np.sqrt(weights[0])
    typical = np.linalg.norm(velocity_factor(one), axis=1)
    np.testing.assert_allclose(np.linalg.norm(velocity_factor(motion), axis=1), scale * typical, rtol=1e-6)


def test_truncated_coefficients_are_the_closest() -> None:
    motion = build(8, 5, max_deformations=3)
    offsets = np.cumsum(np.random.default_rng(2).normal(size=(5, 8, 3)), axis=0)
    offsets = offsets[np.argsort(motion.chronological)]
    offsets -= offsets[motion.chronological[0]]
    fitted = motion.offsets_px(motion.coefficients(offsets))
    left_over = np.diff((offsets - fitted)[motion.chronological], axis=0)
    assert np.abs(left_over).max() > 0.1
    np.testing.assert_allclose(np.einsum("pk,tpi->kti", velocity_factor(motion), left_over), 0, atol=1e-12)


def test_leading_modes_are_the_best_approximation() -> None:
    positions = np.random.default_rng(3).uniform(0, 800, (10, 3))
    motion = GaussianProcessMotion.build(
        positions, np.arange(3), sigma_velocity_px=0.3, sigma_distance_px=900.0, max_deformations=4
    )
    L = velocity_factor(motion)
    full = covariance(positions, 0.3, 900.0, squared=False)
    left_out = np.sort(np.linalg.eigvalsh(full))[:-4]
    assert motion.shape == (4, 2, 3)
    np.testing.assert_allclose(np.linalg.norm(full - L @ L.T), np.linalg.norm(left_out), rtol=1e-10)
    assert np.all(np.diff(np.sum(L**2, axis=0)) < 0)


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("modes", [None, 6])
def test_particles_at_one_place_move_together(squared: bool, modes: int | None) -> None:
    rng = np.random.default_rng(3)
    positions = np.repeat(rng.uniform(0, 800, (10, 3)), 3, axis=0)
    motion = GaussianProcessMotion.build(
        positions,
        np.arange(5),
        sigma_velocity_px=0.3,
        sigma_distance_px=900.0,
        squared_exponential=squared,
        max_deformations=modes,
    )
    assert motion.shape[0] <= 10
    coefficients = rng.normal(size=motion.shape)
    offsets = motion.offsets_px(coefficients).reshape(5, 10, 3, 3)
    np.testing.assert_allclose(offsets, offsets[:, :, :1].repeat(3, axis=2), atol=1e-10)
    # Offsets that are not alike come back as finite coefficients.
    recovered = motion.coefficients(rng.normal(size=(5, 30, 3)))
    assert np.all(np.abs(recovered) < 1e6)


def test_close_particles_of_a_smooth_field_need_few_modes() -> None:
    positions = np.random.default_rng(3).uniform(0, 800, (300, 3))
    motion = GaussianProcessMotion.build(
        positions,
        np.arange(3),
        sigma_velocity_px=0.3,
        sigma_distance_px=4000.0,
        squared_exponential=True,
    )
    assert motion.shape[0] < 60
    L = velocity_factor(motion)
    np.testing.assert_allclose(np.sum(L**2, axis=1), 0.3**2, rtol=1e-7)


@pytest.mark.parametrize(
    ("absolute", "sigma_velocity_px", "sigma_distance_px"),
    [(False, 0.5 * 3 / 1.5, 5000 * 3 / 1.5), (True, 0.5 / 1.5, 5000 / 1.5)],
)
def test_scales_follow_dose_and_pixel_size(
    series: Make, particles: Make, absolute: bool, sigma_velocity_px: float, sigma_distance_px: float
) -> None:
    motion = motion_model(MotionSettings(absolute=absolute), series(), particles())
    L = velocity_factor(motion)
    expected = covariance(particles().positions_px, sigma_velocity_px, sigma_distance_px, squared=False)
    np.testing.assert_allclose(L @ L.T, expected, rtol=1e-6)


def test_settings_choose_kernel_and_modes(series: Make, particles: Make) -> None:
    asked = MotionSettings(distance_scale=100, squared_exponential=True, max_deformations=2)
    motion = motion_model(asked, series(), particles())
    assert motion.shape == (2, 4, 3)
    L = velocity_factor(motion)
    values, vectors = np.linalg.eigh(covariance(particles().positions_px, 1.0, 200.0, squared=True))
    np.testing.assert_allclose(L @ L.T, vectors[:, -2:] * values[-2:] @ vectors[:, -2:].T, atol=1e-10)


@pytest.mark.parametrize(("asked", "tilts"), [(None, 5), (MotionSettings(), 1)])
def test_without_settings_or_time_nothing_moves(
    series: Make, particles: Make, asked: MotionSettings | None, tilts: int
) -> None:
    motion = motion_model(asked, series(tilts), particles())
    assert isinstance(motion, NoMotion)
    assert np.prod(motion.shape) == 0
    offsets = motion.offsets_px(np.zeros(motion.shape))
    assert offsets.shape == (tilts, 7, 3)
    assert not offsets.any()
    for empty in (motion.adjoint(offsets), motion.coefficients(offsets)):
        assert empty.shape == motion.shape


def test_unknown_dose_is_refused_unless_scales_are_absolute(series: Make, particles: Make) -> None:
    undosed = series(frame_dose=0.0)
    with pytest.raises(InputError, match=r"TS_7.*--abs_params"):
        motion_model(MotionSettings(), undosed, particles())
    assert motion_model(MotionSettings(absolute=True), undosed, particles()).shape == (7, 4, 3)


RUNS: dict[str, dict[str, Any]] = {
    "motion": {},
    "motion_sq_exp": {"squared_exponential": True},
    "motion_max_ed4": {"max_deformations": 4},
}
SUM_OF_SQUARES = {
    ("motion", "TS_01"): 8.167,
    ("motion", "TS_02"): 11.267,
    ("motion_sq_exp", "TS_01"): 0.376,
    ("motion_sq_exp", "TS_02"): 0.229,
    ("motion_max_ed4", "TS_01"): 2.711,
    ("motion_max_ed4", "TS_02"): 2.786,
}
"""Part of RELION's objective at its solution beside the windows': its prior, Σc²."""


@pytest.mark.parametrize(("run", "tomogram"), SUM_OF_SQUARES)
def test_relions_trajectories_and_their_prior(
    golden: Path, relion_run: Make, run: str, tomogram: str
) -> None:
    solution = relion_run(golden, run, tomogram)
    # --s_vel 0.1 --s_div 5000 with 3 e⁻/Å² per image and 3 Å per px.
    motion = GaussianProcessMotion.build(
        solution.input_positions_px,
        solution.chronological,
        sigma_velocity_px=0.1,
        sigma_distance_px=5000.0,
        **RUNS[run],
    )
    coefficients = motion.coefficients(solution.trajectories_px)
    # motion.star holds six decimals of 1 Å.
    error_angstrom = (motion.offsets_px(coefficients) - solution.trajectories_px) * 3.0
    assert np.abs(error_angstrom).max() < 1e-5
    assert np.sum(coefficients**2) == pytest.approx(SUM_OF_SQUARES[run, tomogram], abs=0.05)


def test_small_reference_run_has_likely_trajectories(mini: Path, relion_run: Make) -> None:
    solution = relion_run(mini, "motion", "TS_01")
    dose = 3.0
    motion = GaussianProcessMotion.build(
        solution.input_positions_px,
        solution.chronological,
        sigma_velocity_px=0.1 * dose / solution.pixel_size_angstrom,
        sigma_distance_px=5000 * dose / solution.pixel_size_angstrom,
    )
    coefficients = motion.coefficients(solution.trajectories_px)
    np.testing.assert_allclose(motion.offsets_px(coefficients), solution.trajectories_px, atol=1e-12)
    assert 0.1 < np.sum(coefficients**2) < coefficients.size


@pytest.mark.alone
def test_thousands_of_particles_cost_two_matrix_products() -> None:
    particles, tilts = 1500, 41
    motion = build(particles, tilts)
    rng = np.random.default_rng(2)
    coefficients = rng.normal(size=motion.shape)
    gradient = rng.normal(size=(tilts, particles, 3))
    dense, block = (
        np.asfortranarray(rng.normal(size=(particles, particles))),
        rng.normal(size=(particles, 120)),
    )

    def fastest(work: Callable[[], object]) -> float:
        times = []
        for _ in range(5):
            begin = time.perf_counter()
            work()
            times.append(time.perf_counter() - begin)
        return min(times)

    product = fastest(lambda: dense @ block)
    assert fastest(lambda: motion.offsets_px(coefficients)) < 10 * product
    assert fastest(lambda: motion.adjoint(gradient)) < 10 * product


@pytest.mark.parametrize(
    "distance_px, squared_exponential", [(3000.0, False), (3000.0, True), (300.0, True), (60.0, True)]
)
def test_modes_of_many_particles_are_those_of_few(
    distance_px: float, squared_exponential: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spectra that are smooth, that end above rounding, and that do neither."""
    positions = np.random.default_rng(1).uniform(0, 1500, (420, 3))

    def factor() -> np.ndarray:
        process = GaussianProcessMotion.build(
            positions,
            np.arange(3),
            sigma_velocity_px=1.0,
            sigma_distance_px=distance_px,
            squared_exponential=squared_exponential,
        )
        return process.factor

    expected = factor()
    monkeypatch.setattr(gaussian_process, "MANY", 100)
    found = factor()
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-5)
    variances = np.sum(found**2, axis=0)
    assert (np.diff(variances) <= 1e-6 * variances[0]).all()
    sure = variances > 1e-6
    assert sure.sum() == np.sum(np.sum(expected**2, axis=0) > 1e-6)
    unit = found[:, sure] / np.sqrt(variances[sure])
    np.testing.assert_allclose(unit.T @ unit, np.eye(sure.sum()), atol=1e-4)


def test_neighbours_predict_the_rough_motion_of_many_particles(
    series: Make, particles: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Smooth motion has few modes, and `--max_ed` asks for a number of modes: both need the eigenvectors."""
    monkeypatch.setattr(motion_models, "MANY", len(particles()))
    rough = MotionSettings(absolute=True)
    assert isinstance(motion_model(rough, series(), particles()), NeighbourMotion)
    for asked in (replace(rough, squared_exponential=True), replace(rough, max_deformations=3)):
        assert isinstance(motion_model(asked, series(), particles()), GaussianProcessMotion)
    monkeypatch.setattr(motion_models, "MANY", len(particles()) + 1)
    assert isinstance(motion_model(rough, series(), particles()), GaussianProcessMotion)
