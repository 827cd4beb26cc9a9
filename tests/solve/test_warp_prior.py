"""The spread of a warp that the user does not choose: estimated from the images, and limited."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from relion_runs import open_project
from small_project import align_one, make_problem, make_settings
from tomopolish import pipeline
from tomopolish.models.deformation import deformation_from
from tomopolish.settings.alignment import DEFORMATION_MODELS, DeformationSettings, MotionSettings
from tomopolish.solve.elimination import WarpFactor
from tomopolish.solve.prior_widths import informed_warp_precision
from tomopolish.solve.surface import correlation_length_px


@pytest.mark.parametrize("model", DEFORMATION_MODELS)
@pytest.mark.parametrize("per_frame", [False, True], ids=["one warp", "one each"])
@pytest.mark.parametrize("motion", [None, MotionSettings()], ids=["still", "motion"])
def test_warps_converge_and_stay_small_where_there_are_none(
    mini: Path, model: str, per_frame: bool, motion: MotionSettings | None
) -> None:
    """Six particles determine a few of a spline's 72 coefficients; the small data set has no warp."""
    dataset = open_project(mini)
    series, particles = dataset.load("TS_01")
    deformation = DeformationSettings(model=model, per_frame=per_frame)
    settings = make_settings(48, 6, deformation=deformation, motion=motion)
    prepared = pipeline.prepare(dataset.references(), settings)
    result = align_one(series, particles, prepared, settings)
    assert not result.statistics.warnings
    assert result.statistics.evaluations <= 100
    warp = result.alignment.deformation
    assert warp is not None
    moved, _ = deformation_from(warp, series.image_size_px)
    nodes = np.stack(np.meshgrid(*(np.linspace(0, size, 3) for size in series.image_size_px)), axis=-1)
    positions = np.broadcast_to(nodes.reshape(-1, 2), (len(series), 9, 2))
    g = moved.displacement_px(positions, warp.coefficients)
    assert np.abs(g).max() < 1.5


def test_a_given_regulariser_is_the_prior_and_the_range_its_limit() -> None:
    rng = np.random.default_rng(0)
    for weight, precision in ((1.0, 2.0), (1e-9, 1 / 36)):
        asked = DeformationSettings(model="spline", regulariser=weight)
        problem, _ = make_problem(rng, range_px=6, deformation=asked)
        np.testing.assert_allclose(problem.layout.unpack(problem.precision).warp, precision)


def test_without_regulariser_warps_begin_within_the_peaks() -> None:
    for model, unit_px in (("spline", 1.0), ("Fourier", 1.0), ("linear", np.hypot(220, 200) / 2)):
        asked = DeformationSettings(model=model)
        problem, windows = make_problem(np.random.default_rng(1), range_px=6, deformation=asked)
        found = problem.layout.unpack(problem.precision).warp
        length = correlation_length_px(windows)
        assert 1 < length < 6
        np.testing.assert_allclose(found, (unit_px / length) ** 2)


def test_the_correlation_length_does_not_depend_on_the_scale_of_the_windows() -> None:
    """A reference that its mask nearly empties has windows whose squares single precision cannot hold."""
    _, windows = make_problem(np.random.default_rng(1), range_px=6)
    length = correlation_length_px(windows)
    for factor in (1e-30, 1e25):
        scaled = replace(windows, values=windows.values * np.float32(factor))
        assert correlation_length_px(scaled) == pytest.approx(length, rel=1e-4)
    for constant in (0, 3):
        flat = replace(windows, values=np.full_like(windows.values, constant))
        assert correlation_length_px(flat) == windows.step_px


@pytest.mark.parametrize("spread", [0.5, 2.0])
def test_the_spread_is_that_of_the_coefficients_that_images_determine(spread: float) -> None:
    rng = np.random.default_rng(2)
    asked = DeformationSettings(model="spline", per_frame=True)
    problem, _ = make_problem(rng, tilts=30, range_px=6, deformation=asked)
    prior = problem.layout.unpack(problem.precision).warp
    shown = rng.random(prior.shape) < 0.3
    warp = np.where(shown, rng.normal(size=prior.shape) * spread, 0.0)
    factor = WarpFactor(
        factors=tuple(np.diag(np.sqrt(row + 1e6 * seen)) for row, seen in zip(prior, shown, strict=True))
    )
    vector = problem.layout.fill(warp=warp)
    found = informed_warp_precision(problem, vector, factor, 6.0)
    assert found.shape == warp.shape and np.ptp(found) == 0
    assert 1 / np.sqrt(found[0, 0]) == pytest.approx(spread, rel=0.1)
    none = replace(factor, factors=tuple(np.diag(np.sqrt(row)) for row in prior))
    assert np.isfinite(informed_warp_precision(problem, 0 * vector, none, 6.0)).all()
