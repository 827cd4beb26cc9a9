"""The record of a fit for reports agrees with the fit itself."""

from __future__ import annotations

import numpy as np
import pytest

from small_project import align_one, make_problem, make_settings, random_vector
from tomopolish import pipeline
from tomopolish.dataset.project import open_dataset
from tomopolish.pipeline.record import shifted_sums
from tomopolish.solve.problem import pair_values, predicted_positions
from tomopolish.solve.surface import smooth_surface


def test_windows_shifted_by_whole_samples_are_the_windows_themselves() -> None:
    rng = np.random.default_rng(1)
    _, windows = make_problem(rng, tilts=3, particles=5, range_px=6)
    moves = rng.integers(-2, 3, (3, 5, 2))
    found = shifted_sums(smooth_surface(windows), moves.astype(np.float64), 4)
    expected = np.zeros((3, 8, 8))
    for tilt, particle in zip(*np.nonzero(windows.visible), strict=True):
        x, y = moves[tilt, particle] + windows.origin - 4
        expected[tilt] += windows.values[tilt, particle, y : y + 8, x : x + 8]
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_the_centre_of_the_shifted_sum_is_the_log_likelihood() -> None:
    rng = np.random.default_rng(2)
    problem, windows = make_problem(rng, tilts=4, particles=6, range_px=6)
    vector = random_vector(problem, rng)
    moves = predicted_positions(problem, problem.layout.unpack(vector)) - windows.anchors_px
    found = shifted_sums(problem.surface, moves, 3)
    np.testing.assert_allclose(found[:, 3, 3], pair_values(problem, vector).sum(axis=1), atol=1e-4)


def test_a_window_that_lies_elsewhere_adds_nothing() -> None:
    problem, _ = make_problem(np.random.default_rng(3), tilts=2, particles=2, range_px=4)
    far = np.full((2, 2, 2), 1e12)
    assert not shifted_sums(problem.surface, far, 4).any()


@pytest.fixture(scope="module")
def result(mini):  # type: ignore[no-untyped-def]
    settings = make_settings(48, 6)
    dataset = open_dataset(mini / "optimisation_set.star", working_directory=mini)
    series, particles = dataset.load("TS_01")
    prepared = pipeline.prepare(dataset.references(), settings)
    return align_one(series, particles, prepared, settings), series, particles


def test_a_record_adds_up(result) -> None:  # type: ignore[no-untyped-def]
    aligned, series, particles = result
    record, statistics = aligned.record, aligned.statistics
    for likelihood in (record.tilt_log_likelihood, record.particle_log_likelihood):
        before, after = likelihood.sum(axis=0)
        assert after - before == pytest.approx(statistics.log_likelihood_gain, rel=1e-6)
    assert record.visible.sum() == statistics.visible_pairs
    assert len(record.objective) > 1
    assert np.isfinite(record.objective).all()
    assert record.given.particle_names == particles.names
    np.testing.assert_array_equal(record.given.projections_px, series.projections_px)
    centre = record.windows_after.shape[-1] // 2
    for windows, column in ((record.windows_before, 0), (record.windows_after, 1)):
        np.testing.assert_allclose(
            windows[:, centre, centre], record.tilt_log_likelihood[:, column], rtol=1e-4, atol=1e-2
        )
    before, after = record.windows_before.sum(axis=0), record.windows_after.sum(axis=0)
    assert np.unravel_index(after.argmax(), after.shape) == (centre, centre)
    assert after.max() > before.max()
