"""A mixture of items that show what the reference predicts, and of items that show nothing of it.

Each particle has an agreement: the log-likelihood that its images gain over the power of its prediction,
which is 1 for a particle that looks like the reference, up to noise of known variance. Agreements of good
particles are normally distributed about a common value. Those of false particles lie near zero, but not at
zero: their position was chosen as the best of many, and what was picked may resemble the molecule. Shares,
means and spreads of both are estimated by expectation maximisation (Dempster, Laird & Rubin 1977, J. R. Stat.
Soc. B 39:1) with weak priors, so that few particles do not determine them alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from tomopolish.shapes import Array, Float

ITERATIONS = 200
TOLERANCE = 1e-3
"""Change of the log-posterior, in nats, that ends the estimation."""
SPLITS = (0.0, 0.3, 0.6)
"""Shares of false items from which the estimation starts; the most probable result counts."""
PRIOR_ITEMS = 10.0
"""Items that the prior of the share of false ones is worth, and the number of false ones among them."""
PRIOR_FALSE = 0.5
SPREAD_ITEMS = 4.0
"""Items that the prior of a spread is worth."""
GOOD_SPREAD = 0.1
FALSE_SPREAD = 0.15
FALSE_CENTRE = 0.1
"""Prior spreads of both kinds, and prior deviation of the false items' mean, over the good items' mean."""
MAX_FALSE_SPREAD = 0.2
MAX_FALSE_CENTRE = 0.35
BEST_OF_MANY = 0.3
"""Variance of the best of many agreements of noise, over that of a single one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Mixture:
    """The estimated mixture.

    Attributes
    ----------
    probability
        Of each item to be a good one.
    centre, spread
        Mean and standard deviation of good items' agreements, without noise.
    """

    probability: Float[Array, "N"]
    centre: float
    spread: float


def estimate_mixture(
    agreement: Float[Array, "N"], variance: Float[Array, "N"], chance: Float[Array, "N"]
) -> Mixture:
    """Return the most probable mixture.

    Parameters
    ----------
    agreement
        Of each item.
    variance
        Variance of its noise.
    chance
        Agreement that an item of pure noise is expected to have, because its position was searched.
    """
    if not len(agreement):
        return Mixture(probability=np.ones(0), centre=1.0, spread=0.0)
    best, best_score = None, -np.inf
    order = np.argsort(agreement)
    for split in SPLITS:
        probability = np.ones(len(agreement))
        probability[order[: int(split * len(order))]] = 0.0
        if probability.sum() < 1:
            continue
        mixture, score = _estimate(agreement, variance, chance, probability)
        if score > best_score:
            best, best_score = mixture, score
    assert best is not None
    return best


def _estimate(agreement: Array, variance: Array, chance: Array, probability: Array) -> tuple[Mixture, float]:
    """Maximise from given probabilities; returns the mixture and its log-posterior."""
    centre = float(np.average(agreement, weights=probability / variance))
    scale = max(abs(centre), 1e-6)
    good_square, false_square, false_centre = (GOOD_SPREAD * scale) ** 2, (FALSE_SPREAD * scale) ** 2, 0.0
    score = -np.inf
    for _ in range(ITERATIONS):
        scale = max(abs(centre), 1e-6)
        bad = 1 - probability
        false_share = (bad.sum() + PRIOR_FALSE) / (len(bad) + PRIOR_ITEMS)
        centre = float(np.average(agreement, weights=probability / (good_square + variance) + 1e-300))
        good_square = _square(agreement - centre, variance, good_square, probability, GOOD_SPREAD * scale)
        noise = BEST_OF_MANY * variance
        beyond = agreement - chance
        precision = bad / (false_square + noise)
        false_centre = (precision @ beyond) / (precision.sum() + 1 / (FALSE_CENTRE * scale) ** 2)
        false_centre = float(np.clip(false_centre, 0.0, MAX_FALSE_CENTRE * scale))
        false_square = _square(beyond - false_centre, noise, false_square, bad, FALSE_SPREAD * scale)
        false_square = min(false_square, (MAX_FALSE_SPREAD * scale) ** 2)
        good = np.log1p(-false_share) + log_normal(agreement - centre, good_square + variance)
        false = np.log(false_share) + log_normal(beyond - false_centre, false_square + noise)
        # An item that agrees better than the good ones is a good one.
        false = np.where(agreement >= centre, -np.inf, false)
        probability = expit(good - false)
        last, score = score, float(np.logaddexp(good, false).sum())
        score += PRIOR_FALSE * np.log(false_share) + (PRIOR_ITEMS - PRIOR_FALSE) * np.log1p(-false_share)
        if abs(score - last) < TOLERANCE:
            break
    return Mixture(probability=probability, centre=centre, spread=float(np.sqrt(good_square))), score


def _square(deviation: Array, noise: Array, square: float, weight: Array, prior: float) -> float:
    """Return the next estimate of a spread's square, with the noise of each item taken out."""
    share = square / (square + noise)
    expected = (share * deviation) ** 2 + share * noise
    return float((weight @ expected + SPREAD_ITEMS * prior**2) / (weight.sum() + SPREAD_ITEMS))


def log_normal(deviation: Array, variance: Array) -> Array:
    """Return the logarithm of a normal distribution's density."""
    result: Array = -0.5 * (deviation**2 / variance + np.log(2 * np.pi * variance))
    return result
