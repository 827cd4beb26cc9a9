"""The objective is RELION's at RELION's own solutions, on RELION's windows.

See docs/dev/conventions.md, Objective.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from relion_runs import bordered, faulty_windows, final_cost, open_project, open_result
from small_project import make_settings
from tomopolish.dataset.model import Particles, TiltSeries
from tomopolish.imaging.packed import PackedSamples
from tomopolish.imaging.windows import CorrelationWindows
from tomopolish.models.deformation import deformation_from
from tomopolish.physics.geometry import project_trajectories, rotation_vector, tomogram_centre_px
from tomopolish.pipeline import build_problem
from tomopolish.settings.alignment import DeformationSettings, MotionSettings
from tomopolish.solve.problem import Problem, evaluate, predicted_positions
from tomopolish.solve.surface import DisplacementSurface


@dataclass(frozen=True)
class Run:
    """Options of a run's command line."""

    motion: MotionSettings | None = None
    deformation: DeformationSettings | None = None
    range_penalty: float = 0.0


def warp(model: str, per_frame: bool = False) -> Run:
    return Run(deformation=DeformationSettings(model=model, regulariser=1.0, per_frame=per_frame))


STATIC = Run()
MOTION = Run(motion=MotionSettings(velocity_scale=0.1))
MINI_RUNS = {
    "static": STATIC,
    "r4_static": STATIC,
    "motion": MOTION,
    "deformation_Fourier": warp("Fourier"),
    "deformation_spline": warp("spline"),
}
GOLDEN_RUNS = MINI_RUNS | {
    "const_p": STATIC,
    "const_a": STATIC,
    "const_s": STATIC,
    "range_reg": Run(range_penalty=10.0),
    "motion_sq_exp": Run(motion=MotionSettings(velocity_scale=0.1, squared_exponential=True)),
    "motion_max_ed4": Run(motion=MotionSettings(velocity_scale=0.1, max_deformations=4)),
    "deformation_linear": warp("linear"),
    "deformation_Fourier_per_frame": warp("Fourier", per_frame=True),
}

CATMULL_ROM = np.array([[0, -1, 2, -1], [2, 0, -5, 3], [0, 1, 4, -3], [0, 0, -1, 1]]) / 2
"""Weights of four samples as polynomials in the fraction, as in RELION."""


@cache
def inputs(root: Path, box: int, reach: int) -> list[tuple[TiltSeries, Particles, CorrelationWindows]]:
    """Every tomogram with RELION's windows."""
    dataset = open_project(root)
    references = dataset.references()
    loaded = [dataset.load(name) for name in dataset.tomogram_names]
    settings = make_settings(box, reach)
    return [(s, p, faulty_windows(s, p, references, settings)) for s, p in loaded]


def relion_problem(
    series: TiltSeries, particles: Particles, windows: CorrelationWindows, run: Run
) -> Problem:
    """The program's problem on surfaces as RELION interpolates them."""
    settings = make_settings(48, windows.range_px, motion=run.motion, deformation=run.deformation)
    surface = DisplacementSurface(
        coefficients=PackedSamples.exactly(bordered(windows)),
        visible=windows.visible,
        basis=CATMULL_ROM,
        origin=windows.range_px + 3,
        step_px=1.0,
        range_px=windows.range_px,
        length_px=1.0,
        range_penalty=run.range_penalty,
    )
    return replace(build_problem(series, particles, windows, settings), surface=surface)


def relion_solution(
    problem: Problem, start: tuple[TiltSeries, Particles], end: tuple[TiltSeries, Particles], run: Run
) -> np.ndarray:
    """RELION's solution as the flat vector of the program's parameters."""
    (series, particles), (refined_series, refined) = start, end
    before, after = series.projections_px, refined_series.projections_px
    centre = tomogram_centre_px(series.tomogram_size_px)
    values = {
        "angles": rotation_vector(after[:, :3, :3] @ np.swapaxes(before[:, :3, :3], 1, 2)),
        "shifts_px": ((after - before) @ [*centre, 1.0])[:, :2],
        "positions_px": refined.positions_px - particles.positions_px,
    }
    if run.motion is not None:
        assert refined.trajectories_px is not None
        values["motion"] = problem.motion.coefficients(np.moveaxis(refined.trajectories_px, 1, 0))
    if run.deformation is not None:
        assert refined_series.deformation is not None
        coefficients = refined_series.deformation.coefficients
        if not run.deformation.per_frame:
            assert (coefficients == coefficients[0]).all()
        values["warp"] = coefficients if run.deformation.per_frame else coefficients[:1]
    return problem.layout.fill(**values)


def relion_positions(series: TiltSeries, particles: Particles) -> np.ndarray:
    """2D positions of RELION's solution, straight from its files."""
    points = np.broadcast_to(particles.positions_px, (len(series), len(particles), 3))
    if particles.trajectories_px is not None:
        points = points + np.moveaxis(particles.trajectories_px, 1, 0)
    q = project_trajectories(series.projections_px, points)[..., :2]
    if series.deformation is None:
        return q
    model, coefficients = deformation_from(series.deformation, series.image_size_px)
    return q + model.displacement_px(q, coefficients)


def assert_cost(root: Path, box: int, reach: int, name: str, run: Run) -> None:
    for series, particles, windows in inputs(root, box, reach):
        result = open_result(root, name).load(series.name)
        problem = relion_problem(series, particles, windows, run)
        vector = relion_solution(problem, (series, particles), result, run)
        parameters = problem.layout.unpack(vector)
        np.testing.assert_allclose(
            predicted_positions(problem, parameters), relion_positions(*result), atol=2e-5
        )
        # RELION's priors: Σc² of the motion, λ Σ c² (|k|² c² for Fourier) of the warp; none of anything else
        prior = np.sum(parameters.motion**2)
        prior += np.sum(problem.deformation.penalty_weights * parameters.warp**2)
        assert (prior > 0) == (run.motion is not None or run.deformation is not None)
        cost = -evaluate(problem, vector).log_likelihood + prior
        assert cost == pytest.approx(final_cost(root, name, series.name), rel=5e-7)


@pytest.mark.parametrize("name", MINI_RUNS)
def test_small_data_set(mini: Path, name: str) -> None:
    assert_cost(mini, 48, 6, name, MINI_RUNS[name])


@pytest.mark.parametrize("name", GOLDEN_RUNS)
def test_larger_data_set(golden: Path, name: str) -> None:
    assert_cost(golden, 96, 8, name, GOLDEN_RUNS[name])
