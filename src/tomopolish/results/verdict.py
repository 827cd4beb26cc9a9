"""The verdict on a run: tests of the evidence of each tomogram, and their result in a sentence.

The null hypothesis is that held-out pairs gain nothing. Each tomogram's gain is tested with Student's t; the
lists of tomograms have the false discovery rate `FALSE_DISCOVERY_RATE` (Benjamini & Hochberg 1995), so that
fifty of a thousand tomograms without any effect are not listed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr

from tomopolish.physics.fourier import FSC_THRESHOLD
from tomopolish.plain_text import first_names
from tomopolish.results.doubts import WORSE_MAPS, causes, shared_doubts
from tomopolish.results.tomogram import Evidence, MapComparison, TomogramStatistics
from tomopolish.shapes import Array, Float

SIGNIFICANCE = 0.025
"""Probability of a false "it helped", and of a false "it harmed"."""

FITTED_TWICE = 2.0
"""Standard errors that pairs may have moved by where an input fitted to the same images seems better."""
FALSE_DISCOVERY_RATE = 0.05
NAMED = 5
"""Maximum number of tomograms that a sentence names; the rest are counted."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a run's refinement helped.

    Attributes
    ----------
    tomograms
        Number of tomograms with evidence.
    gain_per_pair, standard_error_per_pair
        Gain in log-likelihood of a held-out pair, mean over all of them.
    probability
        Probability of a gain at least as large if the refinement has no effect.
    better, worse, not_judged, undecided
        Names of the tomograms that became significantly better or worse, of those with a premise that does
        not hold, and of the others.
    agreement_before, agreement_after
        See `Evidence`; means over all held-out pairs.
    moved_angstrom, error_angstrom
        See `Evidence`; root mean squares over all tomograms.
    doubts
        Premises that do not hold in at least half of the tomograms, and maps that became worse (`doubts`).
    """

    tomograms: int
    gain_per_pair: float
    standard_error_per_pair: float
    probability: float
    better: tuple[str, ...]
    worse: tuple[str, ...]
    undecided: tuple[str, ...]
    not_judged: tuple[str, ...] = ()
    agreement_before: float
    agreement_after: float
    moved_angstrom: float = 0.0
    error_angstrom: float = 0.0
    doubts: tuple[str, ...] = ()

    @property
    def judged(self) -> bool:
        """Whether the premises of a judgement hold."""
        return not self.doubts

    @property
    def helped(self) -> bool:
        """Whether the gain is significant."""
        return self.judged and self.probability < SIGNIFICANCE

    @property
    def harmed(self) -> bool:
        """Whether the loss is significant."""
        return self.judged and not self.settled and self.probability > 1 - SIGNIFICANCE

    @property
    def settled(self) -> bool:
        """Whether nothing was left to gain: the input hardly differs from the result.

        An input that was fitted to the same images, held-out ones included, looks better on these than a fit
        without them. It does not count as harm that pairs lose then, unless they moved clearly further than
        their standard errors.
        """
        return self.judged and hardly_moved(self, self.probability)

    @property
    def outcome(self) -> str:
        """Return the kind of verdict: doubtful, settled, helped, harmed or open."""
        kinds = {
            "doubtful": not self.judged,
            "settled": self.settled,
            "helped": self.helped,
            "harmed": self.harmed,
        }
        return next((kind for kind, holds in kinds.items() if holds), "open")

    def of_tomogram(self, name: str) -> str:
        """Return the verdict on a tomogram: better, worse, undecided, not judged or not tested."""
        for word in ("better", "worse", "undecided", "not_judged"):
            if name in getattr(self, word):
                return word.replace("_", " ")
        return "not tested"

    def sentence(self, maps: MapComparison | None = None) -> str:
        """Return the sentence at the end of the command's output; see the function `sentence`."""
        return sentence(self, maps)


def verdict(evidence: Mapping[str, Evidence], maps: MapComparison | None = None) -> Verdict | None:
    """Return the verdict on the evidence of all tomograms; None where there is none.

    Where maps became worse although the pairs did not, it cannot be judged whether the refinement helped.

    The gains of all tomograms are added up; the sum's degrees of freedom follow Welch and Satterthwaite. A
    tomogram whose gain has no standard error is undecided, and is left out of the sum.
    """
    tested = {name: e for name, e in evidence.items() if np.isfinite(e.standard_error)}
    if not tested:
        return None
    variance = np.array([e.standard_error**2 for e in tested.values()])
    freedom = np.array([max(e.particles - 1, 1) for e in tested.values()], dtype=np.float64)
    total, spread = sum(e.gain for e in tested.values()), float(variance.sum())
    pooled = spread**2 / float(np.sum(variance**2 / freedom)) if spread > 0 else 1.0
    pairs = sum(e.pairs for e in tested.values())
    chance = np.array([improbability(e) for e in tested.values()])
    decided = _discoveries(2 * np.minimum(chance, 1 - chance), FALSE_DISCOVERY_RATE)
    gains = np.array([e.gain for e in tested.values()])
    names = np.array(list(tested), dtype=object)
    still = np.array([hardly_moved(e, float(p)) for e, p in zip(tested.values(), chance, strict=True)])
    decided &= ~np.array([bool(e.doubts) for e in tested.values()])
    not_judged = tuple(name for name, e in evidence.items() if e.doubts)
    better, worse = tuple(names[decided & (gains > 0)]), tuple(names[decided & (gains < 0) & ~still])
    probability = _chance(total, float(np.sqrt(spread)), pooled)
    lost_anyway = probability > 1 - SIGNIFICANCE
    in_maps = (WORSE_MAPS,) if maps is not None and maps.worse and not lost_anyway else ()
    return Verdict(
        tomograms=len(evidence),
        gain_per_pair=total / pairs,
        standard_error_per_pair=float(np.sqrt(spread)) / pairs,
        probability=probability,
        better=better,
        worse=worse,
        undecided=tuple(name for name in evidence if name not in {*better, *worse, *not_judged}),
        not_judged=not_judged,
        agreement_before=sum(e.agreement_before * e.pairs for e in tested.values()) / pairs,
        agreement_after=sum(e.agreement_after * e.pairs for e in tested.values()) / pairs,
        moved_angstrom=_rms([e.moved_angstrom for e in tested.values()]),
        error_angstrom=_rms([e.error_angstrom for e in tested.values()]),
        doubts=(*shared_doubts([e.doubts for e in tested.values()]), *in_maps),
    )


def verdict_on(verdict: Verdict | None, name: str) -> str:
    """Return the verdict on a tomogram: better, worse, undecided, not judged or not tested."""
    return "not tested" if verdict is None else verdict.of_tomogram(name)


WORST_FIRST = ("worse", "not judged", "undecided", "not tested", "better")
"""Verdicts on a tomogram, those that a user should look at first in front."""


def worst_first(statistics: Mapping[str, TomogramStatistics], verdict: Verdict | None) -> list[str]:
    """Return the names of tomograms: by verdict, then by agreement, the lowest first.

    The agreement is that of held-out pairs after the refinement; tomograms without any follow, by their gain
    per fitted pair.
    """

    def place(name: str) -> tuple[int, float, float]:
        figures = statistics[name]
        evidence = figures.evidence
        agreement = float("inf") if evidence is None else evidence.agreement_after
        return WORST_FIRST.index(verdict_on(verdict, name)), agreement, figures.gain_per_visible_pair

    return sorted(statistics, key=place)


def hardly_moved(moves: Evidence | Verdict, probability: float) -> bool:
    """Return whether pairs that did not gain moved by less than their standard errors; see `settled`."""
    if moves.error_angstrom <= 0 or probability < SIGNIFICANCE:
        return False
    lost = probability > 1 - SIGNIFICANCE
    return moves.moved_angstrom < (FITTED_TWICE if lost else 1.0) * moves.error_angstrom


def _rms(values: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def improbability(evidence: Evidence) -> float:
    """Return the probability of a gain at least as large if the refinement has no effect."""
    return _chance(evidence.gain, evidence.standard_error, max(evidence.particles - 1, 1))


def sentence(verdict: Verdict | None, maps: MapComparison | None = None) -> str:
    """Return in plain words whether the refinement helped, by how much, and which tomograms became worse."""
    parts = [_on_pairs(verdict)] if verdict is not None else ["Whether the refinement helped was not tested."]
    if maps is not None:
        before = maps.resolution_before_angstrom[FSC_THRESHOLD]
        after = maps.resolution_after_angstrom[FSC_THRESHOLD]
        parts.append(f"Half maps reach {after:.2f} Å (FSC 0.143) after it, {before:.2f} Å before.")
    return " ".join(parts)


def _on_pairs(verdict: Verdict) -> str:
    gain = verdict.gain_per_pair
    figure = (
        f"the log-likelihood per held-out particle image {'rose' if gain >= 0 else 'fell'} by "
        f"{abs(gain):.3g} ± {verdict.standard_error_per_pair:.2g} "
        f"({_chance_words(verdict)}), and the agreement with the other half's map changed from "
        f"{100 * verdict.agreement_before:.0f} % to {100 * verdict.agreement_after:.0f} %"
    )
    if not verdict.judged:
        head = (
            f"Whether it helped cannot be judged: {'; '.join(causes(verdict.doubts))}. "
            f"({figure[0].upper()}{figure[1:]}.)"
        )
    elif verdict.settled:
        head = (
            f"Nothing is left to gain: particle images moved by {verdict.moved_angstrom:.2g} Å, less than or "
            f"about the standard error of their positions, {verdict.error_angstrom:.2g} Å. "
            f"({figure[0].upper()}{figure[1:]}.)"
        )
    elif verdict.helped:
        head = f"The refinement helped: {figure}."
    elif verdict.harmed:
        head = (
            f"The refinement did not help, and may have done harm: {figure}. (An input that was itself "
            "fitted to these images looks better than it is.)"
        )
    else:
        head = f"There is no evidence that the refinement helped: {figure}."
    if verdict.tomograms in (1, len(verdict.not_judged)):
        return head
    tail = f"{len(verdict.better)} of {verdict.tomograms} tomograms improved significantly"
    tail += f", {len(verdict.undecided)} undecided" if verdict.undecided else ""
    worse, not_judged = verdict.worse, verdict.not_judged
    tail += f", {len(worse)} became worse: {first_names(worse, NAMED)}" if worse else ", none became worse"
    if not_judged:
        tail += f", {len(not_judged)} cannot be judged: {first_names(not_judged, NAMED)}"
    return f"{head} {tail}."


def _chance_words(verdict: Verdict) -> str:
    chance = verdict.probability if verdict.gain_per_pair >= 0 else 1 - verdict.probability
    return "p < 1e-6" if chance < 1e-6 else f"p = {chance:.2g}"


def _chance(gain: float, standard_error: float, freedom: float) -> float:
    if standard_error == 0:
        return 0.5 if gain == 0 else float(gain < 0)
    return float(stdtr(freedom, -gain / standard_error))  # the tails above t and below −t are equal


def _discoveries(probabilities: Float[Array, "N"], rate: float) -> Array:
    """Return the hypotheses that are rejected by Benjamini and Hochberg's procedure."""
    order = np.argsort(probabilities)
    limits = rate * np.arange(1, len(order) + 1) / len(order)
    below = np.flatnonzero(probabilities[order] <= limits)
    rejected = np.zeros(len(order), dtype=bool)
    rejected[order[: below[-1] + 1 if len(below) else 0]] = True
    return rejected
