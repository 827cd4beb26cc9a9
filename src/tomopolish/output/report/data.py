"""Content of a report, in physical units and independent of its layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tomopolish.output.next_steps import NextStep
from tomopolish.results.tomogram import (
    BinnedAgreement,
    JointRecord,
    MapComparison,
    TiltPicture,
    TomogramStatistics,
)
from tomopolish.results.verdict import Verdict, verdict_on
from tomopolish.shapes import Array, Bool, Float, Int


@dataclass(frozen=True, kw_only=True)
class TomogramSummary:
    """One row of the overview.

    Attributes
    ----------
    shift_error_angstrom, position_error_angstrom
        Median length of the standard errors of the tilt images' shifts and the particles' positions; NaN
        where none were estimated.
    dispersion
        Squared misfit divided by the misfit expected from the noise; NaN as above.
    has_details
        Whether the result contains a record of the fit, and so the tomogram a part or page of its own.
    """

    name: str
    statistics: TomogramStatistics
    tilts: int
    shift_error_angstrom: float
    position_error_angstrom: float
    dispersion: float
    has_details: bool


@dataclass(frozen=True, kw_only=True)
class Flag:
    """A tilt image or particle that should be inspected, and the reasons.

    Attributes
    ----------
    probability
        Probability that it shows what the references predict; NaN where it was not estimated.
    """

    name: str
    reasons: tuple[str, ...]
    probability: float


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreHistogram:
    """Numbers of particles, and of flagged particles, by their agreement with the reference.

    Attributes
    ----------
    edges
        Agreements that separate the bins, a fraction of the predicted signal.
    threshold
        Agreement that separates the particles of a probability below 0.5 from the others best; NaN where
        there are none.
    """

    edges: Float[Array, "n_plus_1"]
    good: Int[Array, "n"]
    flagged: Int[Array, "n"]
    threshold: float


@dataclass(frozen=True, kw_only=True, eq=False)
class TiltCurves:
    """Projections before and after refinement, in the order of exposure.

    Attributes
    ----------
    rows
        Number of each tilt image in its file, from 1.
    angles_before_degrees, angles_after_degrees
        XTilt, YTilt and ZRot as RELION 5 defines them.
    turned_degrees
        Rotation relative to the input about the image's x, y and z axes.
    shifts_before_angstrom, shifts_after_angstrom
        Shifts of the tomogram's projected centre relative to the image's centre.
    agreement
        Log-likelihood of the pairs before and after, divided by its expected value; NaN where a tilt
        image shows no particle.
    """

    rows: tuple[int, ...]
    exposure: Float[Array, "F"]
    angles_before_degrees: Float[Array, "F 3"]
    angles_after_degrees: Float[Array, "F 3"]
    turned_degrees: Float[Array, "F 3"]
    angle_errors_degrees: Float[Array, "F 3"]
    shifts_before_angstrom: Float[Array, "F 2"]
    shifts_after_angstrom: Float[Array, "F 2"]
    shift_errors_angstrom: Float[Array, "F 2"]
    agreement: Float[Array, "F 2"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ParticleMoves:
    """Particles in the images and in the tomogram; tilt images are in the order of exposure.

    Attributes
    ----------
    names
        Names of the particles shown: all, or a sample of `total`.
    image_positions_px, image_moves_angstrom
        Projection of each particle in each image by the input geometry, and its displacement by the
        refinement; NaN where the particle does not take part.
    positions_angstrom
        Input positions relative to the tomogram's centre.
    moves_angstrom, errors_angstrom
        Displacement relative to the input, and its standard errors (NaN where not estimated).
    trajectories_angstrom
        Motion over the exposure; None where no motion is refined.
    agreement
        Agreement of each particle with the reference after the refinement; NaN where no image shows it.
    flagged
        Whether each particle is flagged.
    """

    names: tuple[str, ...]
    total: int
    pixel_size_angstrom: float
    image_size_px: tuple[int, int]
    image_positions_px: Float[Array, "F P 2"]
    image_moves_angstrom: Float[Array, "F P 2"]
    positions_angstrom: Float[Array, "P 3"]
    moves_angstrom: Float[Array, "P 3"]
    errors_angstrom: Float[Array, "P 3"]
    trajectories_angstrom: Float[Array, "P F 3"] | None
    agreement: Float[Array, "P"]
    flagged: Bool[Array, "P"]


@dataclass(frozen=True, kw_only=True, eq=False)
class WarpGrids:
    """Warps at the nodes of a regular grid over the image: one for all tilt images, or one for each.

    Attributes
    ----------
    x_px, y_px
        Columns and rows of the grid.
    before_angstrom, after_angstrom
        Displacements; None where there is no warp.
    """

    x_px: Float[Array, "m"]
    y_px: Float[Array, "n"]
    before_angstrom: Float[Array, "G n m 2"] | None
    after_angstrom: Float[Array, "G n m 2"] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class TomogramDetails:
    """Content of a tomogram's own part of a report.

    Attributes
    ----------
    verdict
        Better, worse, undecided, not judged or not tested.
    doubts
        Reasons why it cannot be judged, with remedies.
    warps
        None where the images are not deformed.
    windows_before, windows_after
        Summed correlation windows, by exposure; see `results.tomogram.FitRecord`.
    objective
        Log-posterior after each accepted step.
    scores
        None where no probabilities were estimated.
    by_frequency, by_depth, by_defocus, picture
        See `results.tomogram.FitRecord`; the place of the picture's tilt image by exposure, and the picture.
    joint
        Orientations and optics, by exposure; None where they were not refined.
    """

    name: str
    statistics: TomogramStatistics
    verdict: str
    doubts: tuple[str, ...]
    tilts: TiltCurves
    particles: ParticleMoves
    warps: WarpGrids | None
    windows_before: Float[Array, "F n n"]
    windows_after: Float[Array, "F n n"]
    window_step_angstrom: float
    objective: Float[Array, "K"]
    tilts_to_inspect: tuple[Flag, ...]
    particles_to_inspect: tuple[Flag, ...]
    scores: ScoreHistogram | None
    by_frequency: BinnedAgreement | None
    by_depth: BinnedAgreement | None
    by_defocus: BinnedAgreement | None
    picture: tuple[int, TiltPicture] | None
    joint: JointRecord | None


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """Summary of a run.

    Attributes
    ----------
    sentence
        Verdict of the run, in plain words.
    verdict
        Evidence for the sentence; None where nothing was tested.
    failures
        Tomogram → reason why it was not refined.
    tomograms
        Those that a user should look at first in front.
    note
        Command, version and time of the run, lines of text.
    maps
        Comparison of the half maps before and after; None where there is none.
    warnings
        All warnings of the run, one sentence each.
    next_steps
        What a user should do next.
    """

    sentence: str
    verdict: Verdict | None
    tomograms: Sequence[TomogramSummary]
    failures: Mapping[str, str] = field(default_factory=dict)
    note: Sequence[str] = ()
    maps: MapComparison | None = None
    warnings: Sequence[str] = ()
    next_steps: Sequence[NextStep] = ()

    def verdict_on(self, name: str) -> str:
        """Return the verdict on a tomogram: better, worse, undecided, not judged or not tested."""
        return verdict_on(self.verdict, name)
