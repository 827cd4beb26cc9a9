"""Rounds of a polishing run: what each gained, which is the best, and when to stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tomopolish.physics.fourier import FSC_THRESHOLD, last_shell_above
from tomopolish.plain_text import listed
from tomopolish.shapes import Array, Bool, Float

LEAST_GAIN = 0.002
"""Least rise of the mean FSC that counts; what follows is worth no further round."""
CLEAR_LOSS = 0.01
"""Fall of a species' mean FSC that no gain of another species makes up for.

From round to round, it scatters by 0.002 by chance with 16 particles of a species, by 0.0004 with 30, and
falls by up to 0.006 once nothing is left to gain (`benchmarks/polish_scatter.py`).
"""
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
class SpeciesRound:
    """The maps of one species in a round.

    Attributes
    ----------
    name
        Name of the species.
    optimisation_set
        Its sets, with its half maps, mask and FSC as references.
    fsc
        Corrected FSC of its half maps, shells 0 … s/2.
    resolution_angstrom
        Where the FSC falls below 0.143, and below 0.5.
    bfactor_angstrom2
        Of the sharpened map.
    """

    name: str
    optimisation_set: str
    fsc: tuple[float, ...]
    resolution_angstrom: tuple[float, float]
    bfactor_angstrom2: float

    @property
    def resolves(self) -> bool:
        """Whether the half maps agree in the first shell."""
        return self.fsc[1] >= FSC_THRESHOLD


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round; round 0 is the input.

    Attributes
    ----------
    species
        Maps of each species, in the project's order.
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
    species: tuple[SpeciesRound, ...]
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
    def is_single(self) -> bool:
        """Whether there is one species, whose files and figures need no name."""
        return len(self.species) == 1

    @property
    def unresolved(self) -> tuple[str, ...]:
        """Species whose half maps do not agree in the first shell."""
        return tuple(each.name for each in self.species if not each.resolves)

    @property
    def resolves(self) -> bool:
        """Whether the half maps of every species agree in the first shell."""
        return not self.unresolved

    @property
    def pairs_gained(self) -> bool:
        """Whether the held-out pairs' likelihood rose significantly."""
        return self.evidence is not None and self.evidence.outcome == "helped"


def last_shell(curves: Sequence[SpeciesRound]) -> int:
    """Return the last shell over which FSC curves are averaged: a little beyond the best resolution."""
    lasts = [last_shell_above(np.array(each.fsc), FSC_THRESHOLD) for each in curves]
    return min(max(max(lasts) + SHELLS_BEYOND, 1), len(curves[0].fsc) - 1)


def mean_fsc(rounds: Sequence[Round]) -> Float[Array, "rounds species"]:
    """Return the mean FSC of each round and species, over the same shells of all rounds of a species."""
    of_species = []
    for curves in zip(*[each.species for each in rounds], strict=True):
        last = last_shell(curves)
        of_species.append([float(np.mean(each.fsc[1 : last + 1])) for each in curves])
    return np.array(of_species).T


def is_better(values: Float[Array, "species"], than: Float[Array, "species"]) -> bool:
    """Return whether the mean FSC, averaged over species, is higher, and that of no species clearly lower."""
    return float(values.mean()) > float(than.mean()) and not (values < than - CLEAR_LOSS).any()


def best_round(rounds: Sequence[Round]) -> Round:
    """Return the best round: the input, until a round `is_better`, then that one, and so on."""
    return rounds[_best(rounds, mean_fsc(rounds))]


def _best(rounds: Sequence[Round], values: Float[Array, "rounds species"]) -> int:
    best = 0
    for number, each in enumerate(rounds):
        if each.resolves and not each.model_bias and is_better(values[number], values[best]):
            best = number
    return best


def gained(rounds: Sequence[Round], number: int) -> bool:
    """Return whether a round is better than the best before it, by enough to count for some species."""
    values = mean_fsc(rounds)
    before = rounds[:number]
    rose: Bool[Array, "species"] = values[number] > values[:number].max(axis=0) + LEAST_GAIN
    better = is_better(values[number], values[_best(before, values)])
    return rounds[number].resolves and better and bool(rose.any())


def reason_to_stop(rounds: Sequence[Round], most: int) -> str | None:
    """Return why no further round is needed, as a sentence; None where the next one should follow."""
    latest = len(rounds) - 1
    if latest == 0:
        return None
    idle = [not gained(rounds, number) for number in range(1, latest + 1)]
    last = rounds[-1]
    which = "" if last.is_single or last.resolves else f" of {listed(last.unresolved)}"
    reasons = {
        f"The half maps{which} of the last round agree at no resolution.": not last.resolves,
        "The maps gained what held-out particle images do not confirm: the references' own detail, not that "
        "of the images. Start with --ini_high, or with --own_references.": last.model_bias,
        "Neither the FSC nor the held-out particle images gained in the last round.": (
            idle[-1] and not last.pairs_gained
        ),
        f"The FSC did not gain in the last {PATIENCE} rounds.": all(idle[-PATIENCE:]) and latest >= PATIENCE,
        f"These were all of the --rounds {most}.": latest >= most,
    }
    return next((sentence for sentence, holds in reasons.items() if holds), None)
