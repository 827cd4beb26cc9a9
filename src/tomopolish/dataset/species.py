"""Several species in the same tomograms: their data sets, checked, loaded and written together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tomopolish.dataset.check import (
    WITHOUT_PARTICLES,
    check_box,
    check_particles,
    check_references,
    check_tomogram,
)
from tomopolish.dataset.images import MrcImages
from tomopolish.dataset.left_out import check_selection
from tomopolish.dataset.model import Alignment, Particles, References, TiltSeries
from tomopolish.dataset.project import Dataset
from tomopolish.dataset.remarks import Remarks
from tomopolish.errors import InputError
from tomopolish.settings.tilts import TiltSelection


@dataclass(frozen=True, kw_only=True, eq=False)
class SpeciesReferences:
    """What the particles of one species are compared with, and in which box."""

    references: References
    box_px: int


@dataclass(frozen=True, kw_only=True, eq=False)
class SpeciesDataset:
    """The data set of one species."""

    name: str
    dataset: Dataset
    box_px: int


@dataclass(frozen=True, kw_only=True, eq=False)
class SpeciesSet:
    """Data sets that share their tomograms; see `join_species`."""

    species: tuple[SpeciesDataset, ...]

    @property
    def first(self) -> Dataset:
        """The data set whose tomogram set counts."""
        return self.species[0].dataset

    @cached_property
    def tomogram_names(self) -> tuple[str, ...]:
        """Tomograms that have particles of any species, in the order of the tomogram set."""
        found = {name for s in self.species for name in s.dataset.tomogram_names}
        return tuple(name for name in self.first.tomograms.names if name in found)

    @property
    def boxes_px(self) -> tuple[int, ...]:
        """Box of each species."""
        return tuple(s.box_px for s in self.species)

    def references(self, *, keep: bool = False) -> tuple[SpeciesReferences, ...]:
        """Return the references of each species; `keep` and what it raises as for `Dataset.references`."""
        return tuple(
            SpeciesReferences(references=s.dataset.references(keep=keep), box_px=s.box_px)
            for s in self.species
        )

    def load(self, name: str) -> tuple[TiltSeries, tuple[Particles, ...]]:
        """Load one tomogram with the particles of each species, of some of which there may be none.

        Raises InputError as `Dataset.load`.
        """
        series = self.first.tomograms.load(name)
        return series, tuple(
            s.dataset.load(name)[1]
            if name in s.dataset.tomogram_names
            else s.dataset.particles.particles(series)
            for s in self.species
        )

    def write(
        self,
        out_folder: Path,
        alignments: Sequence[Mapping[str, Alignment]],
        *,
        motion: bool,
        place: Path | None = None,
    ) -> tuple[Path, ...]:
        """Write the refined tomograms once, and for each species a folder with all else.

        Parameters
        ----------
        alignments
            For each species, as in `Dataset.write`.
        place
            As there.

        Returns
        -------
        The species' optimisation sets.

        Raises
        ------
        RunError
            When a file cannot be written.
        """
        for number, (species, found) in enumerate(zip(self.species, alignments, strict=True)):
            species.dataset.write(
                out_folder,
                found,
                motion=motion,
                species=species.name,
                with_tomograms=number == 0,
                place=place,
            )
        folder = self.first.files.working_directory / out_folder
        return tuple(folder / species.name / "optimisation_set.star" for species in self.species)

    def selecting(self, selection: TiltSelection) -> SpeciesSet:
        """Return the species with other tilt images left out on request."""
        return SpeciesSet(
            species=tuple(replace(s, dataset=s.dataset.selecting(selection)) for s in self.species)
        )

    def __getstate__(self) -> dict[str, Any]:
        return {"species": self.species}

    def __setstate__(self, state: dict[str, Any]) -> None:
        object.__setattr__(self, "species", state["species"])


def join_species(species: Sequence[SpeciesDataset]) -> SpeciesSet:
    """Put data sets together that share their tomograms.

    The first one's tomogram set counts. One from another file must describe the tomograms that hold its
    particles in the same way: geometry, optics, doses and images.

    Raises
    ------
    InputError
        When two tomogram sets disagree.
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
    return SpeciesSet(species=tuple(joined))


def check_species(species: SpeciesSet, unusable: dict[str, str] | None = None) -> list[str]:
    """Check all species and their tomograms; returns warnings, which name the species.

    Parameters
    ----------
    unusable
        Receives the tomograms that cannot be refined, with the reason; None: the first one is an error.

    Raises
    ------
    InputError
        When the data cannot be refined.
    """
    warnings: list[str] = []
    visible: dict[str, int] = dict.fromkeys(species.tomogram_names, 0)
    faults: dict[str, InputError] = {}
    for s in species.species:
        check_box(s.box_px)
        check_selection(s.dataset.tomograms, s.dataset.selection)
        found = check_particles(s.dataset)
        found = [w for w in found if WITHOUT_PARTICLES not in w] + check_references(s.dataset, s.box_px)
        remarks = Remarks()
        for name in s.dataset.tomogram_names:
            try:
                sentences, pairs = check_tomogram(s.dataset, name, s.box_px, remarks)
            except InputError as problem:
                if unusable is None:
                    raise
                faults.setdefault(name, problem)
                continue
            found += sentences
            visible[name] += pairs
        found += remarks.sentences()
        warnings += [f"{s.name}: {sentence}" for sentence in found]
    if faults and len(faults) == len(visible):
        raise next(iter(faults.values()))
    unseen = [name for name, pairs in visible.items() if not pairs and name not in faults]
    if len(unseen) + len(faults) == len(visible):
        raise InputError(
            f"{species.first.files.shown('tomograms')}: no particle of any species lies at least half a box "
            "inside any tilt image; check positions and pixel sizes, or give a smaller --b"
        )
    sentence = "no particle of any species lies half a box inside any tilt image"
    if unusable is not None:
        unusable.update(dict.fromkeys(unseen, sentence))
        unusable.update({name: str(problem) for name, problem in faults.items()})
        return warnings
    return warnings + [f"tomogram {name}: {sentence}; it keeps its input values" for name in unseen]


def _check_same_tomograms(first: SpeciesDataset, other: SpeciesDataset) -> None:
    ours, theirs = first.dataset.tomograms, other.dataset.tomograms
    one, two = first.dataset.files.shown("tomograms"), other.dataset.files.shown("tomograms")
    remedy = "give both species the same tomogram set, or one for all with --t"
    if ours.dialect != theirs.dialect:
        raise InputError(f"{one} and {two} are written for different versions of RELION; {remedy}")
    for name in other.dataset.tomogram_names:
        if name not in ours:
            raise InputError(
                f"{two}: tomogram {name}, with particles of {other.name}, is not in {one}; {remedy}"
            )
        difference = _difference(ours.load(name), theirs.load(name))
        if difference:
            raise InputError(
                f"{two}: {difference} of tomogram {name} is not the same as in {one}, so that "
                f"{first.name} and {other.name} are not aligned alike; {remedy}"
            )


def _difference(one: TiltSeries, other: TiltSeries) -> str | None:
    """Name the first thing in which two descriptions of a tilt series differ, or None."""
    for field in fields(one):
        ours, theirs = getattr(one, field.name), getattr(other, field.name)
        if field.name in ("remarks", "ignored_projections_px", "size_is_assumed"):
            continue
        if field.name == "images":
            if _image_places(one) != _image_places(other):
                return "images"
        elif not _equal(ours, theirs):
            return field.name.removesuffix("_px").replace("_", " ")
    return None


def _image_places(series: TiltSeries) -> list[tuple[Path, int] | None] | None:
    if not isinstance(series.images, MrcImages):
        return None
    return [place and (place[0].path.resolve(), place[1]) for place in series.images.sections]


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and np.array_equal(one, other)
    if hasattr(one, "__dataclass_fields__") and type(one) is type(other):
        return all(_equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    return bool(one == other)
