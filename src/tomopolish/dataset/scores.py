"""How well each particle and each tilt image shows what the references predict."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tomopolish.shapes import Array, Bool, Float

SHOWS_NOTHING = "shows nothing of the reference"
WEAK = "agrees less than the others"
PICKED_TWICE = "picked twice"
NOT_VISIBLE = "not visible in any image that was used"
NO_PARTICLE = "shows no particle"
EMPTY = "shows nothing of the particles"
LEFT_OUT = "left out"


@dataclass(frozen=True, kw_only=True, eq=False)
class ItemScores:
    """Scores of one tomogram's particles, or of its tilt images.

    Attributes
    ----------
    agreement
        Log-likelihood gained over the power of the predictions: 1 for particles that look exactly like the
        reference on the reference's own intensity scale; 0 where nothing is predicted.
    likelihood_ratio
        Logarithm of the likelihood ratio against "nothing there", nats.
    probability
        Probability that the item shows what the reference predicts.
    z
        Of a particle: agreement minus that of good particles, in standard deviations. Of a tilt image:
        agreement minus that of an empty image, in standard deviations.
    displacement_angstrom
        How far the refinement moved it.
    reasons
        Why the item is flagged; empty where it is not.
    turned_degrees
        Angle by which a joint refinement turned the particle; None where orientations were not refined.
    """

    agreement: Float[Array, "N"]
    likelihood_ratio: Float[Array, "N"]
    probability: Float[Array, "N"]
    z: Float[Array, "N"]
    displacement_angstrom: Float[Array, "N"]
    reasons: tuple[str, ...]
    turned_degrees: Float[Array, "N"] | None = None

    @property
    def flagged(self) -> Bool[Array, "N"]:
        """Whether each item is flagged."""
        return np.array([bool(reason) for reason in self.reasons], dtype=bool)


@dataclass(frozen=True, kw_only=True, eq=False)
class AlignmentScores:
    """Scores of one species in one tomogram.

    Attributes
    ----------
    agreement
        Agreement of its good particles, on the reference's own intensity scale.
    """

    particles: ItemScores
    tilts: ItemScores
    agreement: float
