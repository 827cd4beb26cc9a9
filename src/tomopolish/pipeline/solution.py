"""The result of a fit: geometry, uncertainty, figures and record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tomopolish.dataset.model import Tomogram
from tomopolish.pipeline.fit import Fit
from tomopolish.pipeline.record import fit_record
from tomopolish.pipeline.references import PreparedReferences
from tomopolish.pipeline.resources import Resources
from tomopolish.pipeline.result import refined_geometry, summarise
from tomopolish.pipeline.shells import by_frequency
from tomopolish.pipeline.shown import tilt_picture
from tomopolish.results.tomogram import TomogramResult
from tomopolish.settings.alignment import AlignSettings
from tomopolish.shapes import Array, Float
from tomopolish.solve.uncertainty import Uncertainty, estimate_uncertainty, expected_curvature


def solution(
    fit: Fit,
    settings: AlignSettings,
    resources: Resources,
    references: Sequence[PreparedReferences],
    weights: Sequence[Float[Array, "G s c"] | None],
    given: Tomogram | None = None,
) -> tuple[TomogramResult, Uncertainty]:
    """Return the result of a fit, and its standard errors.

    Parameters
    ----------
    references, weights
        References, and frequency weights of the windows, of each species.
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
    boxes_px = [reference.box_px for reference in references]
    result = summarise(
        fit, geometry, uncertainty, settings, resources.seconds, boxes_px, given or fit.tomogram
    )
    record = replace(
        fit_record(fit, resources.threads),
        by_frequency=by_frequency(fit, references, weights, settings),
        picture=tilt_picture(fit.tomogram.series, fit.windows),
    )
    return replace(result, record=record), uncertainty
