"""How well a run's scores tell good from bad particles and tilt images of a simulation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tomopolish.dataset.relion.scores import ReadScores
from tomopolish.shapes import Array, Bool, Float
from tomopolish.simulate.truth import PickKind, Truth

BINS = 10


@dataclass(frozen=True, kw_only=True)
class FlagCounts:
    """Counts of good and bad things and their flags, and the calibration of their probabilities.

    Attributes
    ----------
    bad, bad_flagged, good, good_flagged
        Numbers; a thing that is neither (a second pick, which shows its particle as the first one does) is in
        none of them.
    duplicates, duplicates_flagged
        Particles that were picked twice, and those of them of which a pick is flagged.
    bin_counts, bin_good
        For `BINS` equal ranges of probability: number of things, and of good things.
    """

    bad: int = 0
    bad_flagged: int = 0
    good: int = 0
    good_flagged: int = 0
    duplicates: int = 0
    duplicates_flagged: int = 0
    bin_counts: tuple[int, ...] = (0,) * BINS
    bin_good: tuple[int, ...] = (0,) * BINS

    @property
    def recall(self) -> float:
        """Share of the bad that are flagged; NaN where nothing is bad."""
        return self.bad_flagged / self.bad if self.bad else float("nan")

    @property
    def false_alarms(self) -> float:
        """Share of the good that are flagged; NaN where nothing is good."""
        return self.good_flagged / self.good if self.good else float("nan")

    def __add__(self, other: FlagCounts) -> FlagCounts:
        def joined(name: str) -> tuple:
            return tuple(a + b for a, b in zip(getattr(self, name), getattr(other, name), strict=True))

        return FlagCounts(
            bad=self.bad + other.bad,
            bad_flagged=self.bad_flagged + other.bad_flagged,
            good=self.good + other.good,
            good_flagged=self.good_flagged + other.good_flagged,
            duplicates=self.duplicates + other.duplicates,
            duplicates_flagged=self.duplicates_flagged + other.duplicates_flagged,
            bin_counts=joined("bin_counts"),
            bin_good=joined("bin_good"),
        )


@dataclass(frozen=True, kw_only=True)
class FlagQuality:
    """Counts of particles and of tilt images; None where a run has no scores of them."""

    particles: FlagCounts | None
    tilt_images: FlagCounts | None


def flag_quality(truths: Mapping[str, Truth], scores: ReadScores) -> FlagQuality:
    """Compare the scores of all tomograms with their truth; tomograms without a truth are left out."""
    of_tomogram: dict[str, dict[str, tuple[float, bool]]] = {}
    for (tomogram, name), (probability, reason) in scores.particles.items():
        of_tomogram.setdefault(tomogram, {})[name] = probability, bool(reason)
    particles = [particle_counts(truths[name], of) for name, of in of_tomogram.items() if name in truths]
    tilts = [
        tilt_counts(truths[name], probabilities, np.array([bool(reason) for reason in reasons], dtype=bool))
        for name, (probabilities, reasons) in scores.tilts.items()
        if name in truths
    ]
    return FlagQuality(particles=_total(particles), tilt_images=_total(tilts))


def particle_counts(truth: Truth, cells: Mapping[str, tuple[float, bool]]) -> FlagCounts:
    """Count the particles of one tomogram; false and misoriented ones are bad.

    Of a particle that was picked twice, one pick may be flagged, whichever it is.

    Parameters
    ----------
    cells
        Name of a particle → its probability, and whether it is flagged.
    """
    place = {name: i for i, name in enumerate(truth.particle_names or ())}
    count = len(truth.positions_px)
    flagged, probability = np.zeros(count, dtype=bool), np.full(count, np.nan)
    for name, (value, flag) in cells.items():
        if name in place:
            flagged[place[name]], probability[place[name]] = flag, value
    kinds = np.array([kind.value for kind in truth.particle_kinds] or [PickKind.GOOD.value] * count)
    bad = np.isin(kinds, (PickKind.FALSE.value, PickKind.MISORIENTED.value))
    again = np.flatnonzero(kinds == PickKind.DUPLICATE.value)
    first = np.empty(0, dtype=np.int64) if truth.originals is None else truth.originals[again]
    alarms = flagged.copy()
    alarms[first] &= flagged[again]
    return _counts(
        bad=bad,
        good=kinds == PickKind.GOOD.value,
        flagged=np.where(bad, flagged, alarms),
        probability=probability,
        pairs=flagged[again] | flagged[first],
    )


def tilt_counts(truth: Truth, probability: Float[Array, "F"], flagged: Bool[Array, "F"]) -> FlagCounts:
    """Count the tilt images of one tomogram; blank and covered ones are bad."""
    good = truth.good_tilts
    return _counts(
        bad=~good, good=good, flagged=flagged, probability=probability, pairs=np.zeros(0, dtype=bool)
    )


def _counts(
    *,
    bad: Bool[Array, "N"],
    good: Bool[Array, "N"],
    flagged: Bool[Array, "N"],
    probability: Float[Array, "N"],
    pairs: Bool[Array, "D"],
) -> FlagCounts:
    known = np.isfinite(probability) & (good | bad)
    place = np.clip((probability[known] * BINS).astype(int), 0, BINS - 1)
    return FlagCounts(
        bad=int(bad.sum()),
        bad_flagged=int((bad & flagged).sum()),
        good=int(good.sum()),
        good_flagged=int((good & flagged).sum()),
        duplicates=len(pairs),
        duplicates_flagged=int(pairs.sum()),
        bin_counts=tuple(np.bincount(place, minlength=BINS).tolist()),
        bin_good=tuple(np.bincount(place[good[known]], minlength=BINS).tolist()),
    )


def _total(counts: Sequence[FlagCounts]) -> FlagCounts | None:
    return sum(counts[1:], counts[0]) if counts else None
