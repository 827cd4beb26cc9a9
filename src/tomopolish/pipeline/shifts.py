"""`--shift_only`: one shift per tilt image; positions and angles stay as they came in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tomopolish.correlation.windows import CorrelationWindows
from tomopolish.dataset.model import TiltSeries
from tomopolish.settings import AlignSettings
from tomopolish.solve.problem import Problem, evaluate
from tomopolish.solve.refine import Refinement
from tomopolish.solve.shifts import summed_peaks


def shifts_alone(settings: AlignSettings) -> AlignSettings:
    """With `--shift_only`, settings that also keep positions and angles; otherwise the same ones."""
    if not settings.fit.shift_only:
        return settings
    return replace(settings, fit=replace(settings.fit, const_positions=True, const_angles=True))


def refine_shifts(
    series: TiltSeries, problem: Problem, windows: CorrelationWindows
) -> tuple[Refinement, tuple[str, ...]]:
    """Move each tilt image to the highest point of its particles' summed windows.

    Returns the solution in the form that the full refinement has, and warnings.
    """
    peaks = summed_peaks(windows)
    start = np.zeros(problem.layout.size)
    vector = problem.layout.fill(shifts_px=peaks.shifts_px)
    before, after = evaluate(problem, start), evaluate(problem, vector)
    warnings: tuple[str, ...] = ()
    if peaks.at_the_edge.any():
        listed = ", ".join(str(i + 1) for i in np.flatnonzero(peaks.at_the_edge))
        warnings = (
            f"the best shifts of tilt images {listed} of {series.name} lie at the end of the range that "
            "was searched: allow more with --r",
        )
    refinement = Refinement(
        vector=vector,
        problem=problem,
        start_log_likelihood=before.log_likelihood,
        log_likelihood=after.log_likelihood,
        converged=True,
        evaluations=2,
        coarse_evaluations=0,
        history=(before.objective, after.objective),
    )
    return refinement, warnings
