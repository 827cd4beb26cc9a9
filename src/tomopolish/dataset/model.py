"""The physical content of a data set, independent of file formats: tilt series, particles, references.

Everything here is in the project's own frames and units (docs/dev/conventions.md); the modules beside this
one convert from and to RELION's files. Tilt images are in the order of the files; `TiltSeries.chronological`
gives the order of exposure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Protocol, runtime_checkable

import numpy as np

from tomopolish.dataset.alignment_errors import AlignmentErrors
from tomopolish.dataset.remarks import Remark
from tomopolish.dataset.scores import AlignmentScores
from tomopolish.physics.exposure import image_exposures, step_weights, typical_exposure
from tomopolish.physics.optics import Microscope, TiltCtf
from tomopolish.shapes import Array, Bool, Float, Float32, Int


@runtime_checkable
class TiltImages(Protocol):
    """A source of tilt images that returns one image at a time."""

    @property
    def size_px(self) -> tuple[int, int]:
        """(w, h) of every image."""

    def __len__(self) -> int:
        """Return the number of tilt images."""

    def read(self, tilt: int) -> Float32[Array, "h w"]:
        """Return one tilt image, file order, as float32; raises RunError when it cannot be read.

        Pixels are those of the source: `tomopolish.dataset.screening` replaces wild pixels.
        """


@runtime_checkable
class ReusesMemory(Protocol):
    """A source of tilt images that can write into existing memory."""

    def read_into(self, tilt: int, image: Float32[Array, "n w"], row: int = 0) -> None:
        """Write as many rows as `image` has, from `row` on; raises RunError when they cannot be read."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Deformation:
    """A 2D warp of tilt images in RELION's parameters (docs/dev/conventions.md, Objective)."""

    model: str  # "linear", "spline" or "Fourier"
    grid: tuple[int, int]  # (gw, gh)
    coefficients: Float[Array, "F coefficients"]  # px; one row per tilt image, file order


@dataclass(frozen=True, kw_only=True)
class LeftOutTilt:
    """A tilt image that is left out of a computation.

    Attributes
    ----------
    tilt
        Index in the file's order, from 0.
    reason
        Reason, as the rest of a sentence: "it is constant".
    """

    tilt: int
    reason: str


def _usable(tilts: int, left_out: Sequence[LeftOutTilt]) -> Bool[Array, "F"]:
    usable = np.ones(tilts, dtype=bool)
    usable[[one.tilt for one in left_out]] = False
    return usable


@dataclass(frozen=True, kw_only=True, eq=False)
class TiltSeries:
    """One tilt series: geometry, optics and a source of its images.

    Attributes
    ----------
    projections_px
        Tomogram (px) → image (px) matrices, file order.
    pre_exposure
        Dose before each image, e⁻/Å².
    bfactor_per_dose
        B factor per unit dose, Å² per e⁻/Å²; 0 selects the critical-exposure curve.
    fractional_dose
        Dose of one image as stated in the files, or None.
    hand, defocus_slope
        Change of defocus with depth: defocus = nominal + hand · pixel size · slope · depth.
    left_out
        Tilt images that are left out, ascending. Values that the files lack for them are finite and
        meaningless.
    size_is_assumed
        Axes along which the files do not state the tomogram's size; see `dataset.relion.tomogram_size`.
    ignored_projections_px
        Further projections in the files, which are not used; None where there are none.
    remarks
        Assumptions that were made on reading.
    """

    name: str
    projections_px: Float[Array, "F 4 4"]
    tomogram_size_px: tuple[int, int, int]
    pixel_size_angstrom: float
    hand: float
    defocus_slope: float
    microscope: Microscope
    ctf: TiltCtf
    pre_exposure: Float[Array, "F"]
    bfactor_per_dose: Float[Array, "F"]
    fractional_dose: float | None
    images: TiltImages
    deformation: Deformation | None = None
    left_out: tuple[LeftOutTilt, ...] = ()
    size_is_assumed: tuple[bool, bool, bool] = (False, False, False)
    ignored_projections_px: Float[Array, "F 4 4"] | None = None
    remarks: tuple[Remark, ...] = ()

    def __len__(self) -> int:
        return len(self.projections_px)

    @property
    def usable(self) -> Bool[Array, "F"]:
        """Tilt images that are not left out."""
        return _usable(len(self), self.left_out)

    @property
    def image_size_px(self) -> tuple[int, int]:
        """(w, h) of the tilt images."""
        return self.images.size_px

    @property
    def chronological(self) -> Int[Array, "F"]:
        """File index of the m-th exposed image; ties keep the file's order."""
        return np.argsort(self.pre_exposure, kind="stable")

    @property
    def frame_dose(self) -> float:
        """Exposure of a typical image, e⁻/Å²: as stated, or the median step of the accumulated exposure.

        It is 0 where nothing is stated and all images have the same accumulated exposure.
        """
        if self.fractional_dose is not None and self.fractional_dose > 0:
            return self.fractional_dose
        return typical_exposure(self.image_exposures)

    @property
    def image_exposures(self) -> Float[Array, "F"]:
        """Exposure of each image, e⁻/Å², in order of exposure; see `physics.exposure.image_exposures`."""
        return image_exposures(np.sort(self.pre_exposure))

    @property
    def step_weights(self) -> Float[Array, "T"]:
        """Exposure of each step relative to that of a typical image; see `physics.exposure.step_weights`."""
        return step_weights(self.pre_exposure)


@dataclass(frozen=True, kw_only=True)
class OpticsGroup:
    """Aberrations shared by a group of particles; pixel size and microscope are those of the tomogram."""

    name: str
    even_zernike: tuple[float, ...] = ()
    odd_zernike: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Particles:
    """The particles of one tomogram.

    Attributes
    ----------
    rows
        Row of each particle in the particle table.
    positions_px
        Tomogram frame, px.
    rotations
        Rotation A of each particle, from particle to tomogram.
    half_set
        0 or 1: the half map that a particle is compared with.
    optics_group
        Index into `optics_groups`, which contain the groups that the particles use.
    trajectories_px
        Offset from the static position in each tilt image (file order), px, or None; zero in the
        chronologically first image.
    """

    rows: Int[Array, "P"]
    names: tuple[str, ...]
    positions_px: Float[Array, "P 3"]
    rotations: Float[Array, "P 3 3"]
    half_set: Int[Array, "P"]
    optics_group: Int[Array, "P"]
    optics_groups: tuple[OpticsGroup, ...]
    trajectories_px: Float[Array, "P F 3"] | None = None

    def __len__(self) -> int:
        return len(self.positions_px)

    def subset(self, members: Int[Array, "M"]) -> Particles:
        """Return some of the particles."""
        parts = {k: v for k, v in vars(self).items() if k not in ("names", "optics_groups") and v is not None}
        names = tuple(self.names[i] for i in members)
        return replace(self, names=names, **{k: v[members] for k, v in parts.items()})


@dataclass(frozen=True, kw_only=True, eq=False)
class Tomogram:
    """One tilt series and the particles of each species in it; a species may have none here."""

    series: TiltSeries
    species: tuple[Particles, ...]

    @cached_property
    def particles(self) -> Particles:
        """The particles of all species in sequence, for geometry only.

        Rows, half sets and optics groups have no meaning where there are several species.
        """
        if len(self.species) == 1:
            return self.species[0]
        moves = any(p.trajectories_px is not None for p in self.species)
        paths = [
            np.zeros((len(p), len(self.series), 3)) if p.trajectories_px is None else p.trajectories_px
            for p in self.species
        ]
        return Particles(
            rows=np.concatenate([p.rows for p in self.species]),
            names=tuple(name for p in self.species for name in p.names),
            positions_px=np.concatenate([p.positions_px for p in self.species]),
            rotations=np.concatenate([p.rotations for p in self.species]),
            half_set=np.concatenate([p.half_set for p in self.species]),
            optics_group=np.concatenate([p.optics_group for p in self.species]),
            optics_groups=self.species[0].optics_groups,
            trajectories_px=np.concatenate(paths) if moves else None,
        )

    @property
    def parts(self) -> tuple[slice, ...]:
        """Place of each species' particles in `particles`."""
        ends = np.cumsum([len(particles) for particles in self.species]).tolist()
        return tuple(slice(first, last) for first, last in pairwise([0, *ends]))

    @property
    def owner(self) -> Int[Array, "P"]:
        """Species of each of `particles`."""
        return np.repeat(np.arange(len(self.species)), [len(p) for p in self.species])


@dataclass(frozen=True, kw_only=True, eq=False)
class References:
    """References as read: half maps (unmasked), mask and FSC.

    Attributes
    ----------
    half_maps
        Both half maps, `[half, z, y, x]`, with the intensities of RELION's Reconstruct particle.
    mask
        Same shape as one map, or None.
    fsc
        Corrected FSC by shell of a box of `fsc_box` px, or None.
    remarks
        Sentences on assumptions that were made on reading.
    """

    half_maps: Float32[Array, "2 s s s"]
    pixel_size_angstrom: float
    mask: Float32[Array, "s s s"] | None = None
    fsc: Float[Array, "shells"] | None = None
    fsc_box: int | None = None
    remarks: tuple[str, ...] = ()

    @property
    def size_px(self) -> int:
        """Edge of the maps, px."""
        return int(self.half_maps.shape[-1])


@dataclass(frozen=True, kw_only=True, eq=False)
class RefinedOptics:
    """Optics of the tilt images that a refinement changed; None: as in the input.

    Attributes
    ----------
    defocus_angstrom
        DefocusU and DefocusV.
    """

    defocus_angstrom: Float[Array, "F 2"] | None = None
    astigmatism_degrees: Float[Array, "F"] | None = None
    phase_shift_degrees: Float[Array, "F"] | None = None
    scale: Float[Array, "F"] | None = None
    bfactor_angstrom2: Float[Array, "F"] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Alignment:
    """The refined geometry of one tomogram, as it is written into the new sets.

    Attributes
    ----------
    projections_px
        Refined projections, file order.
    rows, positions_px
        Row in the particle table and refined position of each particle.
    trajectories_px
        Offsets in each tilt image (file order), px, zero in the chronologically first; None when static.
    deformation
        Refined warp, or None.
    errors, scores
        Standard errors, and how well particles and tilt images show what the references predict; None where
        they were not estimated.
    rotations
        Refined particle → tomogram rotations; None where orientations were not refined.
    optics
        Refined optics of the tilt images.
    left_out
        Tilt images that were left out: their rows are written as they were read.
    """

    tomogram: str
    projections_px: Float[Array, "F 4 4"]
    rows: Int[Array, "P"]
    positions_px: Float[Array, "P 3"]
    trajectories_px: Float[Array, "P F 3"] | None = None
    deformation: Deformation | None = None
    errors: AlignmentErrors | None = None
    scores: AlignmentScores | None = None
    rotations: Float[Array, "P 3 3"] | None = None
    optics: RefinedOptics = field(default_factory=RefinedOptics)
    left_out: tuple[LeftOutTilt, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def usable(self) -> Bool[Array, "F"]:
        """Tilt images that were not left out."""
        return _usable(len(self.projections_px), self.left_out)
