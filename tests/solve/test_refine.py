"""From windows to geometry: planted displacements are found from afar, the weakly seen stay put.

See docs/dev/conventions.md, Objective.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from small_project import make_particles, make_problem, make_series, make_settings, smooth_noise
from tomopolish.imaging.windows import CorrelationWindows
from tomopolish.physics.geometry import project
from tomopolish.pipeline import build_problem
from tomopolish.solve import search
from tomopolish.solve.prior_widths import informed_precision
from tomopolish.solve.problem import Problem, evaluate, predicted_positions
from tomopolish.solve.refine import RefineOptions, refine

RANGE = 10


@dataclass(frozen=True)
class Planted:
    """Windows whose peaks lie where a known solution puts the particles."""

    problem: Problem
    windows: CorrelationWindows
    truth: np.ndarray
    true_displacements: np.ndarray

    def displacements(self, vector: np.ndarray) -> np.ndarray:
        problem = self.problem
        return predicted_positions(problem, problem.layout.unpack(vector)) - problem.anchors_px

    def rms_error_px(self, vector: np.ndarray) -> float:
        error = (self.displacements(vector) - self.true_displacements)[self.windows.visible]
        return float(np.sqrt(np.mean(np.sum(error**2, axis=-1))))


def planted(
    seed: int,
    largest_px: float,
    tilts: int = 15,
    particles: int = 12,
    noise: float = 1.0,
    hide: tuple[np.ndarray, ...] = (),
) -> Planted:
    """Peaks of 40 nats, oscillating like real ones, under correlated noise; largest displacement as given."""
    rng = np.random.default_rng(seed)
    series = make_series(rng, np.zeros((tilts, 300, 320), dtype=np.float32))
    positions = (
        rng.uniform(-0.5, 0.5, (particles, 3)) * [150, 150, 60] + np.array(series.tomogram_size_px) / 2
    )
    found = make_particles(rng, positions)
    anchors = project(series.projections_px, positions)[..., :2]
    half = RANGE + 4
    windows = CorrelationWindows(
        values=np.zeros((tilts, particles, 2 * half, 2 * half), dtype=np.float32),
        anchors_px=anchors,
        visible=np.ones((tilts, particles), dtype=bool),
        power=np.full((tilts, particles), 40.0),
        range_px=RANGE,
    )
    for pairs in hide:
        windows.visible[tuple(pairs)] = False
    problem = build_problem(series, found, windows, make_settings(48, RANGE))

    def truth(scale: float) -> tuple[np.ndarray, np.ndarray]:
        mine = np.random.default_rng(seed + 1)
        vector = scale * problem.layout.fill(
            angles=mine.normal(size=(tilts, 3)) * 0.01,
            shifts_px=mine.normal(size=(tilts, 2)),
            positions_px=mine.normal(size=(particles, 3)),
        )
        return vector, predicted_positions(problem, problem.layout.unpack(vector)) - anchors

    scale = 1.0
    for _ in range(30):
        scale *= largest_px / np.linalg.norm(truth(scale)[1], axis=-1).max()
    vector, d = truth(scale)
    axis = np.arange(-half, half)
    r2 = (axis[None, None, :, None] - d[..., 1, None, None]) ** 2
    r2 = r2 + (axis[None, None, None, :] - d[..., 0, None, None]) ** 2
    peak = 40 * np.exp(-r2 / (2 * 2.0**2)) * np.cos(0.9 * np.sqrt(r2))
    waves = smooth_noise(rng, (tilts, particles, 2 * half, 2 * half), 0.0)
    kernel = np.exp(-((axis[:, None] - axis[None, :]) ** 2) / 2)
    waves = kernel @ waves @ kernel
    values = (peak + noise * 6 * waves / waves.std()) * windows.visible[..., None, None]
    windows = replace(windows, values=values.astype(np.float32))
    problem = build_problem(series, found, windows, make_settings(48, RANGE))
    return Planted(problem, windows, vector, d)


@pytest.mark.parametrize("seed", range(4))
def test_displacements_up_to_the_range_are_found_as_if_started_at_the_truth(seed: int) -> None:
    case = planted(seed, 0.9 * RANGE)
    zero = np.zeros(case.problem.layout.size)
    start = case.rms_error_px(zero)
    found = refine(case.problem, case.windows, zero, RefineOptions())
    ideal = refine(case.problem, case.windows, case.truth, RefineOptions(robust_start=False))
    assert found.converged and ideal.converged
    assert start > 3 and case.rms_error_px(found.vector) < 0.25
    assert case.rms_error_px(found.vector) < 1.1 * case.rms_error_px(ideal.vector)
    assert found.evaluations <= 60
    assert found.log_likelihood > found.start_log_likelihood
    assert found.log_likelihood == pytest.approx(evaluate(found.problem, found.vector).log_likelihood)


@pytest.mark.parametrize("seed", range(2))
def test_some_particles_determine_the_projections_and_the_others_follow(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """The optimum is that of a search with all particles, whichever are searched first."""
    case = planted(seed, 0.8 * RANGE, particles=60)
    zero = np.zeros(case.problem.layout.size)
    together = refine(case.problem, case.windows, zero, RefineOptions())
    monkeypatch.setattr(search, "FEWEST_SEARCHED", 25)
    monkeypatch.setattr(search, "ENOUGH_POWER", 0.0)
    assert len(search.searched_first(case.windows.visible, case.windows.power)) == 25
    for threads in (1, 2):
        found = refine(case.problem, case.windows, zero, RefineOptions(threads=threads))
        assert case.rms_error_px(found.vector) < 0.3
        np.testing.assert_allclose(*map(case.displacements, (found.vector, together.vector)), atol=0.01)
        assert found.log_likelihood == pytest.approx(together.log_likelihood, rel=1e-5)


def test_weak_particles_are_searched_in_larger_numbers() -> None:
    visible = np.ones((5, 2000), dtype=bool)
    visible[:, 7] = False
    for power, expected in ((50.0, search.FEWEST_SEARCHED), (4.0, 500), (0.01, 2000), (0.0, 2000)):
        chosen = search.searched_first(visible, np.full(visible.shape, power))
        assert len(chosen) == pytest.approx(expected, abs=1) and len(np.unique(chosen)) == len(chosen)
        assert len(chosen) == 2000 or 7 not in chosen


def test_a_derivative_alone_does_not_get_there() -> None:
    """Without the search, the same windows end in a worse optimum."""
    case = planted(0, 0.9 * RANGE)
    zero = np.zeros(case.problem.layout.size)
    options = RefineOptions(robust_start=False)
    assert case.rms_error_px(refine(case.problem, case.windows, zero, options).vector) > 1


def test_a_particle_seen_once_stays_near_its_input_along_the_beam() -> None:
    tilts, particle = np.arange(15), 4
    hidden = (np.delete(tilts, 7), np.full(14, particle))
    case = planted(5, 5.0, hide=(hidden,))
    found = refine(case.problem, case.windows, np.zeros(case.problem.layout.size), RefineOptions())
    moved = case.problem.layout.unpack(found.vector).positions_px
    R = case.problem.projections_px[7, :3, :3]
    along = R @ moved[particle]
    assert abs(along[2]) < 0.05
    assert np.linalg.norm(moved, axis=1).max() < RANGE
    assert case.rms_error_px(found.vector) < 0.35


def test_a_tilt_image_that_shows_one_particle_hardly_turns() -> None:
    hidden = (np.full(11, 3), np.delete(np.arange(12), 6))
    case = planted(6, 5.0, hide=(hidden,))
    found = refine(case.problem, case.windows, np.zeros(case.problem.layout.size), RefineOptions())
    angles = case.problem.layout.unpack(found.vector).angles
    others = np.linalg.norm(np.delete(angles, 3, axis=0), axis=1)
    assert np.linalg.norm(angles[3]) < others.max()
    # what one position cannot tell apart from a shift is left alone: rotation about the image's own axes
    shifts = case.problem.layout.unpack(found.vector).shifts_px
    assert np.linalg.norm(shifts[3]) < RANGE


def test_a_tilt_image_that_shows_nothing_keeps_its_projection() -> None:
    hidden = (np.full(12, 2), np.arange(12))
    case = planted(7, 5.0, hide=(hidden,))
    found = refine(case.problem, case.windows, np.zeros(case.problem.layout.size), RefineOptions())
    parts = case.problem.layout.unpack(found.vector)
    assert not parts.angles[2].any() and not parts.shifts_px[2].any()


def test_what_is_not_shown_says_nothing_about_how_far_the_rest_may_go() -> None:
    """Most tilt images may be excluded: their zeros do not count as evidence of a good input."""
    hidden = np.nonzero(np.repeat(np.arange(15) >= 6, 12).reshape(15, 12))
    case = planted(8, 5.0, hide=(hidden,))
    layout = case.problem.layout
    parts = layout.unpack(case.truth.copy())
    parts.angles[6:] = 0
    parts.shifts_px[6:] = 0
    precision = layout.unpack(informed_precision(case.problem, layout.pack(parts)))
    assert precision.shifts_px[0, 0] == pytest.approx(1 / np.mean(parts.shifts_px[:6] ** 2))
    assert precision.positions_px[0, 0] == pytest.approx(1 / np.mean(parts.positions_px**2))


@pytest.mark.parametrize(("strays", "counted"), [(1, False), (6, True)])
def test_a_few_particles_that_strayed_do_not_widen_the_prior(strays: int, counted: bool) -> None:
    problem, _ = make_problem(np.random.default_rng(3), tilts=4, particles=40, symmetric=True)
    layout = problem.layout
    problem = replace(
        problem,
        precision=layout.fill(angles=1.0, shifts_px=1e-4, positions_px=1e-4),
        surface=replace(problem.surface, visible=np.ones((4, 40), dtype=bool)),
    )
    vector = layout.fill()
    positions = layout.unpack(vector).positions_px
    positions[:] = 1.5 * np.random.default_rng(1).standard_normal((40, 3))
    usual = layout.unpack(informed_precision(problem, vector)).positions_px.mean() ** -0.5
    positions[:strays] = [9.0, -8.0, 26.0]
    found = layout.unpack(informed_precision(problem, vector)).positions_px.mean() ** -0.5
    assert bool(found > 2 * usual) is counted
    assert counted or found == pytest.approx(usual, rel=0.1)
