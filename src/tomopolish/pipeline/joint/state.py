"""The point that a joint refinement is at: geometry, views and optics of one tomogram."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tomopolish.dataset.model import Tomogram
from tomopolish.imaging.derivatives import (
    ASTIGMATISM,
    ASTIGMATISM_ASIDE,
    BFACTOR,
    DEFOCUS,
    GEOMETRY,
    PHASE_SHIFT,
    SCALE,
)
from tomopolish.physics.geometry import (
    rotation_from_vector,
    rotation_vector,
    tomogram_centre_px,
    turned_projections,
)
from tomopolish.physics.optics import TiltCtf
from tomopolish.shapes import Array, Float

SMALLEST_BFACTOR = -20.0
"""Least B factor of an image, Å², unless the input has less."""


@dataclass(frozen=True, kw_only=True, eq=False)
class JointState:
    """Geometry, views and optics.

    Attributes
    ----------
    rotations
        Particle → tomogram rotations of the particles of all species.
    optics
        Changes against the input, one column for each of `names`; see `imaging.derivatives`.
    """

    projections_px: Float[Array, "F 4 4"]
    positions_px: Float[Array, "P 3"]
    rotations: Float[Array, "P 3 3"]
    optics: Float[Array, "F U"]
    names: tuple[str, ...]

    @classmethod
    def of(cls, tomogram: Tomogram, names: Sequence[str]) -> JointState:
        """Return the state of a tomogram, whose optics are unchanged."""
        return cls(
            projections_px=tomogram.series.projections_px,
            positions_px=tomogram.particles.positions_px,
            rotations=tomogram.particles.rotations,
            optics=np.zeros((len(tomogram.series), len(names))),
            names=tuple(names),
        )

    def moved(
        self, particles: Float[Array, "P 6"], tilts: Float[Array, "F T"], tomogram: Tomogram
    ) -> JointState:
        """Return the state after a step (`solve.joint.JointStep`)."""
        centre = tomogram_centre_px(tomogram.series.tomogram_size_px)
        optics = self.optics + tilts[:, GEOMETRY:]
        place = self.names.index(BFACTOR)
        given = tomogram.series.ctf.bfactor_angstrom2
        optics[:, place] = np.maximum(optics[:, place], np.minimum(SMALLEST_BFACTOR - given, 0.0))
        return replace(
            self,
            projections_px=turned_projections(
                self.projections_px, tilts[:, :3], tilts[:, 3:GEOMETRY], centre
            ),
            positions_px=self.positions_px + particles[:, 3:],
            rotations=self.rotations @ rotation_from_vector(particles[:, :3]),
            optics=optics,
        )

    def with_optics_of(self, chosen: Sequence[str]) -> JointState:
        """Return the state in which only the chosen unknowns of the optics differ from the input."""
        return replace(self, optics=self.optics * [name in chosen for name in self.names])

    def turns(self, tomogram: Tomogram) -> Float[Array, "P 3"]:
        """Return the rotation of each particle about its own axes against the input, radians."""
        before = np.swapaxes(tomogram.particles.rotations, 1, 2)
        return rotation_vector(before @ self.rotations)

    def turned(self, W: Float[Array, "3 3"], tomogram: Tomogram) -> JointState:
        """Return the state with refined orientations in a frame whose projections are multiplied by W.

        Views, and the orientations that are those of a tomogram, do not change.
        """
        refined = np.any(self.rotations != tomogram.particles.rotations, axis=(1, 2))
        return replace(self, rotations=np.where(refined[:, None, None], W.T @ self.rotations, self.rotations))

    def applied_to(self, tomogram: Tomogram) -> Tomogram:
        """Return the tomogram with this geometry, these views and optics."""
        series = replace(
            tomogram.series,
            projections_px=self.projections_px,
            ctf=changed_ctf(tomogram.series.ctf, self.names, self.optics),
        )
        species = tuple(
            replace(particles, positions_px=self.positions_px[part], rotations=self.rotations[part])
            for particles, part in zip(tomogram.species, tomogram.parts, strict=True)
        )
        return replace(tomogram, series=series, species=species)


def changed_ctf(ctf: TiltCtf, names: Sequence[str], changes: Float[Array, "F U"]) -> TiltCtf:
    """Return the CTF after changes of the named unknowns (`imaging.derivatives`)."""
    by = dict(zip(names, changes.T, strict=True))
    zero = np.zeros(len(changes))
    changed = replace(
        ctf,
        defocus_u_angstrom=ctf.defocus_u_angstrom + by.get(DEFOCUS, zero),
        defocus_v_angstrom=ctf.defocus_v_angstrom + by.get(DEFOCUS, zero),
        phase_shift_degrees=ctf.phase_shift_degrees + by.get(PHASE_SHIFT, zero),
        bfactor_angstrom2=ctf.bfactor_angstrom2 + by.get(BFACTOR, zero),
        scale=ctf.scale * np.exp(by.get(SCALE, zero)),
    )
    along, aside = by.get(ASTIGMATISM, zero), by.get(ASTIGMATISM_ASIDE, zero)
    if not (along.any() or aside.any()):
        return changed
    xx, xy, yy = changed.astigmatism_angstrom().T
    mean, along, aside = (xx + yy) / 2, (xx - yy) / 2 + along, xy + aside
    difference = np.hypot(along, aside)
    return replace(
        changed,
        defocus_u_angstrom=mean + difference,
        defocus_v_angstrom=mean - difference,
        defocus_angle_degrees=np.rad2deg(np.arctan2(aside, along)) / 2,
    )
