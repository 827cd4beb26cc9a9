"""Standard errors of views and optics: those of the expected curvature, and what noise in the half maps adds.

See docs/dev/conventions.md, Joint refinement.

The expected curvature by turns is that of a noisy half map. Noise fills its mask, where the structure is
densest in the middle, so that turns change the noise more than the structure, which no image follows: the
images say less of orientations than this curvature. What they say is measured, as the change of their
gradient by small turns at the solution (observed information: Efron & Hinkley 1978, Biometrika 65:457).

The noise also displaces the solution itself, alike in all images of a particle, which none of them shows. The
noise of the other half map is independent: solutions by one and by the other differ by twice the variance
that it causes. That difference also has a part of the images' noise, which thus counts a little twice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tomopolish.imaging.derivatives import GEOMETRY
from tomopolish.pipeline.joint.images import JointImages
from tomopolish.pipeline.joint.steps import LARGEST_TURN, Point, Refiner
from tomopolish.shapes import Array, Bool, Float, Int
from tomopolish.solve.joint import JointPrior, JointStep, NormalEquations, joint_step, without_net_turn
from tomopolish.solve.outliers import SHOWN

MOST_COMPARED = 100
"""Particles of each species that are compared again: they tell the sources of all errors to some 5 %."""
LEAST_INFORMATION = 0.1
"""Part of the expected curvature by turns that the images have at least."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ErrorSources:
    """What the pairs of some particles say of the errors of a solution.

    Attributes
    ----------
    information
        Part of the expected curvature by turns that the images have, at most 1, by species.
    by_maps, optics_by_maps
        Variance that the half maps' noise adds, over the posterior's: of orientations by species, and of the
        unknowns of the optics.
    dispersion
        Squared gradients of the pairs by turns and optics, over those expected.
    """

    information: Float[Array, "S"]
    by_maps: Float[Array, "S"]
    optics_by_maps: Float[Array, "U"]
    dispersion: float

    def applied_to(
        self, step: JointStep, precision: Float[Array, "P"], species: Int[Array, "P"]
    ) -> JointStep:
        """Return a step with variances of turns and optics that these sources cause.

        Parameters
        ----------
        precision
            Of the prior of each particle's turns.
        species
            Of each particle.
        """
        own, shared = step.particle_variance.copy(), step.tilt_variance.copy()
        by_prior = np.minimum(precision[:, None] * own[:, :3], 1.0)
        curvature = by_prior + (1 - by_prior) * self.information[species, None]
        own[:, :3] *= self.dispersion * (1 + self.by_maps[species, None]) / curvature**2
        shared[:, GEOMETRY:] *= self.dispersion * (1 + self.optics_by_maps)
        return replace(step, particle_variance=own, tilt_variance=shared)


def with_all_sources(refiner: Refiner, point: Point, limit: float) -> JointStep:
    """Return the step from a point, with the variances of the errors of the solution to which it leads.

    What all particles turn together with the projections changes no image, and is no error.

    Parameters
    ----------
    limit
        Largest frequency, 1/px.
    """
    images, sample = refiner.images, _sample(refiner.images)
    if not sample.any():
        return point.step
    step = refiner.step(point.state, point.equations, without_net_turn=True)
    state = refiner.moved(point.state, step)
    images = replace(images, visible=images.visible & sample)
    turns = _small_turns(step)
    turned = state.moved(turns, np.zeros(step.tilts.shape), images.tomogram)
    refiner.passes += 1
    (own, other, after), misfit = images.compared([(state, False), (state, True), (turned, False)], limit)
    prior, departures, frames = refiner.prior(), refiner.departures(state), refiner.frames(state)
    first = joint_step(own, prior, *departures, frames=frames)
    second = joint_step(other, prior, *departures, variances=False)
    shown = np.asarray(images.visible.any(axis=0))
    by_own, by_other = first.particles[:, :3], second.particles[:, :3]
    if frames is not None:
        by_own, by_other = (without_net_turn(turn, frames, shown) for turn in (by_own, by_other))
    owner, variance = images.tomogram.owner, first.particle_variance[:, :3]
    species = [np.flatnonzero(shown & (owner == k)) for k in range(len(images.tomogram.species))]
    optics = (images.visible.any(axis=1), slice(GEOMETRY, None))
    sources = ErrorSources(
        information=np.array([information_by_turns(own, after, turns, which) for which in species]),
        by_maps=np.array([excess_variance((by_other - by_own)[which], variance[which]) for which in species]),
        optics_by_maps=np.array(
            [
                excess_variance(difference, spread)
                for difference, spread in zip(
                    (second.tilts - first.tilts)[optics].T, first.tilt_variance[optics].T, strict=True
                )
            ]
        ),
        dispersion=misfit.dispersion(_explained(prior, first, shown)),
    )
    return sources.applied_to(step, refiner.priors.turn_precisions(owner), owner)


def _small_turns(step: JointStep) -> Float[Array, "P 6"]:
    """Return turns by about a standard error, with random signs."""
    turns = np.zeros(step.particles.shape)
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(len(turns), 3))
    turns[:, :3] = signs * np.minimum(np.sqrt(step.particle_variance[:, :3]), LARGEST_TURN)
    return turns


def _sample(images: JointImages) -> Bool[Array, "P"]:
    """Return which particles are compared again: of each species some that show their reference, evenly."""
    weights = np.where(images.visible, images.pair_weights, 0.0).max(axis=0, initial=0.0)
    sample = np.zeros(len(weights), dtype=bool)
    for part in images.tomogram.parts:
        shown = part.start + np.flatnonzero(weights[part] >= SHOWN)
        places = np.linspace(0, len(shown) - 1, min(len(shown), MOST_COMPARED)).round().astype(np.int64)
        sample[shown[places]] = True
    return sample


def information_by_turns(
    before: NormalEquations, after: NormalEquations, turns: Float[Array, "P 6"], which: Int[Array, "N"]
) -> float:
    """Return the part of the expected curvature by turns that the gradient's change by known turns shows."""
    known = turns[which]
    expected = np.einsum("pi,pij,pj->", known, before.particles[which], known)
    if expected <= 0:
        return 1.0
    change = before.particle_gradient[which] - after.particle_gradient[which]
    return float(np.clip(np.sum(known * change) / expected, LEAST_INFORMATION, 1.0))


def excess_variance(difference: Array, variance: Array) -> float:
    """Return half the squared difference of two solutions, over their variance; 0 where nothing may move."""
    free = variance > 0
    return float(np.mean(difference[free] ** 2 / variance[free]) / 2) if free.any() else 0.0


def _explained(prior: JointPrior, step: JointStep, shown: Bool[Array, "P"]) -> float:
    """Return the number of turns and optics that pairs of some particles determine, and not their priors."""
    own = 1 - prior.particle_precision[shown, :3] * step.particle_variance[shown, :3]
    shared = 1 - prior.tilt_precision[:, GEOMETRY:] * step.tilt_variance[:, GEOMETRY:]
    free = prior.tilt_free[:, GEOMETRY:]
    return float(np.sum(own * prior.particle_free[:3]) + np.sum(shared * free))
