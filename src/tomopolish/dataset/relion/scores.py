"""The file of scores, ``scores.star``: tables for particles, tilt images and tomograms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tomopolish.dataset.model import Alignment, TiltSeries
from tomopolish.dataset.scores import ItemScores
from tomopolish.dataset.star import GrowingFile, StarTable, format_floats, read_star
from tomopolish.dataset.star_table import is_unset
from tomopolish.shapes import Array, Float

FILE_NAME = "scores.star"
PARTICLES, TILT_IMAGES, TOMOGRAMS = "particles", "tilt_images", "tomograms"
TOMOGRAM, PARTICLE, EXPOSURE = "rlnTomoName", "rlnTomoParticleName", "rlnMicrographPreExposure"
AGREEMENT, PROBABILITY, REASON = "tomopolishAgreement", "tomopolishProbability", "tomopolishReason"
FLAGGED, TURNED = "tomopolishFlagged", "tomopolishTurn"
NONE = "none"
"""Reason of an item that is not flagged."""
UNSTATED = "flagged"
"""Reason of a flagged item whose table states none."""


class ScoresFile(GrowingFile):
    """Collects tomograms one at a time and writes the file at the end; nothing is written without scores."""

    def add(self, series: TiltSeries, names: Sequence[str], alignment: Alignment) -> None:
        """Add one tomogram's scores, if it has any; `names` are those of the alignment's particles."""
        scores = alignment.scores
        if scores is None:
            return
        probability = scores.particles.probability.mean() if len(names) else 1.0
        for table, identity, items in (
            (PARTICLES, {PARTICLE: list(names)}, scores.particles),
            (TILT_IMAGES, {EXPOSURE: format_floats(series.pre_exposure)}, scores.tilts),
        ):
            count = len(items.reasons)
            self.append(table, {TOMOGRAM: [series.name] * count, **identity, **_columns(items)})
        flagged = [str(int(items.flagged.sum())) for items in (scores.particles, scores.tilts)]
        self.append(
            TOMOGRAMS,
            {
                TOMOGRAM: [series.name],
                AGREEMENT: format_floats([scores.agreement]),
                PROBABILITY: format_floats([probability]),
                "tomopolishFlaggedParticles": flagged[:1],
                "tomopolishFlaggedTiltImages": flagged[1:],
            },
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadScores:
    """Content of a file of scores on a set.

    Attributes
    ----------
    particles
        (tomogram, particle) → probability, and why it is flagged; empty where it is not.
    tilts
        Tomogram → probabilities of its tilt images, and why each is flagged, in the order of its rows.
    source
        The file, for messages.
    """

    particles: dict[tuple[str, str], tuple[float, str]]
    tilts: dict[str, tuple[Float[Array, "F"], tuple[str, ...]]]
    source: str


def read_scores(path: Path) -> ReadScores:
    """Return the content of a file of scores; raises InputError when it is missing or malformed."""
    star = read_star(path)
    table = star.table(PARTICLES)
    cells = zip(table.floats(PROBABILITY).tolist(), _reasons(table), strict=True)
    keys = zip(table.strings(TOMOGRAM), table.strings(PARTICLE), strict=True)
    tilts = star.table(TILT_IMAGES)
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(tilts.strings(TOMOGRAM)):
        rows.setdefault(name, []).append(row)
    probability, reasons = tilts.floats(PROBABILITY), _reasons(tilts)
    return ReadScores(
        particles=dict(zip(keys, cells, strict=True)),
        tilts={name: (probability[own], tuple(reasons[row] for row in own)) for name, own in rows.items()},
        source=star.source,
    )


def _reasons(table: StarTable) -> list[str]:
    """Return why each row is flagged; empty where it is not."""
    cells = table.strings(REASON) if REASON in table else [UNSTATED] * len(table)
    return [
        "" if not flag else UNSTATED if is_unset(cell) else cell
        for cell, flag in zip(cells, table.ints(FLAGGED).tolist(), strict=True)
    ]


def _columns(items: ItemScores) -> dict[str, list[str]]:
    turned = {} if items.turned_degrees is None else {TURNED: format_floats(items.turned_degrees)}
    return {
        AGREEMENT: format_floats(items.agreement),
        "tomopolishLogLikelihoodRatio": format_floats(items.likelihood_ratio),
        PROBABILITY: format_floats(items.probability),
        "tomopolishZ": format_floats(items.z),
        "tomopolishDisplacementAngst": format_floats(items.displacement_angstrom),
        **turned,
        FLAGGED: [str(int(flag)) for flag in items.flagged],
        REASON: [reason or NONE for reason in items.reasons],
    }
