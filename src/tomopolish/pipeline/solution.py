"""The result of a fit: geometry, uncertainty, figures and record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tomopolish.dataset.model import Tomogram
from tomopolish.pipeline.fit import Fit
from tomopolish.pipeline.record import fit_record
from tomopolish.pipeline.resources import Resources
from tomopolish.pipeline.result import refined_geometry, summarise
from tomopolish.results.tomogram import TomogramResult
from tomopolish.settings.alignment import AlignSettings
from tomopolish.solve.uncertainty import Uncertainty, estimate_uncertainty, expected_curvature


def solution(
    fit: Fit,
    settings: AlignSettings,
    resources: Resources,
    boxes_px: Sequence[int],
    given: Tomogram | None = None,
) -> tuple[TomogramResult, Uncertainty]:
    """Return the result of a fit, and its standard errors.

    Parameters
    ----------
    boxes_px
        Edge of the boxes of each species.
    given
        Input from which movements are counted; None: that of the fit.
    """
    with resources.stage("uncertainty"):
        problem, vector = fit.refinement.problem, fit.refinement.vector
        curvature = expected_curvature(problem, vector, fit.windows.power)
        geometry = refined_geometry(fit, curvature, settings)
        uncertainty = estimate_uncertainty(
            problem,
            curvature,
            None if geometry.frame is None else geometry.frame.positions_share,
            threads=resources.threads,
        )
    result = summarise(
        fit, geometry, uncertainty, settings, resources.seconds, boxes_px, given or fit.tomogram
    )
    return replace(result, record=fit_record(fit, resources.threads)), uncertainty
