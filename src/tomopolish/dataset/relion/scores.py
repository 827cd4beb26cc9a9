"""The file of scores, ``scores.star``: tables for particles, tilt images and tomograms."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tomopolish.dataset.star import read_star
from tomopolish.shapes import Bool, Float

Array = np.ndarray

FILE_NAME = "scores.star"
PARTICLES, TILT_IMAGES = "particles", "tilt_images"
TOMOGRAM, PARTICLE = "rlnTomoName", "rlnTomoParticleName"
PROBABILITY, FLAGGED = "tomopolishProbability", "tomopolishFlagged"


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadScores:
    """What a file of scores says of a set.

    Attributes
    ----------
    particles
        (tomogram, particle) → probability and whether it is flagged.
    tilts
        Tomogram → probabilities and flags of its tilt images, in the order of its rows.
    """

    particles: dict[tuple[str, str], tuple[float, bool]]
    tilts: dict[str, tuple[Float[Array, "F"], Bool[Array, "F"]]]


def read_scores(path: Path) -> ReadScores:
    """Read a file of scores.

    Raises
    ------
    InputError
        When it is missing or malformed.
    """
    star = read_star(path)
    table = star.table(PARTICLES)
    cells = zip(table.floats(PROBABILITY).tolist(), table.ints(FLAGGED).astype(bool).tolist(), strict=True)
    keys = zip(table.strings(TOMOGRAM), table.strings(PARTICLE), strict=True)
    tilts = star.table(TILT_IMAGES)
    names = np.array(list(tilts.strings(TOMOGRAM)), dtype=object)
    probability, flagged = tilts.floats(PROBABILITY), tilts.ints(FLAGGED).astype(bool)
    return ReadScores(
        particles=dict(zip(keys, cells, strict=True)),
        tilts={str(n): (probability[names == n], flagged[names == n]) for n in dict.fromkeys(names)},
    )
