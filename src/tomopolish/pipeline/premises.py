"""Tests of the premises of the verdict: the right reference, orientations that belong to it, real particles.

See docs/evidence.md. A premise is doubted only where the data contradict it significantly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tomopolish.imaging.checks import BANDS, MIRRORS
from tomopolish.pipeline.evidence import values_at
from tomopolish.pipeline.fit import Fit
from tomopolish.pipeline.references import PreparedReferences
from tomopolish.results import doubts
from tomopolish.results.tomogram import FitRecord, TomogramResult
from tomopolish.settings.alignment import AlignSettings
from tomopolish.shapes import Array, Float, Float32
from tomopolish.solve.outliers import SHOWN
from tomopolish.solve.uncertainty import Uncertainty

SIGNIFICANT = 4.0
"""Standard deviations from which on a difference contradicts a premise."""
ABSENT = 2.0
"""Standard deviations of noise below which held-out pairs do not agree with the reference anywhere."""
CLEARLY_BETTER, FEWEST_MIRRORED = 4.5, 10
"""Standard errors by which a mirror image's windows must be higher, and number of pairs that can show it."""
DEEPER_TROUGH = 1.3
"""Depth of the troughs of summed windows, over the height of their peaks, from which contrast is inverted."""
LEAST_AGREEMENT = 0.05
"""Agreement of held-out pairs below which they do not agree with the reference anywhere, however precise."""
LEAST_SCALE = 0.3
"""Factor that the references need below which the images hold much less signal than predicted."""
LEAST_DETAIL, LEAST_DETAIL_UNEXPLAINED = 0.3, 0.5
"""Agreement in the middle band, over that in the lowest, below which detail is missing: where the reference
explains more than `EXPLAINED` of its signal in the lowest band, and where it explains less."""
EXPLAINED = 0.5
PRECISE, HARDLY_PRECISE = 0.25, 0.4
"""Standard deviation of the middle band's agreement, over the lowest band's: below the first its value
decides, beyond the second nothing does; in between it must be a standard deviation lower."""
MOSTLY_FALSE = 0.5
"""Share of false particles from which on the premise that there are particles fails."""


def examine(
    fit: Fit, record: FitRecord, settings: AlignSettings, references: Sequence[PreparedReferences]
) -> tuple[str, ...]:
    """Return the doubts about the half maps of all species, and about one tomogram's evidence.

    They are those of `results.doubts`.
    """
    evidence = fit.evidence
    found = [kind for reference in references for kind in reference.doubts]
    if evidence is None:
        return tuple(found)
    if _is_inverted(record):
        found.append(doubts.INVERTED)
    found += _doubts_of_checks(fit, settings.weights.in_units_of_noise)
    error = evidence.agreement_error if settings.weights.in_units_of_noise else 0.0
    if evidence.agreement_after < max(LEAST_AGREEMENT, ABSENT * error):
        found.append(doubts.NO_AGREEMENT)
    if settings.fit.reference_scale is None and max(fit.scales) < LEAST_SCALE:
        found.append(doubts.WEAK_SIGNAL)
    trust = fit.refinement.trust
    if trust is not None and np.mean(trust.particles < SHOWN) > MOSTLY_FALSE:
        found.append(doubts.FALSE_PARTICLES)
    return tuple(found)


def moved_angstrom(fit: Fit) -> float:
    """Return how far pairs moved in the images, RMS, Å."""
    return _rms_angstrom(fit, np.sum(fit.refinement.displacements_px**2, axis=-1)[fit.refinement.shown])


def error_angstrom(fit: Fit, uncertainty: Uncertainty) -> float:
    """Return the standard error of where pairs are in the images, RMS, Å."""
    rows = fit.refinement.problem.projections_px[:, :2, :3]
    placed = np.einsum("fij,pj->fp", rows**2, uncertainty.positions_px**2)
    variance = placed + np.sum(uncertainty.shifts_px**2, axis=1)[:, None]
    return _rms_angstrom(fit, variance[fit.refinement.shown])


def _rms_angstrom(fit: Fit, squares_px2: Float[Array, "N"]) -> float:
    pixel = fit.tomogram.series.pixel_size_angstrom
    return pixel * float(np.sqrt(squares_px2.mean())) if len(squares_px2) else 0.0


def with_findings(
    result: TomogramResult, kinds: Sequence[str], moved_angstrom: float, error_angstrom: float
) -> TomogramResult:
    """Return the result with doubts about its evidence, and with how far the refinement moved pairs."""
    evidence = result.statistics.evidence
    if evidence is None:
        return result
    evidence = replace(
        evidence,
        doubts=tuple(dict.fromkeys(kinds)),
        moved_angstrom=moved_angstrom,
        error_angstrom=error_angstrom,
    )
    return replace(result, statistics=replace(result.statistics, evidence=evidence))


def _is_inverted(record: FitRecord) -> bool:
    """Return whether sums of windows about the input positions have troughs rather than peaks."""
    sums = record.windows_before - record.windows_before.mean(axis=(1, 2), keepdims=True)
    high, low = sums.max(axis=(1, 2)), -sums.min(axis=(1, 2))
    counted = record.tilt_power > 0
    if not counted.any():
        return False
    deeper = float(low[counted].sum()) > DEEPER_TROUGH * float(high[counted].sum())
    difference = (low - high)[counted]
    error = difference.std(ddof=1) / np.sqrt(len(difference)) if len(difference) > 2 else np.inf
    return deeper and float(difference.mean()) > SIGNIFICANT * error


def _doubts_of_checks(fit: Fit, in_units_of_noise: bool) -> list[str]:
    """Return the doubts from pairs that were compared with mirror images and bands of the reference.

    Pairs whose box holds more noise than their tilt image do not count.
    """
    checks = fit.windows.checks
    if checks is None:
        return []
    place = (checks.tilts, checks.particles)
    counted = fit.refinement.shown[place]
    if fit.windows.tempering is not None:
        counted = counted & (fit.windows.tempering[place] == 1)
    if not counted.any():
        return []
    kinds = [doubts.MIRRORED] if _is_mirrored(checks.values[:, counted]) else []
    if in_units_of_noise:
        moved = fit.refinement.displacements_px[place][counted]
        bands = checks.values[len(MIRRORS) :, counted]
        gained = np.stack([values_at(fit.windows, values, moved) for values in bands]).sum(axis=1)
        if _lacks_detail(gained, checks.power[len(MIRRORS) :, counted].sum(axis=1)):
            kinds.append(doubts.NO_DETAIL)
    return kinds


def _is_mirrored(windows: Float32[Array, "V C n n"]) -> bool:
    """Return whether a mirror image agrees significantly better than the reference.

    The highest values of the windows are compared, wherever they lie: the refined geometry, which fits the
    reference, does not count.
    """
    mirrors = len(MIRRORS)
    highest = windows[mirrors:].sum(axis=0).max(axis=(1, 2))
    more = windows[:mirrors].max(axis=(2, 3)).astype(np.float64) - highest
    if more.shape[1] < FEWEST_MIRRORED:
        return False
    error = more.std(axis=1, ddof=1) / np.sqrt(more.shape[1])
    return bool((more.mean(axis=1) > CLEARLY_BETTER * error).any())


def _lacks_detail(gained: Float[Array, "B"], power: Float[Array, "B"]) -> bool:
    """Return whether the images agree with the reference at low resolution only."""
    assert len(gained) == len(BANDS)
    if not power.all():
        return False
    agreement, error = gained / power, 1 / np.sqrt(power)
    low, middle = float(agreement[0]), float(agreement[1])
    if low < SIGNIFICANT * error[0] or error[1] > HARDLY_PRECISE * low:
        return False
    least = (LEAST_DETAIL if low > EXPLAINED else LEAST_DETAIL_UNEXPLAINED) * low
    return middle < (least if error[1] < PRECISE * low else least - error[1])
