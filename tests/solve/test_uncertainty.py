"""Standard errors: calibrated against planted truths, and blind to what the images cannot tell.

See docs/dev/conventions.md, Objective.
"""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from small_project import make_particles, make_series, make_settings
from tomopolish.imaging.windows import CorrelationWindows
from tomopolish.physics.geometry import project
from tomopolish.pipeline import build_problem
from tomopolish.pipeline.problem import with_leading_modes
from tomopolish.settings.alignment import DeformationSettings, MotionSettings
from tomopolish.solve.problem import Problem, evaluate, predicted_positions
from tomopolish.solve.products import multiply_hessian
from tomopolish.solve.refine import RefineOptions, refine
from tomopolish.solve.surface import smooth_surface
from tomopolish.solve.uncertainty import (
    Uncertainty,
    estimate_uncertainty,
    expected_curvature,
    expected_state,
)
from tomopolish.solve.unseen_moves import Gauge

RANGE, BOX, TILTS, PARTICLES, PEAK = 8, 48, 15, 24, 40.0


def spectrum() -> np.ndarray:
    """Share of each frequency in a pair's information: a band, as contrast transfer and damage leave it."""
    k = np.fft.fftfreq(BOX)
    square = k[:, None] ** 2 + k[None, :] ** 2
    power = np.exp(-square / (2 * 0.12**2)) * np.sin(40 * square + 0.1) ** 2
    return power / power.sum()


def calibrated(seed: int, **parts: object) -> tuple[Problem, CorrelationWindows, np.ndarray]:
    """Make windows whose noise is what their signal's weights let through, and the parameters behind them."""
    rng = np.random.default_rng(seed)
    series = make_series(rng, np.zeros((TILTS, 300, 320), dtype=np.float32))
    positions = rng.uniform(-0.5, 0.5, (PARTICLES, 3)) * [150, 150, 60]
    particles = make_particles(rng, positions + np.array(series.tomogram_size_px) / 2)
    anchors = project(series.projections_px, particles.positions_px)[..., :2]
    half = RANGE + 4
    windows = CorrelationWindows(
        values=np.zeros((TILTS, PARTICLES, 2 * half, 2 * half), dtype=np.float32),
        anchors_px=anchors,
        visible=np.ones((TILTS, PARTICLES), dtype=bool),
        power=np.full((TILTS, PARTICLES), PEAK),
        range_px=RANGE,
    )
    settings = make_settings(BOX, RANGE, **parts)
    problem = build_problem(series, particles, windows, settings)
    truth = problem.layout.fill(
        angles=rng.normal(size=(TILTS, 3)) * 0.005,
        shifts_px=rng.normal(size=(TILTS, 2)),
        positions_px=rng.normal(size=(PARTICLES, 3)),
        motion=rng.normal(size=problem.motion.shape),
    )
    d = predicted_positions(problem, problem.layout.unpack(truth)) - anchors
    k = np.fft.fftfreq(BOX)
    phase = d[..., 0, None, None] * k[None, :] + d[..., 1, None, None] * k[:, None]
    signal = PEAK * spectrum() * np.exp(-2j * np.pi * phase)
    white = np.fft.fft2(rng.normal(size=(TILTS, PARTICLES, BOX, BOX))) / BOX
    noise = np.sqrt(PEAK * spectrum()) * white
    index = np.arange(-half, half) % BOX
    values = np.fft.ifft2(signal + noise).real * BOX**2
    windows = replace(windows, values=values[..., index[:, None], index].astype(np.float32))
    return build_problem(series, particles, windows, settings), windows, truth


def errors_at(
    problem: Problem, vector: np.ndarray, power: np.ndarray, share: np.ndarray | None = None, threads: int = 1
) -> Uncertainty:
    curvature = expected_curvature(problem, vector, power)
    return estimate_uncertainty(problem, curvature, share, threads=threads)


def scores(problem: Problem, windows: CorrelationWindows, truth: np.ndarray) -> dict[str, np.ndarray]:
    """Errors of the solution over their standard errors, both in the gauge of the positions."""
    found = refine(problem, windows, np.zeros(problem.layout.size), RefineOptions())
    errors = errors_at(found.problem, found.vector, windows.power)
    state = expected_state(found.problem, evaluate(found.problem, found.vector), windows.power)
    off = problem.layout.unpack(Gauge(found.problem, state).remove(found.vector - truth))
    z = {name: getattr(off, name) / getattr(errors, name) for name in ("angles", "shifts_px", "positions_px")}
    if errors.trajectories_px is not None:
        moved = off.positions_px + problem.motion.offsets_px(off.motion)
        z["trajectories_px"] = np.moveaxis(moved, 1, 0) / errors.trajectories_px
    z["dispersion"] = np.array([errors.dispersion])
    return {name: np.abs(value).ravel() for name, value in z.items()}


@pytest.mark.parametrize("motion", [None, MotionSettings(velocity_scale=0.1, absolute=True)])
def test_truth_lies_within_one_and_two_standard_errors_as_often_as_it_should(
    motion: MotionSettings | None,
) -> None:
    found = [scores(*calibrated(seed, motion=motion)) for seed in range(10)]
    for name in found[0].keys() - {"dispersion"}:
        z = np.concatenate([f[name] for f in found])
        assert 0.63 <= np.mean(z < 1) <= 0.73, name
        assert 0.93 <= np.mean(z < 2) <= 0.97, name
    assert np.mean([f["dispersion"] for f in found]) == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize("squared", [False, True])
def test_modes_that_images_cannot_move_change_neither_trajectories_nor_their_errors(squared: bool) -> None:
    settings = MotionSettings(velocity_scale=0.1, absolute=True, squared_exponential=squared)
    complete, windows, _ = calibrated(3, motion=settings)
    few = with_leading_modes(complete, windows.power, 3.0)
    assert few.layout.size < complete.layout.size or not squared  # few particles move each as it likes
    moved, errors = [], []
    for problem in (complete, few):
        fit = refine(problem, windows, problem.layout.fill(), RefineOptions())
        parts = problem.layout.unpack(fit.vector)
        moved.append(parts.positions_px + problem.motion.offsets_px(parts.motion))
        errors.append(errors_at(fit.problem, fit.vector, windows.power).trajectories_px)
    difference_angstrom = 3.0 * np.linalg.norm(moved[0] - moved[1], axis=-1)
    assert np.sqrt(np.mean(difference_angstrom**2)) < 0.01
    np.testing.assert_allclose(np.mean(errors[1]), np.mean(errors[0]), rtol=0.05)


def test_the_number_of_threads_changes_no_bit() -> None:
    problem, windows, _ = calibrated(0, motion=MotionSettings(velocity_scale=0.1, absolute=True))
    vector = refine(problem, windows, np.zeros(problem.layout.size), RefineOptions()).vector
    one, three = (errors_at(problem, vector, windows.power, threads=n) for n in (1, 3))
    for field in fields(one):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(three, field.name))


SHARES = {"positions": np.eye(3), "projections": np.zeros((3, 3)), "both": np.diag([0.9, 0.1, 0.5])}


@pytest.mark.parametrize(
    ("deformation", "held", "decided_by"),
    [(None, held, "positions") for held in ("", "angles", "shifts_px", "positions_px")]
    + [(None, "", "both")]
    + [(DeformationSettings(model=model, grid=(3, 3)), "", "positions") for model in ("linear", "spline")]
    + [(DeformationSettings(model="Fourier", grid=(3, 3)), "", "both")]
    + [(DeformationSettings(model="Fourier", grid=(3, 3)), "angles", "positions")],
)
def test_errors_are_those_of_the_inverted_curvature(
    deformation: DeformationSettings | None, held: str, decided_by: str
) -> None:
    problem, windows, _ = calibrated(4, deformation=deformation)
    share = SHARES[decided_by]
    layout = problem.layout
    visible = windows.visible.copy()
    visible[3:, 7] = False  # hardly seen, but the prior holds it
    free = problem.free.copy()
    if held:
        getattr(layout.unpack(free), held)[:] = False
    surface = replace(problem.surface, visible=visible)
    problem = replace(problem, surface=surface, free=free)
    vector = refine(problem, replace(windows, visible=visible), np.zeros(layout.size), RefineOptions()).vector
    state = expected_state(problem, evaluate(problem, vector), windows.power)
    curvature = np.array([multiply_hessian(problem, state, unit) for unit in np.eye(layout.size)])
    covariance = np.zeros_like(curvature)
    covariance[np.ix_(free, free)] = np.linalg.inv(curvature[np.ix_(free, free)])
    remove = Gauge(problem, state, share).remove
    left = np.apply_along_axis(remove, 1, np.apply_along_axis(remove, 0, covariance))
    errors = errors_at(problem, vector, windows.power, share)
    expected = layout.unpack(np.sqrt(errors.dispersion * np.diag(left)))
    for name in ("angles", "shifts_px", "positions_px", "warp"):
        np.testing.assert_allclose(getattr(errors, name), getattr(expected, name), rtol=1e-6, atol=1e-12)
    assert (errors.warp.size > 0) == (deformation is not None)


def test_errors_scale_with_noise_that_the_weights_do_not_know() -> None:
    problem, windows, _ = calibrated(1)
    zero = np.zeros(problem.layout.size)
    plain = errors_at(problem, refine(problem, windows, zero, RefineOptions()).vector, windows.power)
    # the same information, but every likelihood overstated by a factor of four
    loud = replace(windows, values=4 * windows.values, power=4 * windows.power)
    other = replace(problem, surface=smooth_surface(loud))
    found = errors_at(other, refine(other, loud, zero, RefineOptions()).vector, loud.power)
    assert found.dispersion == pytest.approx(4 * plain.dispersion, rel=0.02)
    np.testing.assert_allclose(np.median(found.shifts_px / plain.shifts_px), 1, atol=0.03)


@pytest.mark.parametrize("decided_by", SHARES)
@pytest.mark.parametrize("fixed_shifts", [False, True])
def test_turning_and_moving_everything_is_no_error(decided_by: str, fixed_shifts: bool) -> None:
    problem, windows, _ = calibrated(2)
    layout = problem.layout
    free = problem.free.copy()
    layout.unpack(free).shifts_px[:] = not fixed_shifts
    problem = replace(problem, free=free)
    state = expected_state(problem, evaluate(problem, np.zeros(layout.size)), windows.power)
    gauge = Gauge(problem, state, SHARES[decided_by])
    rng = np.random.default_rng(0)
    vector = np.where(free, rng.normal(size=layout.size), 0.0)
    once = gauge.remove(vector)
    assert not once[~free].any()
    np.testing.assert_allclose(gauge.remove(once), once, atol=1e-9)
    left = layout.unpack(once)
    if not fixed_shifts:
        np.testing.assert_allclose(left.positions_px.mean(axis=0), 0, atol=1e-9)
    points = problem.points_px[0] - problem.points_px[0].mean(axis=0)
    turned_positions = np.cross(points, left.positions_px).sum(axis=0) / np.sum(points**2)
    turned_projections = np.einsum("fji,fj->i", state.rotations, left.angles) / layout.tilts
    assert (np.abs(turned_positions).max() < 1e-12) == (decided_by == "positions")
    assert (np.abs(turned_projections).max() < 1e-12) == (decided_by == "projections")
    # what was removed moves nothing in the images
    step = 1e-6 * (vector - once)
    before = predicted_positions(problem, layout.unpack(np.zeros(layout.size)))
    after = predicted_positions(problem, layout.unpack(step))
    np.testing.assert_allclose(after, before, atol=1e-8)


def test_what_few_images_show_is_less_certain() -> None:
    problem, windows, _ = calibrated(3)
    visible = windows.visible.copy()
    visible[4:, 5] = False
    windows = replace(windows, visible=visible)
    problem = replace(problem, surface=replace(problem.surface, visible=visible))
    errors = errors_at(problem, np.zeros(problem.layout.size), windows.power)
    length = np.linalg.norm(errors.positions_px, axis=1)
    assert length[5] > 2 * np.median(length)


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"deformation": DeformationSettings(model="spline", grid=(3, 3))},
        {"motion": MotionSettings(velocity_scale=1.0, absolute=True)},
    ],
    ids=["static", "warp", "motion"],
)
def test_the_dispersion_counts_what_the_fit_explains(parts: dict[str, object]) -> None:
    problem, windows, truth = calibrated(6, **parts)
    curvature = expected_curvature(problem, truth, windows.power)
    state, free = curvature.state, np.flatnonzero(problem.free)
    units = np.eye(problem.layout.size)[free]
    posterior = np.array([multiply_hessian(problem, state, unit)[free] for unit in units])
    of_pairs = posterior - np.diag(problem.precision[free])
    explained = np.trace(np.linalg.solve(posterior, of_pairs))
    expected = curvature.misfit.squares / (curvature.misfit.components - explained)
    errors = estimate_uncertainty(problem, curvature)
    assert errors.dispersion == pytest.approx(expected, rel=0.01 if "motion" in parts else 1e-6)
    mean = 2 * expected * explained / np.sum(state.curvature[..., 0] + state.curvature[..., 2])
    assert errors.pairs_px2 == pytest.approx(mean, rel=0.04 if "motion" in parts else 1e-6)


def test_the_variance_of_pairs_is_that_of_their_positions() -> None:
    problem, windows, truth = calibrated(6, motion=MotionSettings(velocity_scale=0.5, absolute=True))
    fit = refine(problem, windows, problem.layout.fill(), RefineOptions())
    off = predicted_positions(problem, problem.layout.unpack(fit.vector))
    off = off - predicted_positions(problem, problem.layout.unpack(truth))
    stated = errors_at(fit.problem, fit.vector, windows.power).pairs_px2
    assert np.mean(np.sum(off**2, axis=-1)) == pytest.approx(stated, rel=0.2)


def test_the_dispersion_is_one_however_far_particles_move() -> None:
    problem, windows, _ = calibrated(7, motion=MotionSettings(velocity_scale=2.0, absolute=True))
    fit = refine(problem, windows, problem.layout.fill(), RefineOptions())
    curvature = expected_curvature(fit.problem, fit.vector, windows.power)
    assert curvature.dispersion < 0.85  # as if trajectories explained nothing
    assert estimate_uncertainty(fit.problem, curvature).dispersion == pytest.approx(1, abs=0.1)
