"""Probabilities that particles and tilt images show what the references predict.

A particle is judged by its agreement with the reference over all tilt images (`mixture`). A tilt image is
compared with an empty one only: signal varies with tilt and exposure, so any agreement beyond chance counts.
The fit and the probabilities are estimated in turn; false particles and empty tilt images then have no
influence on the projections.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, log_ndtr

from tomopolish.shapes import Array, Bool, Float, Int
from tomopolish.solve.mixture import BEST_OF_MANY, Mixture, estimate_mixture, log_normal
from tomopolish.solve.problem import Problem, State, pair_values

SHOWN = 0.5
"""Probability from which on a particle or a tilt image counts as shown."""
PERHAPS = 0.05
"""Probability from which on a particle may show what is predicted, if its view is put right."""
LEAST_WEIGHT = 0.01
"""Smallest weight in the fit. It keeps a false particle at the place where it agrees best, so that it is
judged fairly in the next round; its influence on the projections is negligible."""
SETTLED = 0.05
"""Change of a probability that needs no further fit."""
EMPTY_SHARE = 0.05
"""Prior probability that a tilt image is empty."""
TILT_SPREAD = 0.35
"""Standard deviation of the tilt images' agreements over that of the particles, which is 1 on average."""
ANY_SHARE = 0.1
LARGEST_AGREEMENT = 1.5
"""Share of tilt images whose agreement may have any value, up to the largest."""
TURNS = 8.0
"""Number of independent rotations of a tilt image within its range."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Trust:
    """Probabilities that particles and tilt images show what the references predict.

    Attributes
    ----------
    particles, tilts
        Probability of each.
    particle_agreement, tilt_agreement
        Log-likelihood gained over the power of the predictions, on the references' own scale; NaN where
        nothing is predicted.
    particle_ratio
        Log-likelihood ratio of each particle against "nothing there", nats.
    particle_z, tilt_z
        Deviation of the agreement from that of good particles, and of a tilt image from an empty one, in
        standard deviations.
    centres
        Agreement of the good particles of each species.
    """

    particles: Float[Array, "P"]
    tilts: Float[Array, "F"]
    particle_agreement: Float[Array, "P"]
    tilt_agreement: Float[Array, "F"]
    particle_ratio: Float[Array, "P"]
    tilt_ratio: Float[Array, "F"]
    particle_z: Float[Array, "P"]
    tilt_z: Float[Array, "F"]
    centres: Float[Array, "S"]

    @property
    def weights(self) -> Float[Array, "F P"]:
        """Weight of each pair in the fit."""
        return np.maximum(np.outer(self.tilts, self.particles), LEAST_WEIGHT)

    def changes(self, problem: Problem) -> bool:
        """Return whether the pairs' weights differ so much from those of a problem that its fit would."""
        before = 1.0 if problem.pair_weights is None else problem.pair_weights
        return bool(np.abs(self.weights - before).max(initial=0.0) > SETTLED)


def shown_pairs(problem: Problem) -> Bool[Array, "F P"]:
    """Return the visible pairs of particles and tilt images that are likely to show what is predicted."""
    visible, weights = problem.surface.visible, problem.pair_weights
    return visible if weights is None else visible & (weights >= SHOWN)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pairs:
    """Log-likelihood gained and power of each pair; zero where a pair is not visible."""

    gained: Float[Array, "F P"]
    power: Float[Array, "F P"]
    noise: float


def judge(
    problem: Problem, state: State, power: Float[Array, "F P"], owner: Int[Array, "P"], range_px: float
) -> Trust:
    """Estimate the probabilities at a solution.

    Parameters
    ----------
    power
        Weighted power of each pair's prediction (`CorrelationWindows.power`).
    owner
        Species of each particle; each has its own reference, and so its own agreement.
    range_px
        Largest displacement that was searched.
    """
    visible = problem.surface.visible
    values = np.where(visible, pair_values(problem, state.vector), 0.0)
    known = np.where(visible, power, 0.0)
    pairs = _Pairs(gained=values, power=known, noise=_noise(values, known))
    length = peak_length_px(problem, state, values)
    free, prior = problem.layout.unpack(problem.free), problem.layout.unpack(problem.precision)
    reach = min(range_px, 2 / np.sqrt(float(prior.positions_px.mean()))) if prior.positions_px.size else 0.0
    of_particle = _best_of(reach, length, 3) if free.positions_px.any() else 0.0
    of_tilt = _best_of(range_px, length, 2, TURNS) if free.shifts_px.any() else 0.0
    tilts = np.ones(len(visible))
    for _ in range(2):  # particles are judged without the empty images, and images without false particles
        counted = tilts
        mixtures, particles, agreement, variance = _particles(pairs, tilts, owner, of_particle)
        centres = np.array([m.centre for m in mixtures])
        tilts, shown, ratio, z = _tilts(pairs, particles, centres[owner], of_tilt)
        if np.abs(tilts - counted).max(initial=0.0) < SETTLED:
            break
    own = centres[owner]
    spread = np.array([m.spread for m in mixtures])[owner]
    strength = tilts @ known
    return Trust(
        particles=particles,
        tilts=tilts,
        particle_agreement=agreement,
        tilt_agreement=shown * (float(np.average(own)) if len(own) else 1.0),
        particle_ratio=np.where(strength > 0, own * strength * (np.nan_to_num(agreement) - own / 2), 0.0),
        tilt_ratio=ratio,
        particle_z=(agreement - own) / np.sqrt(spread**2 + variance),
        tilt_z=z,
        centres=centres,
    )


def _particles(
    pairs: _Pairs, tilts: Array, owner: Array, chance: float
) -> tuple[list[Mixture], Array, Array, Array]:
    """Return each species' mixture, and probability, agreement and its variance of every particle."""
    gained, strength = tilts @ pairs.gained, tilts @ pairs.power
    counted = strength > 0
    agreement = np.divide(gained, strength, out=np.full(len(owner), np.nan), where=counted)
    variance = np.divide(pairs.noise, strength, out=np.full(len(owner), np.inf), where=counted)
    probability, mixtures = np.ones(len(owner)), []
    for species in range(int(owner.max(initial=0)) + 1):
        own = counted & (owner == species)
        mixture = estimate_mixture(agreement[own], variance[own], chance * np.sqrt(variance[own]))
        probability[own] = mixture.probability
        mixtures.append(mixture)
    return mixtures, probability, agreement, variance


def _tilts(
    pairs: _Pairs, particles: Array, centres: Array, chance: float
) -> tuple[Array, Array, Array, Array]:
    """Return probability, agreement over that of the particles, log-ratio and z of every tilt image."""
    gained, strength = pairs.gained @ (particles * centres), pairs.power @ (particles * centres**2)
    counted = strength > 0
    agreement = np.divide(gained, strength, out=np.full(len(strength), np.nan), where=counted)
    deviation = np.sqrt(np.divide(pairs.noise, strength, out=np.full(len(strength), np.inf), where=counted))
    a, s = np.where(counted, agreement, 0.0), np.where(counted, deviation, 1.0)
    # The integral of a normal distribution over all agreements from zero to the largest.
    high, low = log_ndtr((LARGEST_AGREEMENT - a) / s), log_ndtr(-a / s)
    any_value = high + np.log1p(-np.exp(np.minimum(low - high, -1e-12))) - np.log(LARGEST_AGREEMENT)
    usual = log_normal(a - 1, TILT_SPREAD**2 + s**2)
    shows = np.logaddexp(np.log1p(-ANY_SHARE) + usual, np.log(ANY_SHARE) + any_value)
    # An empty image may agree less than expected of noise: its noise may be weaker than assumed.
    beyond = np.maximum(a - chance * s, 0.0)
    empty = log_normal(beyond, (BEST_OF_MANY if chance else 1.0) * s**2)
    ratio = np.where(counted, shows - empty, 0.0)
    # An image without visible particles says nothing of itself.
    probability = np.where(counted, expit(ratio + np.log(1 / EMPTY_SHARE - 1)), 1.0)
    z = np.where(counted, a / s - chance, 0.0)
    return probability, agreement, ratio, z


def _noise(gained: Float[Array, "F P"], power: Float[Array, "F P"]) -> float:
    """Return the variance of the pairs' noise over that which the weights assume; robust, at least 1/2."""
    counted = power > 0
    if not counted.any():
        return 1.0
    total, strength = gained.sum(axis=0), power.sum(axis=0)
    agreement = np.divide(total, strength, out=np.zeros_like(total), where=strength > 0)
    scatter = np.abs(gained - agreement * power)[counted] / np.sqrt(power[counted])
    return max(float(np.median(scatter) / 0.6745) ** 2, 0.5)


def peak_length_px(problem: Problem, state: State, gained: Float[Array, "F P"] | None = None) -> float:
    """Return the correlation length of the windows: a peak's value over its curvature.

    Parameters
    ----------
    gained
        Log-likelihood of each pair at the solution; None: it is computed.
    """
    weights = problem.pair_weights
    if gained is None:
        gained = np.where(problem.surface.visible, pair_values(problem, state.vector), 0.0)
    curvature = (state.curvature[..., 0] + state.curvature[..., 2])[problem.surface.visible].sum() / 2
    value = float((gained if weights is None else gained * weights).sum())
    smallest = problem.surface.step_px
    return max(float(np.sqrt(value / curvature)), smallest) if curvature > 0 and value > 0 else smallest


def _best_of(reach_px: float, length_px: float, dimensions: int, more: float = 1.0) -> float:
    """Return the expected maximum of standard normal noise over the independent places within reach."""
    places = more * max((reach_px / length_px) ** dimensions, 1.0)
    return float(np.sqrt(2 * np.log(places)))
