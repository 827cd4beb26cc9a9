"""`--shift_only`: one shift per tilt image; positions and angles are those of the input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tomopolish.dataset.model import TiltSeries
from tomopolish.imaging.windows import CorrelationWindows
from tomopolish.settings.alignment import AlignSettings, FitSettings
from tomopolish.shapes import Array, Float
from tomopolish.solve.problem import Problem, evaluate, predicted_positions
from tomopolish.solve.refine import Refinement
from tomopolish.solve.shifts import summed_peaks

WARP_STEPS = 20
CONVERGED_PX = 1e-9


def by_micrographs(fit: FitSettings) -> bool:
    """Return whether shifts are refined by complete predicted micrographs."""
    return fit.shift_only and not fit.shift_only_by_particles


def shifts_alone(settings: AlignSettings) -> AlignSettings:
    """Return settings that with `--shift_only` also keep positions and angles.

    In a complete micrograph particles cannot be held out: their images overlap with their neighbours' boxes.
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
    """Return the solution with the best shift of each tilt image.

    Parameters
    ----------
    windows
        Windows of the particles; their sums are searched where there are no `micrographs`.
    micrographs
        Windows of complete images (`micrographs.micrograph_windows`), which are searched instead.

    Returns
    -------
    The solution, in the form of the full refinement, and warnings.
    """
    shifts_px, at_the_edge = summed_peaks(windows if micrographs is None else micrographs)
    start = np.zeros(problem.layout.size)
    vector = problem.layout.fill(shifts_px=shifts_before_warp(problem, shifts_px))
    before, after = evaluate(problem, start), evaluate(problem, vector)
    warnings: tuple[str, ...] = ()
    if at_the_edge.any():
        listed = ", ".join(str(i + 1) for i in np.flatnonzero(at_the_edge))
        warnings = (
            f"the best shifts of tilt images {listed} of {series.name} are at the limit of the search range: "
            "increase --r",
        )
    refinement = Refinement(
        vector=vector,
        problem=problem,
        start_log_likelihood=before.log_likelihood,
        log_likelihood=after.log_likelihood,
        converged=True,
        evaluations=2,
        history=(before.objective, after.objective),
    )
    return refinement, warnings


def shifts_before_warp(problem: Problem, moves_px: Float[Array, "F 2"]) -> Float[Array, "F 2"]:
    """Return the shifts of projections that move the visible particles by `moves_px` on average.

    Displacements are measured in the image. A projection's shift acts before the image's warp
    (docs/dev/conventions.md), which varies over the image; without a warp the two are equal.
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
