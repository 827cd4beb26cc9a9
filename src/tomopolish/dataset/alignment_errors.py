"""Standard errors of one tomogram's alignment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tomopolish.shapes import Array, Bool, Float, Int


@dataclass(frozen=True, kw_only=True, eq=False)
class AlignmentErrors:
    """Standard errors of one tomogram's refined geometry; see `tomopolish.solve.uncertainty`.

    Attributes
    ----------
    angles_degrees
        Errors of each projection's rotation about the image's x, y and z axes.
    shifts_angstrom, positions_angstrom
        Errors of the projections' shifts and the particles' positions.
    motion_angstrom
        RMS over tilt images of the error of each particle's position there; None without motion.
    visible_particles, visible_tilts
        Number of visible tilt images of each particle, and of visible particles in each tilt image.
    orientations_degrees
        Of each particle's rotation about its own x, y and z axes; None where orientations were not refined.
    defocus_angstrom, astigmatism_angstrom, phase_shift_degrees, relative_scale, bfactor_angstrom2
        Of each tilt image's mean defocus, difference of DefocusU and DefocusV, phase shift, CTF scale (as a
        fraction of it) and B factor; None where they were not refined.
    shared_relative_scale, shared_bfactor_angstrom2
        The part σ₀ of an image's error σ that all images of the tomogram share. To the error of a difference
        between images, each contributes √(σ² − σ₀²).
    dispersion
        Squared misfit of the pairs divided by the misfit expected from the noise; 1 where the model is right.
    """

    angles_degrees: Float[Array, "F 3"]
    shifts_angstrom: Float[Array, "F 2"]
    positions_angstrom: Float[Array, "P 3"]
    motion_angstrom: Float[Array, "P"] | None
    visible_particles: Int[Array, "F"]
    visible_tilts: Int[Array, "P"]
    dispersion: float
    orientations_degrees: Float[Array, "P 3"] | None = None
    defocus_angstrom: Float[Array, "F"] | None = None
    astigmatism_angstrom: Float[Array, "F"] | None = None
    phase_shift_degrees: Float[Array, "F"] | None = None
    relative_scale: Float[Array, "F"] | None = None
    bfactor_angstrom2: Float[Array, "F"] | None = None
    shared_relative_scale: Float[Array, "F"] | None = None
    shared_bfactor_angstrom2: Float[Array, "F"] | None = None

    def weak_tilts(self) -> Bool[Array, "F"]:
        """Return the tilt images that the data determine poorly."""
        return _weak(self.shifts_angstrom, self.visible_particles)

    def weak_particles(self) -> Bool[Array, "P"]:
        """Return the particles whose position the data determine poorly."""
        return _weak(self.positions_angstrom, self.visible_tilts)


WEAK_FACTOR = 4.0


def _weak(sigma: Float[Array, "N k"], count: Int[Array, "N"]) -> Bool[Array, "N"]:
    """Return rows without visible pairs, or with an error of at least `WEAK_FACTOR` times the median."""
    length = np.sqrt(np.sum(sigma**2, axis=1))
    seen = count > 0
    typical = np.median(length[seen]) if seen.any() else 0.0
    return ~seen | (length > WEAK_FACTOR * typical)
