"""Result of refining one tomogram: its new geometry and statistics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from tomopolish.dataset.model import Alignment, Deformation, LeftOutTilt
from tomopolish.physics.fourier import FSC_THRESHOLD
from tomopolish.results.held_out import Evidence as Evidence  # noqa: PLC0414  they belong to a result
from tomopolish.results.held_out import GroupEvidence as GroupEvidence  # noqa: PLC0414
from tomopolish.results.held_out import MotionTrial as MotionTrial  # noqa: PLC0414
from tomopolish.shapes import Array, Bool, Float, Float32, UInt8


@dataclass(frozen=True, kw_only=True)
class TomogramStatistics:
    """Statistics of one refined tomogram.

    Attributes
    ----------
    particles
        Number of particles.
    visible_pairs
        Number of pairs of particle and tilt image that are visible.
    left_out_tilts
        Number of tilt images that were left out.
    log_likelihood_gain
        Log-likelihood at the solution minus that at the input geometry, with the same windows.
    rms_shift_angstrom
        RMS over tilt images of the length of the change of the projection's shift.
    rms_angle_degrees
        RMS over tilt images of the angle of the projection's rotation relative to its input.
    rms_position_angstrom
        RMS over particles of the length of the 3D displacement.
    seconds_by_stage
        Wall time of each stage, s, in the order of execution.
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
        Evidence of held-out pairs; None where no pair was held out.
    groups
        What held-out pairs say of each group of unknowns that were refined with the geometry.
    motion
        What became of motion that was tried; None where it was not.
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
    groups: tuple[GroupEvidence, ...] = field(default=())
    motion: MotionTrial | None = None

    @property
    def gain_per_visible_pair(self) -> float:
        """Mean gain in log-likelihood of a fitted pair."""
        return self.log_likelihood_gain / max(self.visible_pairs, 1)


def tomogram_warnings(statistics: Mapping[str, TomogramStatistics]) -> list[str]:
    """Return the warnings of all tomograms, each with its tomogram's name."""
    return [
        sentence if name in sentence else f"{name}: {sentence}"
        for name, figures in statistics.items()
        for sentence in figures.warnings
    ]


def all_warnings(of_run: Iterable[str], statistics: Mapping[str, TomogramStatistics]) -> tuple[str, ...]:
    """Return the warnings of a run and of its tomograms, each once."""
    return tuple(dict.fromkeys([*of_run, *tomogram_warnings(statistics)]))


MAP_THRESHOLDS = (FSC_THRESHOLD, 0.5)
"""FSC thresholds of the resolution of maps."""
FEWEST_SHELLS = 4
LEAST_LOSS, CLEAR_LOSS = 0.02, 3.0
"""Loss of FSC, mean and in standard errors, from which on maps became worse, in at least so many shells."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MapComparison:
    """Fourier shell correlation of two half maps before and after refinement, shell by shell.

    Attributes
    ----------
    frequency_per_angstrom
        Spatial frequency of each shell, 1/Å.
    before, after
        FSC of the half maps from the input's and from the refined geometry, corrected for the mask.
    resolution_before_angstrom, resolution_after_angstrom
        Threshold (`MAP_THRESHOLDS`) → resolution of the last shell before the curve first falls below it.
    masked
        Whether the maps were masked.
    slices
        Central slices of the map before and after, across z, y and x, weighted by their FSC; None where they
        were not stored.
    """

    frequency_per_angstrom: Float[Array, "shells"]
    before: Float[Array, "shells"]
    after: Float[Array, "shells"]
    resolution_before_angstrom: Mapping[float, float]
    resolution_after_angstrom: Mapping[float, float]
    masked: bool
    slices: Float32[Array, "2 3 s s"] | None = None

    @property
    def worse(self) -> bool:
        """Whether the half maps agree clearly less after refinement than before.

        Counted are the shells in which the maps agreed before. Noise of the images is in both curves, so that
        the scatter of their difference from shell to shell tells whether it is more than chance.
        """
        low = np.flatnonzero(self.before < MAP_THRESHOLDS[0])
        shells = slice(1, int(low[low > 0][0]) if (low > 0).any() else None)
        loss = (self.before - self.after)[shells]
        if len(loss) < FEWEST_SHELLS:
            return False
        error = float(loss.std(ddof=1)) / np.sqrt(len(loss))
        return bool(loss.mean() > max(LEAST_LOSS, CLEAR_LOSS * error))


@dataclass(frozen=True, kw_only=True, eq=False)
class Diagnostics:
    """Data that `--diag` writes for one tomogram and species.

    Attributes
    ----------
    summed_windows
        Sum of all particles' correlation windows of each tilt image, by exposure, within a border of zeros
        three samples wide, as in RELION.
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
    """Geometry of a tomogram before refinement; particles of all species in sequence.

    Attributes
    ----------
    trajectories_px
        Offsets in each tilt image, file order; None where the input has no trajectories.
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
class BinnedAgreement:
    """Agreement of pairs with their predictions, in bins of a quantity.

    Attributes
    ----------
    centres
        Mean of the quantity in each bin, ascending.
    log_likelihood
        Log-likelihood of the pairs, or of their frequencies, in each bin, before and after.
    power
        Expected log-likelihood of their predictions at the truth.
    """

    centres: Float[Array, "N"]
    log_likelihood: Float[Array, "N 2"]
    power: Float[Array, "N"]

    @property
    def agreement(self) -> Float[Array, "N 2"]:
        """Share of the predicted signal that the pairs show, before and after."""
        return self.log_likelihood / self.power[:, None]

    @property
    def error(self) -> Float[Array, "N"]:
        """Standard deviation of the agreement by noise alone."""
        return 1 / np.sqrt(self.power)


@dataclass(frozen=True, kw_only=True, eq=False)
class TiltPicture:
    """A tilt image, binned and in grey, for display.

    Attributes
    ----------
    tilt
        Its number in the file, from 0.
    grey
        0 for the darkest pixels, 255 for the brightest.
    bin_px
        Edge of one of its pixels, in px of the tilt image.
    """

    tilt: int
    grey: UInt8[Array, "H W"]
    bin_px: int


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageQuantity:
    """A quantity of each tilt image that a joint refinement changes, in file order.

    Attributes
    ----------
    name, unit
        As on an axis: "defocus", "Å"; the unit is empty where there is none.
    error
        Standard errors; 0 where the quantity went back to the input.
    shared
        The part of the typical standard error that all images of the tomogram share.
    """

    name: str
    unit: str
    before: Float[Array, "F"]
    after: Float[Array, "F"]
    error: Float[Array, "F"]
    shared: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class JointRecord:
    """What a joint refinement changed besides the geometry; particles of all species in sequence.

    Attributes
    ----------
    turned_degrees, turn_errors_degrees
        Angle by which each particle was turned, and length of its standard errors; None where orientations
        were not refined.
    images
        Quantities of the tilt images that were refined.
    """

    turned_degrees: Float[Array, "P"] | None
    turn_errors_degrees: Float[Array, "P"] | None
    images: tuple[ImageQuantity, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class FitRecord:
    """Course of a fit, for reports; tilt images are in file order, particles as in `InputGeometry`.

    Attributes
    ----------
    given
        Input geometry of the fit.
    visible
        Pairs that took part.
    objective
        Log-posterior after each accepted step on the unblurred windows.
    tilt_log_likelihood, particle_log_likelihood
        Log-likelihood of each tilt image's and each particle's pairs, before and after.
    tilt_power, particle_power
        Expected log-likelihood of their predictions at the truth, with the right intensity.
    windows_before, windows_after
        Σ over visible particles of the log-likelihood of displacements from where the input, and the
        refined geometry, expect them; sample i lies at (i − n/2) · step.
    window_step_angstrom
        Spacing of their samples.
    by_depth, by_defocus
        Agreement of fitted pairs by the depth at which the image shows the particle, relative to the
        tomogram's centre, and by the defocus there, Å; None for few pairs.
    by_frequency
        Agreement of held-out pairs by spatial frequency, 1/Å; None where no pair was held out.
    picture
        A tilt image near 0°; None where it could not be read.
    joint
        What a joint refinement changed besides the geometry; None without one.
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
    by_depth: BinnedAgreement | None = None
    by_defocus: BinnedAgreement | None = None
    by_frequency: BinnedAgreement | None = None
    picture: TiltPicture | None = None
    joint: JointRecord | None = None

    @property
    def tilt_agreement(self) -> Float[Array, "F 2"]:
        """Agreement of each tilt image's pairs before and after; NaN where it shows no particle."""
        return _share(self.tilt_log_likelihood, self.tilt_power)

    @property
    def particle_agreement(self) -> Float[Array, "P 2"]:
        """Agreement of each particle's pairs before and after; NaN where no image shows it."""
        return _share(self.particle_log_likelihood, self.particle_power)


def _share(log_likelihood: Float[Array, "N 2"], power: Float[Array, "N"]) -> Float[Array, "N 2"]:
    expected = power[:, None]
    return np.divide(log_likelihood, expected, out=np.full(log_likelihood.shape, np.nan), where=expected > 0)


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
        """Tilt images that were left out, and the reasons."""
        return self.alignment.left_out

    @property
    def usable(self) -> Bool[Array, "F"]:
        """Tilt images that are not left out."""
        return self.alignment.usable
