"""Probabilities of particles and tilt images, on agreements whose kinds are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from small_project import make_problem
from tomopolish.solve.mixture import estimate_mixture
from tomopolish.solve.outliers import LEAST_WEIGHT, judge
from tomopolish.solve.problem import evaluate, gradient
from tomopolish.solve.refine import RefineOptions, refine


def drawn(rng: np.random.Generator, good: int, false: int, power: float, scale: float = 1.0) -> tuple:
    """Agreements of good and false particles, the variance of their noise, and what chance gives."""
    variance = np.full(good + false, 1 / power) * rng.uniform(0.7, 1.4, good + false)
    noise = rng.normal(size=good + false) * np.sqrt(variance)
    chance = 3.0 * np.sqrt(variance)
    agreement = scale * (1 + 0.08 * rng.normal(size=good + false)) + noise
    best = chance + 0.4 * np.abs(noise)
    agreement[good:] = best[good:]
    return agreement, variance, chance


@pytest.mark.parametrize("scale", [0.4, 1.0, 3.0])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.55])
def test_false_particles_are_told_from_good_ones(share: float, scale: float) -> None:
    rng = np.random.default_rng(11)
    wrong = []
    for _ in range(10):
        false = round(share * 80)
        agreement, variance, chance = drawn(rng, 80 - false, false, 900 / scale**2, scale)
        found = estimate_mixture(agreement, variance, chance)
        truth = np.arange(80) < 80 - false
        wrong.append(np.mean((found.probability >= 0.5) != truth))
        assert found.centre == pytest.approx(scale, rel=0.1)
    assert np.mean(wrong) < 0.01


def test_probabilities_mean_what_they_say_when_particles_are_faint() -> None:
    rng = np.random.default_rng(3)
    stated, right = [], []
    for _ in range(60):
        agreement, variance, chance = drawn(rng, 70, 30, 25.0)
        stated.append(estimate_mixture(agreement, variance, chance).probability)
        right.append(np.arange(100) < 70)
    probability, truth = np.concatenate(stated), np.concatenate(right)
    unsure = (probability > 0.6) & (probability < 0.97)
    assert unsure.sum() > 30
    assert truth[unsure].mean() == pytest.approx(probability[unsure].mean(), abs=0.15)


def test_particles_of_one_kind_only_are_all_good() -> None:
    rng = np.random.default_rng(8)
    for count in (1, 2, 5, 60):
        agreement, variance, chance = drawn(rng, count, 0, 400.0)
        assert estimate_mixture(agreement, variance, chance).probability.min() > 0.9


def test_weights_multiply_value_gradient_and_curvature() -> None:
    rng = np.random.default_rng(5)
    problem, _ = make_problem(rng)
    vector = problem.layout.pack(problem.layout.unpack(0.1 * rng.normal(size=problem.layout.size)))
    weights = rng.uniform(0, 1, problem.surface.visible.shape)
    weighted = replace(problem, pair_weights=weights)
    step = 1e-4 * rng.normal(size=len(vector))
    high, low = evaluate(weighted, vector + step), evaluate(weighted, vector - step)
    slope = gradient(weighted, evaluate(weighted, vector)) @ step
    assert (high.objective - low.objective) / 2 == pytest.approx(slope, rel=1e-3)
    halved = replace(problem, pair_weights=np.full(weights.shape, 0.5))
    whole = evaluate(problem, vector)
    assert evaluate(halved, vector).log_likelihood == pytest.approx(whole.log_likelihood / 2)
    np.testing.assert_allclose(evaluate(halved, vector).curvature, whole.curvature / 2)


def test_a_pure_noise_particle_does_not_pull_and_a_blank_image_is_empty() -> None:
    """Windows have a peak at the same displacement, but for one particle and one image of noise."""
    rng = np.random.default_rng(2)
    problem, windows = make_problem(rng, tilts=9, particles=12, symmetric=True)
    grid = (np.arange(windows.values.shape[-1]) - windows.origin) * windows.step_px
    peak = np.exp(-(grid[:, None] ** 2 + grid[None, :] ** 2) / 4)
    values = 4.0 * windows.values / windows.values.std() * 0.5
    values += (60 * peak).astype(np.float32)
    values[:, 7] -= (60 * peak).astype(np.float32)
    values[4] -= (60 * peak).astype(np.float32)
    values[4, 7] += (60 * peak).astype(np.float32)
    windows = replace(windows, values=values.astype(np.float32), power=60.0 * windows.visible)
    from tomopolish.solve.surface import smooth_surface

    problem = replace(problem, surface=smooth_surface(windows))
    options = RefineOptions(owner=np.zeros(12, dtype=np.int64))
    found = refine(problem, windows, np.zeros(problem.layout.size), options)
    assert found.trust is not None and found.problem.pair_weights is not None
    assert np.flatnonzero(found.trust.particles < 0.5).tolist() == [7]
    assert np.flatnonzero(found.trust.tilts < 0.5).tolist() == [4]
    assert found.problem.pair_weights[0, 7] < 0.1
    assert found.problem.pair_weights.min() >= LEAST_WEIGHT
    trust = judge(found.problem, evaluate(found.problem, found.vector), windows.power, options.owner, 6.0)
    np.testing.assert_allclose(trust.particles, found.trust.particles, atol=0.05)
