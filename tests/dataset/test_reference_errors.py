"""The sets, read by us, have the errors against the truth that the references' notes state.

This goes through everything at once: projections, positions, trajectories and warps of both dialects.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tomopolish.dataset.project import Dataset, open_dataset
from tomopolish.physics.geometry import project_trajectories


def rms_error_angstrom(dataset: Dataset) -> float:
    """RMS 2D distance to the true positions over visible pairs, warps left out."""
    truth = json.loads(Path("truth.json").read_text())
    errors = []
    for name in dataset.tomogram_names:
        series, particles = dataset.load(name)
        points = np.broadcast_to(particles.positions_px, (len(series), len(particles), 3))
        if particles.trajectories_px is not None:
            points = points + np.swapaxes(particles.trajectories_px, 0, 1)
        found = project_trajectories(series.projections_px, points)[..., :2]
        true = np.swapaxes(np.array(truth[name]["uv"]), 0, 1)
        margin, (w, h) = truth[name]["box"] / 2, truth[name]["size"]
        visible = np.all((true >= margin) & (true <= np.array([w, h]) - margin), axis=-1)
        errors.append(((found - true)[visible] * series.pixel_size_angstrom).ravel())
    squares = np.concatenate(errors) ** 2
    return float(np.sqrt(2 * squares.mean()))


def open_run(run: str) -> Dataset:
    optimisation_set = Path("optimisation_set_r4.star" if run.startswith("r4") else "optimisation_set.star")
    if not run:
        return open_dataset(optimisation_set)
    folder = Path("relion") / run
    motion = folder / "motion.star"
    return open_dataset(
        optimisation_set,
        tomograms=folder / "tomograms.star",
        particles=folder / "particles.star",
        trajectories=motion if motion.exists() else None,
    )


@pytest.mark.parametrize(("run", "stated"), [("", 10.40), ("static", 0.478), ("motion", 0.477)])
def test_errors_of_the_small_reference(project: Path, run: str, stated: float) -> None:
    assert rms_error_angstrom(open_run(run)) == pytest.approx(stated, abs=0.006)


@pytest.mark.parametrize(("run", "stated"), [("", 11.16), ("static", 0.405), ("motion", 0.395)])
def test_errors_of_the_larger_reference(in_golden: Path, run: str, stated: float) -> None:
    assert rms_error_angstrom(open_run(run)) == pytest.approx(stated, abs=0.006)


@pytest.mark.parametrize("run", ["static", "motion"])
def test_both_dialects_err_alike(in_golden: Path, run: str) -> None:
    five, four = rms_error_angstrom(open_run(run)), rms_error_angstrom(open_run(f"r4_{run}"))
    assert four == pytest.approx(five, abs=0.02)


def test_every_reference_run_with_particles_is_read(in_golden: Path) -> None:
    runs = sorted(path.parent.name for path in Path("relion").glob("*/particles.star"))
    assert len(runs) >= 12
    for run in runs:
        error = rms_error_angstrom(open_run(run))
        assert np.isfinite(error)
        if not run.startswith("deformation"):
            assert error < 11
