"""Rounds of a polishing run: what each gained, which is the best, and when to stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

THRESHOLD = 0.143
"""FSC of the resolution."""
LEAST_GAIN = 0.002
"""Least rise of the mean FSC that counts; what follows is worth no further round."""
SHELLS_BEYOND = 2
"""The mean FSC includes so many shells beyond the last that any round resolves."""
PATIENCE = 2
"""Rounds in a row without a gain in FSC after which held-out gains alone no longer ask for more."""


@dataclass(frozen=True, kw_only=True)
class RoundEvidence:
    """What held-out pairs say of a round's alignment; see `Verdict`."""

    outcome: str
    gain_per_pair: float
    standard_error_per_pair: float
    agreement_before: float
    agreement_after: float


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round; round 0 is the input.

    Attributes
    ----------
    optimisation_set
        Its sets, with its half maps, mask and FSC as references.
    fsc
        Corrected FSC of its half maps, shells 0 … s/2.
    resolution_angstrom
        Where the FSC falls below 0.143, and below 0.5.
    bfactor_angstrom2
        Of the sharpened map.
    range_px
        Range of the alignment; 0 in round 0.
    shift_angstrom, angle_degrees, position_angstrom
        Root mean square changes of projections and positions over all tomograms.
    moved_angstrom
        Root mean square of how far pairs moved in the images; 0 where no pair was held out.
    groups
        Group of unknowns that was refined with the geometry → in how many tomograms it was kept.
    tomograms
        Number of tomograms that were refined.
    failures
        Tomogram → why it could not be refined or is not part of the maps.
    model_bias
        Whether references from elsewhere gained in FSC what held-out pairs do not confirm.
    """

    number: int
    optimisation_set: str
    fsc: tuple[float, ...]
    resolution_angstrom: tuple[float, float]
    bfactor_angstrom2: float
    range_px: int = 0
    evidence: RoundEvidence | None = None
    shift_angstrom: float = 0.0
    angle_degrees: float = 0.0
    position_angstrom: float = 0.0
    moved_angstrom: float = 0.0
    groups: tuple[tuple[str, int], ...] = ()
    tomograms: int = 0
    failures: tuple[tuple[str, str], ...] = ()
    model_bias: bool = False
    seconds: float = 0.0

    @property
    def resolves(self) -> bool:
        """Whether the half maps agree in the first shell."""
        return self.fsc[1] >= THRESHOLD

    @property
    def pairs_gained(self) -> bool:
        """Whether the held-out pairs' likelihood rose significantly."""
        return self.evidence is not None and self.evidence.outcome == "helped"


def last_shell(rounds: Sequence[Round]) -> int:
    """Return the last shell over which FSC curves are averaged: a little beyond the best resolution."""
    lasts = []
    for each in rounds:
        below = np.flatnonzero(np.array(each.fsc[1:]) < THRESHOLD)
        lasts.append(int(below[0]) if len(below) else len(each.fsc) - 1)
    return min(max(max(lasts) + SHELLS_BEYOND, 1), len(rounds[0].fsc) - 1)


def mean_fsc(rounds: Sequence[Round]) -> list[float]:
    """Return the mean FSC of each round, over the same shells of all."""
    last = last_shell(rounds)
    return [float(np.mean(each.fsc[1 : last + 1])) for each in rounds]


def best_round(rounds: Sequence[Round]) -> Round:
    """Return the round of the highest mean FSC, the first of equals; the input where none is better."""
    values = mean_fsc(rounds)
    possible = [i for i, each in enumerate(rounds) if i == 0 or (each.resolves and not each.model_bias)]
    return rounds[max(possible, key=lambda i: (values[i], -i))]


def gained(rounds: Sequence[Round], number: int) -> bool:
    """Return whether a round's mean FSC is higher than that of all earlier rounds by enough to count."""
    values = mean_fsc(rounds)
    return rounds[number].resolves and values[number] > max(values[:number]) + LEAST_GAIN


def reason_to_stop(rounds: Sequence[Round], most: int) -> str | None:
    """Return why no further round is needed, as a sentence; None where the next one should follow."""
    latest = len(rounds) - 1
    if latest == 0:
        return None
    idle = [not gained(rounds, number) for number in range(1, latest + 1)]
    reasons = {
        "The half maps of the last round agree at no resolution.": not rounds[-1].resolves,
        "The maps gained what held-out particle images do not confirm: the references' own detail, not that "
        "of the images. Start with --ini_high, or with --own_references.": rounds[-1].model_bias,
        "Neither the FSC nor the held-out particle images gained in the last round.": (
            idle[-1] and not rounds[-1].pairs_gained
        ),
        f"The FSC did not gain in the last {PATIENCE} rounds.": all(idle[-PATIENCE:]) and latest >= PATIENCE,
        f"These were all of the --rounds {most}.": latest >= most,
    }
    return next((sentence for sentence, holds in reasons.items() if holds), None)
