"""The motion model that the page on contributing adds in one file is a motion model, and is refined."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import blocks

import tomopolish
from small_project import make_particles, make_series
from tomopolish.models.motion import motion_model
from tomopolish.models.protocols import MotionModel
from tomopolish.settings.alignment import MotionSettings


@pytest.fixture(scope="module")
def matern() -> Any:
    (block,) = [b for b in blocks() if b.page.name == "contributing.md" and "matern.py" in b.attributes]
    names: dict[str, Any] = {"__name__": "matern"}
    exec(block.text, names)
    return names["MaternMotion"]


def test_its_velocities_have_the_covariance_that_it_states(matern: Any) -> None:
    rng = np.random.default_rng(1)
    positions = rng.uniform(0, 300, (7, 3))
    series = make_series(rng, np.zeros((4, 200, 220), dtype=np.float32))
    settings = matern(velocity_scale=0.2, distance_scale=100.0)
    model = motion_model(settings, series, make_particles(rng, positions))
    assert isinstance(model, MotionModel)
    unit = series.frame_dose / series.pixel_size_angstrom
    coefficients = np.zeros((model.shape[0], model.shape[0], *model.shape[1:]))
    coefficients[np.arange(len(coefficients)), np.arange(len(coefficients)), 0, 0] = 1
    factor = np.stack([model.offsets_px(c)[series.chronological[1], :, 0] for c in coefficients], axis=1)
    x = np.sqrt(3) * np.linalg.norm(positions[:, None] - positions, axis=2) / (100.0 * unit)
    expected = (0.2 * unit) ** 2 * (1 + x) * np.exp(-x)
    np.testing.assert_allclose(factor @ factor.T, expected, atol=1e-8 * (0.2 * unit) ** 2)


def test_it_is_refined_in_place_of_the_built_in_one(
    matern: Any, small_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small_project)
    project = tomopolish.load("Extract/job010/optimisation_set.star")

    def moved(settings: MotionSettings) -> np.ndarray:
        run = tomopolish.align(project, box_px=128, range_px=12, motion=settings)
        trajectories = run.results["TS_01"].alignment.trajectories_px
        assert trajectories is not None
        return np.asarray(trajectories)

    scales = {"velocity_scale": 0.2, "distance_scale": 500.0}
    ours, built_in = moved(matern(**scales)), moved(MotionSettings(**scales))
    assert np.abs(ours).max() > 0.01
    assert np.abs(ours - built_in).max() > 0.01
