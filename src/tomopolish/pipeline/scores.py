"""Scores of particles and tilt images, from the probabilities that the fit estimated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.spatial import KDTree

from tomopolish.dataset.model import TiltSeries
from tomopolish.dataset.scores import (
    EMPTY,
    LEFT_OUT,
    NO_PARTICLE,
    NOT_VISIBLE,
    PICKED_TWICE,
    SHOWS_NOTHING,
    WEAK,
    AlignmentScores,
    ItemScores,
)
from tomopolish.pipeline.fit import Fit
from tomopolish.shapes import Array, Float, Int
from tomopolish.solve.outliers import SHOWN, Trust
from tomopolish.solve.uncertainty import Uncertainty

NOTHING = 0.4
"""Agreement, over that of good particles, below which a false particle shows nothing of the reference."""
SAME_PLACE = 0.08
"""Distance, in boxes, below which two particles of a species are one molecule that was picked twice."""


def alignment_scores(
    fit: Fit,
    moved_tilts_px: Float[Array, "F"],
    moved_particles_px: Float[Array, "P"],
    positions_px: Float[Array, "P 3"],
    boxes_px: Sequence[int],
) -> tuple[AlignmentScores | None, ...]:
    """Return the scores of each species; None where the fit estimated no probabilities.

    Parameters
    ----------
    moved_tilts_px, moved_particles_px
        How far each projection of the tomogram's centre moved, and each particle, against the input.
    positions_px
        Refined positions.
    boxes_px
        Edge of the boxes of each species.
    """
    trust, tomogram = fit.refinement.trust, fit.tomogram
    if trust is None:
        return (None,) * len(tomogram.species)
    pixel = tomogram.series.pixel_size_angstrom
    tilts = ItemScores(
        agreement=np.nan_to_num(trust.tilt_agreement),
        likelihood_ratio=trust.tilt_ratio,
        probability=trust.tilts,
        z=trust.tilt_z,
        displacement_angstrom=moved_tilts_px * pixel,
        reasons=_tilt_reasons(tomogram.series, fit, trust),
    )
    moved = moved_particles_px * pixel
    reasons = _particle_reasons(fit, trust, positions_px, [SAME_PLACE * box_px for box_px in boxes_px])
    parts = []
    for number, own in enumerate(tomogram.parts):
        particles = ItemScores(
            agreement=np.nan_to_num(trust.particle_agreement[own]),
            likelihood_ratio=trust.particle_ratio[own],
            probability=trust.particles[own],
            z=np.nan_to_num(trust.particle_z[own]),
            displacement_angstrom=moved[own],
            reasons=tuple(reasons[own]),
        )
        centre = float(trust.centres[number]) if number < len(trust.centres) else 1.0
        parts.append(
            AlignmentScores(
                particles=_on_scale(particles, fit.applied[number]),
                tilts=_on_scale(tilts, fit.applied[number]),
                agreement=centre * fit.applied[number],
            )
        )
    return tuple(parts)


def numbers_flagged(scores: Sequence[AlignmentScores | None]) -> tuple[int | None, int | None]:
    """Return the number of flagged particles of all species, and of tilt images.

    Images that are left out, or show no particle, are not counted. None, None where no probabilities were
    estimated.
    """
    known = [s for s in scores if s is not None]
    if not known:
        return None, None
    tilts = sum(reason not in ("", LEFT_OUT, NO_PARTICLE) for reason in known[0].tilts.reasons)
    return sum(int(s.particles.flagged.sum()) for s in known), tilts


def errors_of_outliers(fit: Fit, uncertainty: Uncertainty) -> Uncertainty:
    """Return the standard errors with those of false particles and empty images set to the prior's.

    They keep their input, of which only the prior says how far it is off.
    """
    trust, problem = fit.refinement.trust, fit.refinement.problem
    if trust is None:
        return uncertainty
    free = problem.layout.unpack(problem.free)
    prior = problem.layout.unpack(1 / np.sqrt(problem.precision))
    empty, false = trust.tilts < SHOWN, trust.particles < SHOWN
    return replace(
        uncertainty,
        angles=np.where(empty[:, None] & free.angles, prior.angles, uncertainty.angles),
        shifts_px=np.where(empty[:, None] & free.shifts_px, prior.shifts_px, uncertainty.shifts_px),
        positions_px=np.where(
            false[:, None] & free.positions_px, prior.positions_px, uncertainty.positions_px
        ),
    )


def picked_twice(
    positions_px: Float[Array, "P 3"], agreement: Float[Array, "P"], distance_px: float
) -> Int[Array, "N"]:
    """Return the particles that lie within a distance of another that agrees at least as well."""
    pairs = KDTree(positions_px).query_pairs(distance_px, output_type="ndarray")
    first, second = pairs[:, 0], pairs[:, 1]
    worse = np.where(agreement[second] <= agreement[first], second, first)
    return np.unique(worse)


def _on_scale(items: ItemScores, factor: float) -> ItemScores:
    """Return scores of references multiplied by a factor as those of the references themselves."""
    return replace(items, agreement=items.agreement * factor)


def _particle_reasons(
    fit: Fit, trust: Trust, positions_px: Float[Array, "P 3"], distances_px: Sequence[float]
) -> list[str]:
    """Return why each particle is flagged; empty where it is not."""
    visible = np.asarray(fit.windows.visible.any(axis=0))
    owner = fit.tomogram.owner
    reasons = [""] * len(owner)
    good = visible & (trust.particles >= SHOWN)
    for number, distance_px in enumerate(distances_px):
        own = np.flatnonzero(good & (owner == number))
        for index in picked_twice(positions_px[own], trust.particle_agreement[own], distance_px):
            reasons[own[index]] = PICKED_TWICE
    for index in np.flatnonzero(np.logical_not(good)):
        nothing = trust.particle_agreement[index] < NOTHING * trust.centres[owner[index]]
        reasons[index] = NOT_VISIBLE if not visible[index] else SHOWS_NOTHING if nothing else WEAK
    return reasons


def _tilt_reasons(series: TiltSeries, fit: Fit, trust: Trust) -> tuple[str, ...]:
    """Return why each tilt image is flagged; empty where it is not."""
    reasons = [EMPTY if probability < SHOWN else "" for probability in trust.tilts]
    for tilt in np.flatnonzero(~fit.windows.visible.any(axis=1)):
        reasons[tilt] = NO_PARTICLE
    for lost in series.left_out:
        reasons[lost.tilt] = LEFT_OUT
    return tuple(reasons)
