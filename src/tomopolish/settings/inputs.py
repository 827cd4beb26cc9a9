"""Paths of the input data of a run."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from tomopolish.errors import InputError
from tomopolish.plain_text import listed
from tomopolish.settings.refuse import refuse, refuse_unwritable
from tomopolish.settings.tilts import TiltSelection
from tomopolish.settings.wording import as_called

_RESERVED = frozenset(
    ("errors", "evaluation", "one_frame", "only", "report", "temp", "tilt_series", "trajectories", "workers")
)
"""Folders of the output that belong to no species, so that their names are reserved, as ``round00`` … are."""
_STEM = "optimisation_set"


def species_name(path: Path) -> str:
    """Return a name for a species: its optimisation set's, or the folder's if the file has the usual name."""
    if path.stem == _STEM:
        return path.absolute().parent.name
    return path.stem.removesuffix(f"_{_STEM}")


def refuse_version(version: int | None) -> None:
    """Raise InputError for a version of RELION that is neither 4, 5 nor None (that of the tomogram set)."""
    refuse(version not in (None, 4, 5), f"--relion_version {version} is unknown: give auto, 4 or 5")


@dataclass(frozen=True, kw_only=True)
class SpeciesPaths:
    """One of several structures in the same tomograms.

    Attributes
    ----------
    name
        Name of the species and of its folder in the output.
    optimisation_set
        Its particles and references, and the tomograms that all species share.
    box_px
        Edge of the box around each of its projected particles.
    symmetry
        Point group of its maps, for `polish`; None: that of `--sym`.
    """

    name: str
    optimisation_set: Path
    box_px: int
    symmetry: str | None = None

    def __post_init__(self) -> None:
        refuse(
            re.fullmatch(r"\w[\w.+-]*", self.name) is None,
            f"{self.name!r} cannot be the name of a species and of its folder: give letters, digits, "
            "and . _ + -",
        )
        refuse(
            self.name.casefold() in _RESERVED or re.fullmatch(r"round\d+", self.name.casefold()) is not None,
            f"{self.name!r} cannot be the name of a species, since the output has a folder of that name for "
            "other files: give another name",
        )


@dataclass(frozen=True, kw_only=True)
class InputPaths:
    """Paths of the input data; a path stated here overrides the optimisation set's entry.

    Attributes
    ----------
    optimisation_set
        `--i`.
    particles, tomograms, trajectories
        `--p`, `--t`, `--mot`.
    half_map1, half_map2, mask, fsc
        `--ref1`, `--ref2`, `--mask`, `--fsc`.
    relion_version
        `--relion_version`: the version of RELION, 4 or 5, that will read the particle sets, which differ in
        their origin of positions in px, by 1 px. None (`auto`): that of the tomogram set.
    species
        Several structures in the same tomograms, instead of one optimisation set. `tomograms` is then the
        tomogram set of all species; the other paths must be None.
    tilts
        Tilt images that are left out on request.
    may_lack_references
        Whether particles and tomograms alone are enough, as for a command that makes its own references.
    """

    optimisation_set: Path | None = None
    particles: Path | None = None
    tomograms: Path | None = None
    trajectories: Path | None = None
    half_map1: Path | None = None
    half_map2: Path | None = None
    mask: Path | None = None
    fsc: Path | None = None
    relion_version: int | None = None
    species: tuple[SpeciesPaths, ...] = ()
    tilts: TiltSelection = field(default_factory=TiltSelection)
    may_lack_references: bool = False

    def __post_init__(self) -> None:
        refuse_version(self.relion_version)
        sets = [species.optimisation_set for species in self.species]
        for path in (self.optimisation_set, *sets):
            refuse_unwritable("--i", path)
        for option, path in self._parts().items():
            refuse_unwritable(option, path)
        if self.species:
            self._check_species()
            return
        if self.optimisation_set is not None:
            return
        needed = {"--p": self.particles, "--t": self.tomograms}
        references = {"--ref1": self.half_map1, "--ref2": self.half_map2}
        if not self.may_lack_references or any(references.values()):
            needed |= references
        missing = [option for option, path in needed.items() if path is None]
        refuse(
            len(missing) == len(needed),
            f"no input given: name an optimisation set with --i, or its parts with {', '.join(needed)}",
        )
        if missing:
            sentence = f"without an optimisation set (--i), {listed(missing)} must be given too"
            raise InputError(as_called(sentence))

    def _parts(self) -> dict[str, Path | None]:
        return {
            "--p": self.particles,
            "--t": self.tomograms,
            "--mot": self.trajectories,
            "--ref1": self.half_map1,
            "--ref2": self.half_map2,
            "--mask": self.mask,
            "--fsc": self.fsc,
        }

    def _check_species(self) -> None:
        parts = {option: path for option, path in self._parts().items() if option != "--t"}
        stated = [option for option, path in parts.items() if path is not None]
        refuse(
            self.optimisation_set is not None,
            "an optimisation set and a list of species exclude each other: give one of them",
        )
        if stated:
            sentence = (
                f"with several species it is not defined to which of them {listed(stated)} would belong: "
                "name the files in the species' own optimisation sets"
            )
            raise InputError(as_called(sentence))
        sets: dict[str, Path] = {}
        for species in self.species:
            namesake = sets.get(species.name.casefold())
            refuse(
                namesake is not None,
                f"{namesake} and {species.optimisation_set} would both be the species {species.name}: give "
                "them names that differ in more than case; on the command line in a YAML file for --i, whose "
                "items have name, optimisation_set and box",
            )
            sets[species.name.casefold()] = species.optimisation_set
