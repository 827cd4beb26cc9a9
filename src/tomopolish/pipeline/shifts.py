"""`--shift_only`: one shift per tilt image; positions and angles stay as they came in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tomopolish.dataset.model import TiltSeries
from tomopolish.imaging.windows import CorrelationWindows
from tomopolish.settings.alignment import AlignSettings, FitSettings
from tomopolish.shapes import Float
from tomopolish.solve.problem import Problem, evaluate, predicted_positions
from tomopolish.solve.refine import Refinement
from tomopolish.solve.shifts import summed_peaks

Array = np.ndarray

WARP_STEPS = 20
CONVERGED_PX = 1e-9


def by_micrographs(fit: FitSettings) -> bool:
    """Whether shifts are to come from whole predicted micrographs."""
    return fit.shift_only and not fit.shift_only_by_particles


def shifts_alone(settings: AlignSettings) -> AlignSettings:
    """With `--shift_only`, settings that also keep positions and angles; otherwise the same ones.

    In a whole micrograph particles cannot be held out: their images lie in their neighbours' boxes.
    """
    fit = settings.fit
    if not fit.shift_only:
        return settings
    held_out = 0.0 if by_micrographs(fit) else fit.held_out_fraction
    fixed = replace(fit, const_positions=True, const_angles=True, held_out_fraction=held_out)
    return replace(settings, fit=fixed)


def refine_shifts(
    series: TiltSeries,
    problem: Problem,
    windows: CorrelationWindows,
    micrographs: CorrelationWindows | None = None,
) -> tuple[Refinement, tuple[str, ...]]:
    """Move each tilt image to where it fits its particles best.

    Parameters
    ----------
    windows
        Of the particles; their sums are searched where there is nothing else.
    micrographs
        Windows of whole images (`micrographs.micrograph_windows`), to be searched instead.

    Returns
    -------
    The solution in the form that the full refinement has, and warnings.
    """
    peaks = summed_peaks(windows if micrographs is None else micrographs)
    start = np.zeros(problem.layout.size)
    vector = problem.layout.fill(shifts_px=shifts_before_warp(problem, peaks.shifts_px))
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


def shifts_before_warp(problem: Problem, moves_px: Float[Array, "F 2"]) -> Float[Array, "F 2"]:
    """Shifts of the projections that move the visible particles by `moves_px` in the images, on average.

    What is measured is a displacement in the image. A projection's shift acts before the image's warp
    (docs/dev/conventions.md), which is a little different elsewhere; without a warp the two are the same.
    """
    seen = problem.surface.visible
    if not problem.warps:
        return moves_px
    count = np.maximum(seen.sum(axis=1), 1)[:, None]
    parameters = problem.layout.unpack(np.zeros(problem.layout.size))
    given = predicted_positions(problem, parameters)
    parameters.shifts_px[...] = moves_px
    for _ in range(WARP_STEPS):
        moved = np.where(seen[..., None], predicted_positions(problem, parameters) - given, 0)
        rest = moves_px - moved.sum(axis=1) / count
        rest[~seen.any(axis=1)] = 0
        parameters.shifts_px[...] += rest
        if np.abs(rest).max(initial=0) < CONVERGED_PX:
            break
    return parameters.shifts_px.copy()
