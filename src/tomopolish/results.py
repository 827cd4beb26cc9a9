"""What refining one tomogram yields: its new geometry and the figures a user reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Float32

from tomopolish.dataset.model import Alignment

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
    """

    particles: int
    pairs: int
    gain: float
    standard_error: float
    agreement_before: float
    agreement_after: float

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
    intensity_scale: float = 1.0
    warnings: tuple[str, ...] = field(default=())
    evidence: Evidence | None = None


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
        Threshold (0.143 and 0.5) → resolution at which the curve first falls below it.
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
class TomogramResult:
    """One refined tomogram: the geometry to write, for each species, and the figures to show."""

    alignments: tuple[Alignment, ...]
    statistics: TomogramStatistics
    diagnostics: tuple[Diagnostics, ...] = field(default=())

    @property
    def alignment(self) -> Alignment:
        """The alignment of the first, usually the only, species."""
        return self.alignments[0]
