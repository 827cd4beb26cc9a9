"""Settings of the simulated structures; invalid values are refused here."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from tomopolish.settings.refuse import refuse

MASK_SHAPES = ("molecule", "sphere")


def require(condition: bool, sentence: str, option: str) -> None:
    """Raise InputError with the option, or the field where no option sets it, and the sentence.

    Nothing is raised where the condition holds.
    """
    refuse(not condition, f"{option}: {sentence}")


def require_choice(value: str, choices: tuple[str, ...], what: str, option: str) -> None:
    """Raise InputError, as `require`, unless the value is one of the choices."""
    require(value in choices, f"{what} {value!r} is unknown; choose one of {', '.join(choices)}", option)


@dataclass(frozen=True, kw_only=True)
class MoleculeSettings:
    """The structure whose projections are in the images, and the reference maps made of it.

    Attributes
    ----------
    map_path
        MRC map of the structure; None: a synthetic molecule is made.
    box_px
        Edge of the synthetic molecule's map, px; without effect for a map from a file.
    seed
        Seed of the synthetic molecule.
    diameter_fraction
        Diameter of the synthetic molecule in units of `box_px`.
    blobs, blob_sigma_px
        Number and mean width of its Gaussian blobs.
    resolution_px
        Resolution of the half maps (where their FSC falls below 0.143), in pixels per period.
    mask
        ``"molecule"`` (follows its shape) or ``"sphere"``.
    """

    map_path: Path | None = None
    box_px: int = 96
    seed: int = 0
    diameter_fraction: float = 0.6
    blobs: int = 250
    blob_sigma_px: float = 0.9
    resolution_px: float = 3.2
    mask: str = "molecule"

    def __post_init__(self) -> None:
        require(
            self.box_px >= 16 and self.box_px % 2 == 0,
            f"a box of {self.box_px} px cannot be used; give an even number, 16 or more",
            "--box",
        )
        require(self.box_px <= 1024, f"a box of {self.box_px} px is too large; give at most 1024", "--box")
        require(
            0.1 <= self.diameter_fraction <= 0.9,
            f"the molecule's diameter of {self.diameter_fraction:g} boxes must lie between 0.1 and 0.9",
            "diameter_fraction",
        )
        require(
            self.diameter_fraction * self.box_px >= 8 * self.blob_sigma_px,
            f"blobs of σ = {self.blob_sigma_px:g} px are too wide for a molecule of "
            f"{self.diameter_fraction * self.box_px:g} px; give at most an eighth of its diameter",
            "blob_sigma_px",
        )
        require(self.blobs >= 10, f"{self.blobs} blobs are too few for a molecule; give 10 or more", "blobs")
        require(self.blobs <= 100_000, f"{self.blobs} blobs are too many; give at most 100000", "blobs")
        require(
            self.blob_sigma_px >= 0.5,
            f"blobs of σ = {self.blob_sigma_px:g} px cannot be sampled; give 0.5 px or more",
            "blob_sigma_px",
        )
        require(
            2 < self.resolution_px < self.box_px / 4,
            f"a reference resolution of {self.resolution_px:g} px cannot be used; "
            f"give more than 2 px (Nyquist) and less than {self.box_px / 4:g} px (box / 4)",
            "resolution_px",
        )
        require_choice(self.mask, MASK_SHAPES, "the mask", "mask")


@dataclass(frozen=True, kw_only=True)
class CompanionSettings:
    """Another structure in the same tomograms, with particles of its own.

    Attributes
    ----------
    name
        Name of the species and of its files.
    particles
        Number in each tomogram.
    pair_snr
        As in `NoiseSettings`, for a particle of this structure.
    """

    name: str
    molecule: MoleculeSettings = field(default_factory=MoleculeSettings)
    particles: int = 30
    pair_snr: float = 60.0

    def __post_init__(self) -> None:
        require(
            bool(self.name) and all(c.isalnum() or c in "_-" for c in self.name),
            f"the species name {self.name!r} cannot be used; give letters, digits, - and _",
            "name",
        )
        require(self.particles >= 1, f"there must be at least one particle of {self.name}", "--second")
        require(
            self.particles <= 100_000, f"{self.particles} particles of {self.name} are too many", "--second"
        )
        require(
            0 < self.pair_snr < math.inf,
            f"the signal-to-noise ratio of {self.name} must be positive and finite",
            "--second_snr",
        )
