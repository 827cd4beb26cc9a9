"""Held-out pairs of a joint refinement, and what they say of one state against another."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tomopolish.pipeline.evidence import evidence
from tomopolish.results.tomogram import Evidence
from tomopolish.shapes import Array, Float, Int


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOutPairs:
    """Pairs that are held out, by tilt image and particle of all species."""

    tilts: Int[Array, "H"]
    particles: Int[Array, "H"]


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOutValues:
    """Values of held-out pairs at S states.

    Attributes
    ----------
    matched
        Weighted product of image and prediction.
    power
        Weighted power of the prediction.
    """

    matched: Float[Array, "S H"]
    power: Float[Array, "S H"]

    @property
    def log_likelihood(self) -> Float[Array, "S H"]:
        """Log-likelihood of the prediction minus that of no prediction."""
        return self.matched - self.power / 2


def judge(
    particles: Int[Array, "H"],
    values: HeldOutValues,
    states: tuple[int, int],
    factors: Float[Array, "H"] | float = 1.0,
) -> Evidence:
    """Compare two states, the first before the second.

    Parameters
    ----------
    particles
        Particle of each pair.
    factors
        By which each pair's reference was multiplied; agreements are on the scale before.
    """
    before, after = states
    likelihood = values.log_likelihood
    total = np.maximum((values.power / np.square(factors)).sum(axis=1), np.finfo(float).tiny)
    agreement = (values.matched / factors).sum(axis=1) / total
    return replace(
        evidence(particles, likelihood[before], likelihood[after], values.power[after], factors),
        agreement_before=float(agreement[before]),
        agreement_after=float(agreement[after]),
    )
