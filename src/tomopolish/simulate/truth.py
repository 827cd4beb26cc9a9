"""The truth behind simulated images, in memory and as ``truth.json``, and kinds of picks and tilt images."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from tomopolish.dataset.files import atomic_write
from tomopolish.dataset.model import Deformation, Particles, TiltSeries
from tomopolish.dataset.opening import read_json
from tomopolish.errors import InputError
from tomopolish.shapes import Array, Bool, Float, Int


class PickKind(str, Enum):
    """Whether a pick shows a particle, once, in the stated orientation."""

    GOOD = "good"
    FALSE = "false"
    MISORIENTED = "misoriented"
    DUPLICATE = "duplicate"


class TiltKind(str, Enum):
    """Whether a tilt image shows the specimen, all of it, about where the input expects it."""

    GOOD = "good"
    COVERED = "covered"
    DISPLACED = "displaced"
    BLANK = "blank"

    @property
    def shows_all(self) -> bool:
        """Whether the image shows all particles, so that its geometry can be judged."""
        return self in (TiltKind.GOOD, TiltKind.DISPLACED)


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """True geometry of one tomogram. Tilt axes are in file order; lengths in px, tomogram frame.

    Attributes
    ----------
    projections_px, input_projections_px
        True projections, and those that the files state.
    positions_px, input_positions_px
        True static positions, and those of the files (None if the truth's file does not have them).
    trajectories_px
        Offsets from the static position; zero in the chronologically first tilt image.
    positions_2d_px
        True 2D position of each particle, trajectories and warp included.
    rotations
        Particle → tomogram rotation A.
    box_px
        Edge of the box, which determines the visible pairs.
    deformation
        The planted warp, or None.
    particle_names
        Names in the particle table; None if the truth's file does not have them.
    settings
        Settings of the simulation, as information for readers of the file.
    particle_kinds
        What each pick is; empty where all are good.
    originals
        Index of the earlier pick of the same particle, −1 where there is none; None where all are good.
    tilt_kinds
        What is special about each tilt image; empty where nothing is.
    beads_px
        Positions of gold beads; None where there are none.
    """

    name: str
    projections_px: Float[Array, "F 4 4"]
    input_projections_px: Float[Array, "F 4 4"]
    positions_px: Float[Array, "P 3"]
    trajectories_px: Float[Array, "P F 3"]
    positions_2d_px: Float[Array, "P F 2"]
    rotations: Float[Array, "P 3 3"]
    pre_exposure: Float[Array, "F"]
    tomogram_centre_px: Float[Array, "3"]
    pixel_size_angstrom: float
    box_px: int
    image_size_px: tuple[int, int]
    input_positions_px: Float[Array, "P 3"] | None = None
    deformation: Deformation | None = None
    particle_names: tuple[str, ...] | None = None
    settings: Mapping[str, Any] | None = None
    particle_kinds: tuple[PickKind, ...] = ()
    originals: Int[Array, "P"] | None = None
    tilt_kinds: tuple[TiltKind, ...] = ()
    beads_px: Float[Array, "B 3"] | None = None

    @property
    def good_particles(self) -> Bool[Array, "P"]:
        """Picks that are neither false nor misoriented, and not the second of their particle."""
        if not self.particle_kinds:
            return np.ones(len(self.positions_px), dtype=bool)
        return np.array([kind is PickKind.GOOD for kind in self.particle_kinds])

    @property
    def good_tilts(self) -> Bool[Array, "F"]:
        """Tilt images that show all of the specimen: neither blank nor covered."""
        if not self.tilt_kinds:
            return np.ones(len(self.projections_px), dtype=bool)
        return np.array([kind.shows_all for kind in self.tilt_kinds])

    @property
    def is_clean(self) -> bool:
        """Whether all particles and tilt images are good."""
        return bool(self.good_particles.all() and self.good_tilts.all())

    @property
    def visible(self) -> Bool[Array, "P F"]:
        """Whether the true 2D position is at least half a box from the image's border."""
        return visible_pairs(self.positions_2d_px, self.image_size_px, self.box_px)

    def to_json(self) -> dict[str, Any]:
        """Return the truth as JSON values."""
        content: dict[str, Any] = {
            "P": self.projections_px.tolist(),
            "Pi": self.input_projections_px.tolist(),
            "pos": self.positions_px.tolist(),
            "traj": self.trajectories_px.tolist(),
            "uv": self.positions_2d_px.tolist(),
            "A": self.rotations.tolist(),
            "dose": self.pre_exposure.tolist(),
            "centre": self.tomogram_centre_px.tolist(),
            "pixel": self.pixel_size_angstrom,
            "box": self.box_px,
            "size": list(self.image_size_px),
        }
        if self.input_positions_px is not None:
            content["pos_in"] = self.input_positions_px.tolist()
        if self.particle_names is not None:
            content["names"] = list(self.particle_names)
        if self.deformation is not None:
            content["deformation"] = {
                "model": self.deformation.model,
                "grid": list(self.deformation.grid),
                "coefficients": self.deformation.coefficients.tolist(),
            }
        if self.particle_kinds:
            content["particle_kinds"] = [kind.value for kind in self.particle_kinds]
        if self.originals is not None:
            content["originals"] = self.originals.tolist()
        if self.tilt_kinds:
            content["tilt_kinds"] = [kind.value for kind in self.tilt_kinds]
        if self.beads_px is not None:
            content["beads"] = self.beads_px.tolist()
        if self.settings is not None:
            content["settings"] = dict(self.settings)
        return content


def visible_pairs(
    positions_2d_px: Float[Array, "... 2"], image_size_px: tuple[int, int], box_px: int
) -> Bool[Array, "..."]:
    """Return whether positions are at least half a box from the image's border.

    See docs/dev/conventions.md, Correlation windows.
    """
    far = np.asarray(image_size_px) - box_px / 2
    inside: Array = np.all((positions_2d_px >= box_px / 2) & (positions_2d_px <= far), axis=-1)
    return inside


def with_true_geometry(
    series: TiltSeries, particles: Particles, truth: Truth
) -> tuple[TiltSeries, Particles]:
    """Return a tomogram with its true geometry, trajectories and warp included."""
    moves = bool(np.any(truth.trajectories_px))
    return (
        replace(series, projections_px=truth.projections_px, deformation=truth.deformation),
        replace(
            particles,
            positions_px=truth.positions_px,
            trajectories_px=truth.trajectories_px if moves else None,
        ),
    )


def write_truth(path: Path, truths: Iterable[Truth]) -> None:
    """Write ``truth.json``, one tomogram after another; raises RunError when it cannot be written."""
    with atomic_write(path) as handle:
        separator = "{\n"
        for truth in truths:
            handle.write(f"{separator}{json.dumps(truth.name)}: {json.dumps(truth.to_json())}")
            separator = ",\n"
        handle.write("\n}\n")


def read_truth(path: Path) -> dict[str, Truth]:
    """Read ``truth.json``: tomogram name → truth; raises InputError when it is missing or malformed."""
    try:
        content = read_json(path)
        return {name: _truth_from_json(name, values) for name, values in content.items()}
    except OSError as problem:
        reason = f"it cannot be read ({problem.strerror or problem})"
    except (ValueError, AttributeError, TypeError, OverflowError, RecursionError):
        reason = "it is not made of JSON tables of numbers"
    except KeyError as problem:
        reason = f"it has no entry {problem.args[0]!r}"
    raise InputError(f"{path}: this is not the truth of a simulation: {reason}; give its truth.json")


def _truth_from_json(name: str, values: Mapping[str, Any]) -> Truth:
    def array(key: str) -> Array:
        return np.asarray(values[key], dtype=np.float64)

    width, height = (int(n) for n in values["size"])
    warp = values.get("deformation")
    return Truth(
        name=name,
        projections_px=array("P"),
        input_projections_px=array("Pi"),
        positions_px=array("pos"),
        trajectories_px=array("traj"),
        positions_2d_px=array("uv"),
        rotations=array("A"),
        pre_exposure=array("dose"),
        tomogram_centre_px=array("centre"),
        pixel_size_angstrom=float(array("pixel").item()),
        box_px=int(array("box").item()),
        image_size_px=(width, height),
        input_positions_px=array("pos_in") if "pos_in" in values else None,
        deformation=None if warp is None else _deformation_from_json(warp),
        particle_names=tuple(values["names"]) if "names" in values else None,
        settings=values.get("settings"),
        particle_kinds=tuple(PickKind(kind) for kind in values.get("particle_kinds", ())),
        originals=np.asarray(values["originals"], dtype=np.int64) if "originals" in values else None,
        tilt_kinds=tuple(TiltKind(kind) for kind in values.get("tilt_kinds", ())),
        beads_px=array("beads") if "beads" in values else None,
    )


def _deformation_from_json(values: Mapping[str, Any]) -> Deformation:
    width, height = (int(n) for n in values["grid"])
    coefficients = np.asarray(values["coefficients"], dtype=np.float64)
    return Deformation(model=str(values["model"]), grid=(width, height), coefficients=coefficients)
