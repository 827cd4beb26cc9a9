"""What refining one tomogram yields: its new geometry and the figures a user reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from tomopolish.dataset.model import Alignment, Deformation, LeftOutTilt
from tomopolish.shapes import Bool, Float, Float32

Array = np.ndarray


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """How well pairs of particle and tilt image that had no part in a refinement agree with its geometry.

    They are compared with the half map to which their particle did not contribute (docs/evidence.md).

    Attributes
    ----------
    particles, pairs
        Held-out pairs, and the particles they belong to.
    gain
        Log-likelihood of the held-out pairs at the geometry refined without them, minus that at the input
        geometry.
    standard_error
        Of the gain, from its scatter over particles; NaN where one particle is all there is.
    agreement_before, agreement_after
        Held-out pairs' signal that the reference explains, as a fraction of the reference's own.
    agreement_error
        Standard deviation of either by noise alone.
    moved_angstrom, error_angstrom
        Root mean square over the tomogram's pairs of how far the refinement moved them in the image, and of
        the standard error of their refined position there.
    doubts
        Premises of the evidence that do not hold (`doubts`).
    """

    particles: int
    pairs: int
    gain: float
    standard_error: float
    agreement_before: float
    agreement_after: float
    agreement_error: float = 0.0
    moved_angstrom: float = 0.0
    error_angstrom: float = 0.0
    doubts: tuple[str, ...] = ()

    @property
    def gain_per_pair(self) -> float:
        """Gain of one held-out pair, on average."""
        return self.gain / max(self.pairs, 1)


@dataclass(frozen=True, kw_only=True)
class TomogramStatistics:
    """The figures of one refined tomogram.

    Attributes
    ----------
    particles
        Number of particles.
    visible_pairs
        Particle–tilt pairs far enough inside their image to contribute.
    left_out_tilts
        Number of tilt images that took no part.
    log_likelihood_gain
        Log-likelihood at the solution minus that at the input geometry, same windows.
    rms_shift_angstrom
        RMS over tilt images of the length of the change of the projection's shift.
    rms_angle_degrees
        RMS over tilt images of the angle of the projection's rotation against its input.
    rms_position_angstrom
        RMS over particles of the length of the 3D displacement.
    seconds_by_stage
        Wall time of each stage, in the order they ran.
    evaluations
        Evaluations of the full objective.
    flagged_particles, flagged_tilts
        Number of particles, and of tilt images that are not left out, that are flagged in ``scores.star``;
        None where no probabilities were estimated.
    intensity_scale
        Factor by which the references had to be multiplied to fit the images best (first species).
    warnings
        One sentence each.
    evidence
        Whether pairs that had no part in it agree that the refinement helped; None where none could be
        spared, or nobody asked.
    """

    particles: int
    visible_pairs: int
    log_likelihood_gain: float
    rms_shift_angstrom: float
    rms_angle_degrees: float
    rms_position_angstrom: float
    seconds_by_stage: Mapping[str, float]
    evaluations: int
    left_out_tilts: int = 0
    flagged_particles: int | None = None
    flagged_tilts: int | None = None
    intensity_scale: float = 1.0
    warnings: tuple[str, ...] = field(default=())
    evidence: Evidence | None = None


MAP_THRESHOLDS = (0.143, 0.5)
"""FSC at which the resolution of maps is read."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MapComparison:
    """Fourier shell correlation of two half maps before and after refinement, shell by shell.

    Attributes
    ----------
    frequency_per_angstrom
        Of each shell, 1/Å.
    before, after
        FSC of the half maps from the input's and from the refined geometry, corrected for the mask.
    resolution_before_angstrom, resolution_after_angstrom
        Threshold (`MAP_THRESHOLDS`) → resolution of the last shell before the curve first falls below it.
    masked
        Whether the maps were masked.
    """

    frequency_per_angstrom: Float[Array, "shells"]
    before: Float[Array, "shells"]
    after: Float[Array, "shells"]
    resolution_before_angstrom: Mapping[float, float]
    resolution_after_angstrom: Mapping[float, float]
    masked: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Diagnostics:
    """What `--diag` shows of one tomogram and species.

    Attributes
    ----------
    summed_windows
        Sum of all particles' correlation windows of each tilt image, by exposure, within a border of zeros
        three samples wide; as RELION writes it.
    frequency_weights
        Weight of each frequency of the half plane in each tilt image, file order.
    window_step_angstrom, frequency_step
        Sample spacing of the windows, Å, and of the frequencies, as a pixel size of the box in Å.
    """

    summed_windows: Float32[Array, "F n n"]
    frequency_weights: Float32[Array, "F s c"]
    window_step_angstrom: float
    frequency_step: float


@dataclass(frozen=True, kw_only=True, eq=False)
class InputGeometry:
    """What a tomogram's geometry was before it was refined; particles of all species, one after another.

    Attributes
    ----------
    trajectories_px
        Offsets in each tilt image, file order; None where the particles stood still.
    """

    projections_px: Float[Array, "F 4 4"]
    positions_px: Float[Array, "P 3"]
    tomogram_size_px: tuple[int, int, int]
    image_size_px: tuple[int, int]
    pixel_size_angstrom: float
    pre_exposure: Float[Array, "F"]
    particle_names: tuple[str, ...]
    trajectories_px: Float[Array, "P F 3"] | None = None
    deformation: Deformation | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class FitRecord:
    """How a fit went, for reports; tilt axes in file order, particles as in `InputGeometry`.

    Attributes
    ----------
    given
        What the fit started from.
    visible
        Pairs that took part.
    objective
        Log-posterior after each accepted step on the unblurred windows.
    tilt_log_likelihood, particle_log_likelihood
        Log-likelihood of each tilt image's and each particle's pairs, before and after.
    tilt_power, particle_power
        What their predictions would gain at the truth if they had the right intensity, up to noise.
    windows_before, windows_after
        Σ over visible particles of the log-likelihood of displacements from where the input, and the
        refined geometry, expect them; sample i lies at (i − n/2) · step.
    window_step_angstrom
        Spacing of their samples.
    """

    given: InputGeometry
    visible: Bool[Array, "F P"]
    objective: Float[Array, "K"]
    tilt_log_likelihood: Float[Array, "F 2"]
    particle_log_likelihood: Float[Array, "P 2"]
    tilt_power: Float[Array, "F"]
    particle_power: Float[Array, "P"]
    windows_before: Float32[Array, "F n n"]
    windows_after: Float32[Array, "F n n"]
    window_step_angstrom: float


@dataclass(frozen=True, kw_only=True, eq=False)
class TomogramResult:
    """One refined tomogram: the geometry to write, for each species, and the figures to show."""

    alignments: tuple[Alignment, ...]
    statistics: TomogramStatistics
    diagnostics: tuple[Diagnostics, ...] = field(default=())
    record: FitRecord | None = None

    @property
    def alignment(self) -> Alignment:
        """The alignment of the first, usually the only, species."""
        return self.alignments[0]

    @property
    def left_out(self) -> tuple[LeftOutTilt, ...]:
        """Tilt images that took no part, and why."""
        return self.alignment.left_out

    @property
    def usable(self) -> Bool[Array, "F"]:
        """Tilt images that are not left out."""
        usable = np.ones(len(self.alignment.projections_px), dtype=bool)
        usable[[one.tilt for one in self.left_out]] = False
        return usable
