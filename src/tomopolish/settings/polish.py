"""The options of `tomopolish polish`: those of each round's alignment, and those of the rounds."""

from __future__ import annotations

from dataclasses import dataclass

from tomopolish.settings.alignment import AlignSettings
from tomopolish.settings.refuse import refuse, refuse_above

MOST_ROUNDS = 8
"""Default of the largest number of rounds: projects have settled after three to five."""


@dataclass(frozen=True, kw_only=True)
class PolishSettings:
    """All options of `tomopolish polish`.

    Attributes
    ----------
    align
        Options of each round's alignment; the range is that of the first round.
    symmetry
        `--sym`: point group of the maps of all species that have none of their own.
    crop_px
        `--crop`: edge of the maps; None: that of the mask or of the references, or else of the box.
    max_rounds
        `--rounds`: largest number of rounds.
    initial_resolution_angstrom
        `--ini_high`: resolution up to which the first round uses its references; None: their FSC decides.
    own_references
        `--own_references`: whether the input's references are ignored, so that the first round uses half maps
        that are reconstructed from the input.
    """

    align: AlignSettings
    symmetry: str = "C1"
    crop_px: int | None = None
    max_rounds: int = MOST_ROUNDS
    initial_resolution_angstrom: float | None = None
    own_references: bool = False

    def __post_init__(self) -> None:
        box_px = self.align.windows.box_px
        refuse(
            self.crop_px is not None and (self.crop_px % 2 == 1 or not 24 <= self.crop_px <= box_px),
            f"--crop {self.crop_px} must be even, 24 or more, and at most --b {box_px}",
        )
        refuse(self.max_rounds < 1, f"--rounds {self.max_rounds} allows no round: give 1 or more")
        refuse_above("--rounds", self.max_rounds, 50, "projects have settled after three to five")
        high = self.initial_resolution_angstrom
        refuse(
            high is not None and not high > 0,
            f"--ini_high {high} is not a valid resolution: give a number above 0, in Å",
        )
        refuse(self.align.fit.shift_only, "--shift_only leaves nothing to repeat: use align for it")
