"""Tilt images and particles that a user should inspect, with the reasons, from stored results alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from tomopolish.dataset.scores import LEFT_OUT, NOT_VISIBLE, ItemScores
from tomopolish.output.report.data import Flag, ScoreHistogram
from tomopolish.results.tomogram import TomogramResult
from tomopolish.shapes import Array, Bool, Float
from tomopolish.solve.outliers import SHOWN

HISTOGRAM_BINS = 40
WEAK = "poorly determined by the images"
WORSE = "matches the reference worse than before"

Marks = dict[str, Bool[Array, "N"]]


def tilt_marks(result: TomogramResult) -> Marks:
    """Return for each reason the tilt images that it applies to, file order."""
    record = result.record
    assert record is not None
    count = len(record.tilt_power)
    errors = next((a.errors for a in result.alignments if a.errors is not None), None)
    before, after = record.tilt_log_likelihood.T
    marks: Marks = {}
    for left_out in result.left_out:
        mark = marks.setdefault(f"left out: {left_out.reason}", np.zeros(count, dtype=bool))
        mark[left_out.tilt] = True
    scores = result.alignment.scores
    marks |= _marks_of(() if scores is None else scores.tilts.reasons, count)
    weak = np.zeros(count, dtype=bool) if errors is None else errors.weak_tilts()
    return _with_others(marks, {WEAK: weak, WORSE: after < before})


def particle_marks(result: TomogramResult) -> Marks:
    """Return for each reason the particles that it applies to."""
    count = sum(len(a.rows) for a in result.alignments)
    weak = [
        np.zeros(len(a.rows), dtype=bool) if a.errors is None else a.errors.weak_particles()
        for a in result.alignments
    ]
    scored = _scores(result, lambda particles: np.asarray(particles.reasons, dtype=object), "")
    return _with_others(_marks_of(scored, count), {WEAK: np.concatenate(weak)})


def tilt_probabilities(result: TomogramResult) -> Float[Array, "F"]:
    """Return the probability that each tilt image shows its particles; NaN where it was not estimated."""
    scores = result.alignment.scores
    return np.full(len(result.usable), np.nan) if scores is None else scores.tilts.probability


def particle_probabilities(result: TomogramResult) -> Float[Array, "P"]:
    """Return the probability that each particle shows what its reference predicts; NaN as above."""
    return _scores(result, lambda particles: particles.probability, np.nan)


def _marks_of(reasons: Iterable[str], count: int) -> Marks:
    """Return the marks of scores; images that are left out have marks that say why."""
    marks: Marks = {}
    for number, reason in enumerate(reasons):
        if reason and reason != LEFT_OUT:
            marks.setdefault(reason, np.zeros(count, dtype=bool))[number] = True
    return marks


def _with_others(marks: Marks, others: Marks) -> Marks:
    """Return marks, and others for those rows that have none; the errors of an outlier mean nothing more."""
    return marks | {reason: mark & ~_any(marks, len(mark)) for reason, mark in others.items()}


def _scores(result: TomogramResult, chosen: Callable[[ItemScores], Array], unknown: Any) -> Array:
    """Return a score of all particles, one species after another; `unknown` where there are none."""
    parts = [
        np.full(len(a.rows), unknown) if a.scores is None else chosen(a.scores.particles)
        for a in result.alignments
    ]
    return np.concatenate(parts)


def particle_flags(result: TomogramResult) -> Bool[Array, "P"]:
    """Return whether each particle is flagged."""
    return _scores(result, lambda particles: particles.flagged, False).astype(bool)


def particle_agreement(result: TomogramResult) -> Float[Array, "P"]:
    """Return the agreement of each particle: its score's, or that of its fitted pairs where it has none."""
    record = result.record
    assert record is not None
    fitted = record.particle_agreement[:, 1]
    scored = _scores(result, lambda particles: particles.agreement, np.nan)
    return np.where(np.isfinite(scored) & np.isfinite(fitted), scored, fitted)


def score_histogram(result: TomogramResult) -> ScoreHistogram | None:
    """Return the numbers of particles by agreement; None where no probabilities were estimated.

    Particles that no image shows are left out.
    """
    if all(a.scores is None for a in result.alignments):
        return None
    agreement = _scores(result, lambda particles: particles.agreement, np.nan)
    flagged = particle_flags(result)
    reasons = _scores(result, lambda particles: np.asarray(particles.reasons, dtype=object), "")
    counted = np.isfinite(agreement) & (reasons != NOT_VISIBLE)
    edges = np.histogram_bin_edges(agreement[counted], HISTOGRAM_BINS)
    good, bad = (np.histogram(agreement[counted & of], edges)[0] for of in (~flagged, flagged))
    return ScoreHistogram(
        edges=edges,
        good=good,
        flagged=bad,
        threshold=_threshold(agreement[counted], particle_probabilities(result)[counted] < SHOWN),
    )


def _threshold(agreement: Float[Array, "N"], false: Bool[Array, "N"]) -> float:
    """Return the agreement that separates false from other items with the fewest on the wrong side."""
    if not false.any() or false.all():
        return float("nan")
    order = np.argsort(agreement)
    ordered, wrong = agreement[order], np.where(false[order], -1, 1)
    best = int(np.argmin(np.cumsum(wrong)[:-1]))  # those up to it are taken for false
    return float(ordered[best : best + 2].mean())


def _any(marks: Marks, count: int) -> Bool[Array, "N"]:
    """Return the rows that have a mark."""
    return np.logical_or.reduce([np.zeros(count, dtype=bool), *marks.values()])


def flags(names: Sequence[str], marks: Marks, probability: Float[Array, "N"]) -> tuple[Flag, ...]:
    """Return the marked rows with their reasons."""
    return tuple(
        Flag(
            name=names[int(i)],
            reasons=tuple(reason for reason, mark in marks.items() if mark[i]),
            probability=float(probability[i]),
        )
        for i in np.flatnonzero(_any(marks, len(names)))
    )
