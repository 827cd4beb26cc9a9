"""A project: one or more species in the same tomograms, loaded and written together."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tomopolish.dataset.images import MrcImages
from tomopolish.dataset.model import Alignment, References, TiltSeries, Tomogram
from tomopolish.dataset.project import Dataset
from tomopolish.errors import InputError
from tomopolish.plain_text import counted
from tomopolish.settings.tilts import TiltSelection

SINGLE = "particles"
"""Name of the species of a project with a single one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SpeciesReferences:
    """References of one species, and the box in which its particles are compared."""

    references: References
    box_px: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Species:
    """Particles of one structure: their data set, and the box in which they are compared.

    Attributes
    ----------
    box_px
        Edge of the box; 0 where it has not been chosen.
    symmetry
        Point group of its maps; None: that of the options.
    """

    name: str
    dataset: Dataset
    box_px: int
    symmetry: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Project:
    """One or more species in the same tomograms; see `join_species`."""

    species: tuple[Species, ...]

    @classmethod
    def of(cls, dataset: Dataset, box_px: int = 0) -> Project:
        """Return the project of a single species."""
        return cls(species=(Species(name=SINGLE, dataset=dataset, box_px=box_px),))

    def __repr__(self) -> str:
        counts = [(s.name, f"{len(s.dataset.particles)} particles") for s in self.species]
        named = [count if self.is_single else f"{name}: {count}" for name, count in counts]
        return f"Project({counted(len(self.tomogram_names), 'tomogram')}, {', '.join(named)})"

    @property
    def is_single(self) -> bool:
        """Whether there is one species, whose sets are in the output folder itself."""
        return len(self.species) == 1

    @property
    def first(self) -> Dataset:
        """The data set whose tomogram set is used."""
        return self.species[0].dataset

    @cached_property
    def tomogram_names(self) -> tuple[str, ...]:
        """Tomograms that have particles of any species, in the order of the tomogram set."""
        with_particles = {name for s in self.species for name in s.dataset.tomogram_names}
        return tuple(name for name in self.first.tomograms.names if name in with_particles)

    @property
    def boxes_px(self) -> tuple[int, ...]:
        """Box of each species."""
        return tuple(s.box_px for s in self.species)

    @property
    def folders(self) -> dict[str, Species]:
        """Folder within an output, ending in a slash, that receives the sets of each species.

        That of a single species is the output folder itself, named "".
        """
        return {"" if self.is_single else f"{s.name}/": s for s in self.species}

    @property
    def conventions(self) -> list[str]:
        """Return sentences on the convention for positions, where versions of RELION differ."""
        return [self.named(s, sentence) for s in self.species for sentence in s.dataset.conventions]

    def named(self, species: Species, sentence: str) -> str:
        """Return a sentence with the name of its species, if there are several."""
        return sentence if self.is_single else f"{species.name}: {sentence}"

    def with_boxes(self, boxes_px: Sequence[int]) -> Project:
        """Return the project with a box for each species."""
        chosen = [replace(s, box_px=box) for s, box in zip(self.species, boxes_px, strict=True)]
        return Project(species=tuple(chosen))

    def references(self, *, keep: bool = False) -> tuple[SpeciesReferences, ...]:
        """Return the references of each species; `keep` and errors are those of `Dataset.references`."""
        return tuple(
            SpeciesReferences(references=s.dataset.references(keep=keep), box_px=s.box_px)
            for s in self.species
        )

    def tomogram(self, name: str) -> Tomogram:
        """Return one tomogram with the particles of each species; raises InputError like `Dataset.load`."""
        if self.is_single:
            series, particles = self.first.load(name)
            return Tomogram(series=series, species=(particles,))
        series = self.first.tomograms.load(name)
        particles_of_each = [
            s.dataset.load(name)[1]
            if name in s.dataset.tomogram_names
            else s.dataset.particles.particles(series)
            for s in self.species
        ]
        return Tomogram(series=series, species=tuple(particles_of_each))

    def write(
        self,
        out_folder: Path,
        alignments: Sequence[Mapping[str, Alignment]],
        *,
        motion: bool,
        place: Path | None = None,
        projections_in: str | None = None,
    ) -> None:
        """Write the refined tomograms once, and the other sets of each species; if several, into folders.

        `alignments` has a mapping for each species; the rest, and errors, are as in `Dataset.write`.
        """
        for number, (species, alignment_of) in enumerate(zip(self.species, alignments, strict=True)):
            species.dataset.write(
                out_folder,
                alignment_of,
                motion=motion,
                species=None if self.is_single else species.name,
                with_tomograms=number == 0,
                place=place,
                projections_in=projections_in,
            )

    def selecting(self, selection: TiltSelection) -> Project:
        """Return the project with another selection of tilt images to leave out."""
        return Project(
            species=tuple(replace(s, dataset=s.dataset.selecting(selection)) for s in self.species)
        )

    def restricted_to(self, names: Collection[str]) -> Project:
        """Return the project of some of its tomograms."""
        return Project(
            species=tuple(replace(s, dataset=s.dataset.restricted_to(names)) for s in self.species)
        )

    def __getstate__(self) -> dict[str, Any]:
        return {"species": self.species}


def join_species(species: Sequence[Species]) -> Project:
    """Return the project of data sets that share their tomograms.

    The tomogram set of the first is used. Sets from other files must describe the tomograms with their
    particles in the same way: geometry, optics, doses and images. Otherwise, InputError is raised.
    """
    first = species[0]
    shared = first.dataset.files.require("tomograms")
    joined = [first]
    for other in species[1:]:
        files = other.dataset.files
        if files.require("tomograms").resolve() != shared.resolve():
            _check_same_tomograms(first, other)
        dataset = replace(other.dataset, files=files.updated({"tomograms": shared}))
        joined.append(replace(other, dataset=dataset))
    return Project(species=tuple(joined))


def _check_same_tomograms(first: Species, species: Species) -> None:
    expected_set, other_set = first.dataset.tomograms, species.dataset.tomograms
    expected, actual = first.dataset.files.shown("tomograms"), species.dataset.files.shown("tomograms")
    remedy = "give both species the same tomogram set, or one for all with --t"
    if expected_set.dialect != other_set.dialect:
        raise InputError(f"{expected} and {actual} are written for different versions of RELION; {remedy}")
    other_set = other_set.with_sizes_of(expected_set, everywhere=species.dataset.particles.is_centred)
    for name in species.dataset.tomogram_names:
        if name not in expected_set:
            raise InputError(
                f"{actual}: tomogram {name}, with particles of {species.name}, is not in {expected}; {remedy}"
            )
        difference = _difference(expected_set.load(name), other_set.load(name))
        if difference:
            raise InputError(
                f"{actual}: tomogram {name} is not the same as in {expected} ({difference}), so that "
                f"{first.name} and {species.name} cannot be aligned together; {remedy}"
            )


def _difference(first: TiltSeries, second: TiltSeries) -> str | None:
    """Return the first property in which two descriptions of a tilt series differ, or None.

    A dose that only one of them states is no difference: the first description counts.
    """
    passed_over = {"remarks", "ignored_projections_px"}
    passed_over |= {"fractional_dose"} if None in (first.fractional_dose, second.fractional_dose) else set()
    for field in fields(first):
        expected, actual = getattr(first, field.name), getattr(second, field.name)
        if field.name in passed_over:
            continue
        if field.name == "images":
            if _image_places(first) != _image_places(second):
                return "images"
        elif not _equal(expected, actual):
            return field.name.removesuffix("_px").replace("_", " ")
    return None


def _image_places(series: TiltSeries) -> list[tuple[Path, int] | None] | None:
    if not isinstance(series.images, MrcImages):
        return None
    return [place and (place[0].path.resolve(), place[1]) for place in series.images.sections]


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, np.ndarray):
        return isinstance(second, np.ndarray) and np.array_equal(first, second)
    if hasattr(first, "__dataclass_fields__") and type(first) is type(second):
        return all(_equal(getattr(first, f.name), getattr(second, f.name)) for f in fields(first))
    return bool(first == second)
