"""A search for particles that the fit of the geometry may have misplaced, once views and optics are refined.

With wrong views and defocus, noise decides where a particle is that few images show. Once projections and
the other particles are right, each doubtful particle is searched by itself (`solve.second_search`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tomopolish.dataset.model import Tomogram
from tomopolish.imaging.windows import CorrelationWindows
from tomopolish.pipeline.fit import Fit
from tomopolish.pipeline.problem import build_problem
from tomopolish.settings.alignment import AlignSettings
from tomopolish.shapes import Array, Bool, Float, Int
from tomopolish.solve.maximisation import Tally
from tomopolish.solve.outliers import PERHAPS
from tomopolish.solve.problem import evaluate
from tomopolish.solve.refine import ENOUGH
from tomopolish.solve.second_search import CERTAIN, EVALUATIONS, move_to_likelier
from tomopolish.solve.surface import correlation_length_px
from tomopolish.solve.workers import Workers

FAINT = 0.35
"""A particle whose predictions have less than this part of the median power is searched again."""
AMBIGUOUS = 100.0
"""Power, in nats, below which all are: side peaks, and noise at the many places within reach, may exceed the
peak at the true place."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Placed:
    """What the fit of the geometry says of where particles may be.

    Attributes
    ----------
    position_precision
        Of the prior of displacements from the input, 1/px².
    tilts, particles
        Probability that each shows what the references predict.
    """

    position_precision: float
    tilts: Float[Array, "F"]
    particles: Float[Array, "P"]

    @classmethod
    def of(cls, fit: Fit) -> Placed:
        """Return what a fit says."""
        problem, trust = fit.refinement.problem, fit.refinement.trust
        precision = problem.layout.unpack(problem.precision).positions_px
        tilts, particles = problem.surface.visible.shape
        return cls(
            position_precision=float(precision.mean()) if precision.size else 1.0,
            tilts=np.ones(tilts) if trust is None else trust.tilts,
            particles=np.ones(particles) if trust is None else trust.particles,
        )


def place_again(
    tomogram: Tomogram,
    given: Tomogram,
    windows: CorrelationWindows,
    placed: Placed,
    settings: AlignSettings,
) -> Tomogram:
    """Return the tomogram with doubtful particles where their images, and the prior, prefer them.

    Parameters
    ----------
    tomogram
        With refined views and optics, with which the windows were made.
    given
        The input, about which the prior is.
    """
    if settings.fit.const_positions or settings.fit.shift_only:
        return tomogram
    power = np.where(windows.visible, windows.power * placed.tilts[:, None], 0.0).sum(axis=0)
    shown = (power > 0) & (placed.particles >= PERHAPS)  # others keep their input
    which = np.flatnonzero(shown & _doubtful(power, placed.particles, tomogram.owner))
    if not len(which):
        return tomogram
    before, after = given.particles.positions_px[which], tomogram.particles.positions_px[which]
    part = windows.of_particles(which)
    # Projections, motion and warp are known; the prior counts from the input.
    particles = replace(tomogram.particles.subset(which), positions_px=before)
    local = replace(settings, motion=None, deformation=None)
    problem = build_problem(tomogram.series, particles, part, local)
    problem = replace(
        problem,
        precision=problem.layout.fill(angles=1.0, shifts_px=1.0, positions_px=placed.position_precision),
        pair_weights=np.repeat(placed.tilts[:, None], len(which), axis=1),
    )
    vector = problem.layout.fill()
    problem.layout.unpack(vector).positions_px[...] = after - before
    with Workers(settings.run.threads) as workers:
        state = evaluate(problem, vector, workers.over)
        everyone = np.ones(len(which), dtype=bool)
        tally = Tally(max_evaluations=EVALUATIONS, enough=ENOUGH)
        moved = move_to_likelier(problem, state, everyone, correlation_length_px(part), tally, workers)
    positions = tomogram.particles.positions_px.copy()
    positions[which] = before + problem.layout.unpack(moved).positions_px
    species = zip(tomogram.species, tomogram.parts, strict=True)
    return replace(
        tomogram, species=tuple(replace(own, positions_px=positions[part]) for own, part in species)
    )


def _doubtful(
    power: Float[Array, "P"], probability: Float[Array, "P"], owner: Int[Array, "P"]
) -> Bool[Array, "P"]:
    """Return which particles may be elsewhere."""
    typical = np.ones(len(power))
    for species in np.unique(owner[power > 0]):
        own = owner == species
        typical[own] = np.median(power[own & (power > 0)])
    return (probability < CERTAIN) | (power < np.maximum(FAINT * typical, AMBIGUOUS))
