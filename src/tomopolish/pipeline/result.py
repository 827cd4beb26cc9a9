"""The result of a fit: projections, positions, trajectories, warps, uncertainty, statistics and record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tomopolish.dataset.alignment_errors import AlignmentErrors
from tomopolish.dataset.model import Alignment, TiltSeries, Tomogram
from tomopolish.dataset.screening import screening_warnings
from tomopolish.imaging.windows import CorrelationWindows
from tomopolish.physics.geometry import rotation_vector, tomogram_centre_px, turned_projections
from tomopolish.pipeline.fit import Fit
from tomopolish.pipeline.problem import refined_deformation
from tomopolish.pipeline.record import fit_record, tilt_picture
from tomopolish.pipeline.references import PreparedReferences
from tomopolish.pipeline.resources import Resources
from tomopolish.pipeline.scores import alignment_scores, errors_of_outliers, numbers_flagged
from tomopolish.pipeline.shells import by_frequency
from tomopolish.pipeline.windows import frames_taking_part
from tomopolish.results.tomogram import Diagnostics, TomogramResult, TomogramStatistics
from tomopolish.settings.alignment import AlignSettings
from tomopolish.shapes import Array, Float
from tomopolish.solve.gauge import Frame, Origin, choose_frame, remove_rotation
from tomopolish.solve.outliers import SHOWN
from tomopolish.solve.uncertainty import (
    ExpectedCurvature,
    Uncertainty,
    estimate_uncertainty,
    expected_curvature,
)

RELION_BORDER = 3
NEAR_EDGE = 0.9
MANY_AT_EDGE = 0.05
"""Share of pairs that moved by more than `NEAR_EDGE` of the range, from which on a warning is given."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RefinedGeometry:
    """Geometry of a solution, px; all species together.

    Attributes
    ----------
    frame
        Frame of the coordinates; None where no net rotation was free.
    """

    projections_px: Float[Array, "F 4 4"]
    positions_px: Float[Array, "P 3"]
    trajectories_px: Float[Array, "P F 3"] | None
    frame: Frame | None


def solution(
    fit: Fit,
    settings: AlignSettings,
    resources: Resources,
    references: Sequence[PreparedReferences],
    weights: Sequence[Float[Array, "G s c"] | None],
    given: Tomogram | None = None,
) -> tuple[TomogramResult, Uncertainty, Frame | None]:
    """Return the result of a fit, its standard errors, and the frame of its coordinates.

    Parameters
    ----------
    references, weights
        References, and frequency weights of the windows, of each species.
    given
        Input from which movements and the net rotation count; None: that of the fit.
    """
    with resources.stage("uncertainty"):
        problem, vector = fit.refinement.problem, fit.refinement.vector
        curvature = expected_curvature(problem, vector, fit.windows.power)
        geometry = refined_geometry(fit, curvature, settings, given)
        uncertainty = estimate_uncertainty(
            problem,
            curvature,
            None if geometry.frame is None else geometry.frame.positions_share,
            threads=resources.threads,
        )
    boxes_px = [reference.box_px for reference in references]
    result = summarise(
        fit, geometry, uncertainty, settings, resources.seconds, boxes_px, given or fit.tomogram
    )
    record = replace(
        fit_record(fit, resources.threads),
        by_frequency=by_frequency(fit, references, weights, settings),
        picture=tilt_picture(fit.tomogram.series, fit.windows),
    )
    return replace(result, record=record), uncertainty, geometry.frame


def refined_geometry(
    fit: Fit, curvature: ExpectedCurvature, settings: AlignSettings, given: Tomogram | None = None
) -> RefinedGeometry:
    """Return projections, positions and trajectories, with the net rotation that is most probable.

    Parameters
    ----------
    given
        Input from which the net rotation counts; None: that of the fit.
    """
    series, particles, windows = fit.tomogram.series, fit.tomogram.particles, fit.windows
    first = (given or fit.tomogram).particles
    problem, vector = fit.refinement.problem, fit.refinement.vector
    parameters = problem.layout.unpack(vector)
    centre = tomogram_centre_px(series.tomogram_size_px)
    projections = turned_projections(series.projections_px, parameters.angles, parameters.shifts_px, centre)
    positions = particles.positions_px + parameters.positions_px
    trajectories, moved = particles.trajectories_px, positions - first.positions_px
    if settings.motion is not None:
        offsets = problem.motion.offsets_px(parameters.motion)
        trajectories = np.ascontiguousarray(np.moveaxis(offsets, 1, 0))
        moved = moved + trajectories.mean(axis=1)
        if first.trajectories_px is not None:
            moved = moved - first.trajectories_px.mean(axis=1)
    trust = fit.refinement.trust
    seen = np.asarray(windows.visible.any(axis=0))
    blind = np.asarray(~windows.visible.any(axis=1))
    if trust is not None:
        seen, blind = seen & (trust.particles >= SHOWN), blind | (trust.tilts < SHOWN)
    origin = None
    if given is not None:
        displaced = problem.points_px.mean(axis=0) - particles.positions_px
        origin = Origin(
            rotations=given.series.projections_px[:, :3, :3], positions_px=first.positions_px + displaced
        )
    frame = choose_frame(problem, vector, curvature, moved, windows.power, trust, origin)
    if frame is not None:
        # About the tomogram's centre the projections' shifts stay what they are, as --const_s demands.
        counted = seen if seen.any() else windows.visible.any(axis=0)
        about = centre if settings.fit.const_shifts else positions[counted].mean(axis=0)
        projections, positions = remove_rotation(projections, positions, frame.rotation, about)
        if trajectories is not None:
            trajectories = trajectories @ frame.rotation
    # Particles that no image shows, and images that show none, keep their input.
    projections[blind] = series.projections_px[blind]
    positions[~seen] = particles.positions_px[~seen]
    if trajectories is not None:
        before = (
            np.zeros(trajectories.shape) if particles.trajectories_px is None else particles.trajectories_px
        )
        trajectories = np.where(seen[:, None, None], trajectories, before)
    return RefinedGeometry(
        projections_px=projections, positions_px=positions, trajectories_px=trajectories, frame=frame
    )


def summarise(
    fit: Fit,
    geometry: RefinedGeometry,
    uncertainty: Uncertainty,
    settings: AlignSettings,
    seconds_by_stage: Mapping[str, float],
    boxes_px: Sequence[int],
    given: Tomogram,
) -> TomogramResult:
    """Return geometry and statistics of one tomogram, with an alignment for each species.

    Parameters
    ----------
    boxes_px
        Edge of the boxes of each species.
    given
        Input from which movements are counted.
    """
    series, joined = given.series, given.particles
    windows, refinement = fit.windows, fit.refinement
    pixel = series.pixel_size_angstrom
    moved, turned = _changes(series, geometry.projections_px)
    warnings = (
        *screening_warnings(series),
        *fit.warnings,
        *_warnings(series, fit, settings),
    )
    displaced = geometry.positions_px - joined.positions_px
    tilts_px, particles_px = np.linalg.norm(moved, axis=1), np.linalg.norm(displaced, axis=1)
    scores = alignment_scores(fit, tilts_px, particles_px, geometry.positions_px, boxes_px)
    flagged_particles, flagged_tilts = numbers_flagged(scores)
    uncertainty = errors_of_outliers(fit, uncertainty)
    deformation = refined_deformation(refinement.problem, refinement.vector, settings)
    alignments = []
    for particles, part, own_scores in zip(fit.tomogram.species, fit.tomogram.parts, scores, strict=True):
        alignments.append(
            Alignment(
                tomogram=series.name,
                projections_px=geometry.projections_px,
                rows=particles.rows,
                positions_px=geometry.positions_px[part],
                trajectories_px=None if geometry.trajectories_px is None else geometry.trajectories_px[part],
                deformation=deformation,
                errors=alignment_errors(series, windows, uncertainty, part),
                scores=own_scores,
                left_out=series.left_out,
                warnings=warnings,
            )
        )
    return TomogramResult(
        alignments=tuple(alignments),
        statistics=TomogramStatistics(
            particles=len(joined),
            visible_pairs=int(windows.visible.sum()),
            log_likelihood_gain=refinement.log_likelihood - refinement.start_log_likelihood,
            rms_shift_angstrom=_rms(moved) * pixel,
            rms_angle_degrees=float(np.rad2deg(_rms(turned))),
            rms_position_angstrom=_rms(displaced) * pixel,
            seconds_by_stage=dict(seconds_by_stage),
            evaluations=refinement.evaluations,
            left_out_tilts=len(series.left_out),
            flagged_particles=flagged_particles,
            flagged_tilts=flagged_tilts,
            intensity_scale=fit.scales[0],
            evidence=fit.evidence,
            motion=fit.motion,
            warnings=warnings,
        ),
    )


def _changes(
    series: TiltSeries, projections_px: Float[Array, "F 4 4"]
) -> tuple[Float[Array, "F 2"], Float[Array, "F 3"]]:
    """Return by how much each projection moves the tomogram's centre, px, and turns, against the input."""
    centre = np.append(tomogram_centre_px(series.tomogram_size_px), 1.0)
    before = np.swapaxes(series.projections_px[:, :3, :3], 1, 2)
    moved = (projections_px - series.projections_px)[:, :2] @ centre
    return moved, rotation_vector(projections_px[:, :3, :3] @ before)


def alignment_errors(
    series: TiltSeries, windows: CorrelationWindows, uncertainty: Uncertainty, part: slice
) -> AlignmentErrors:
    """Return the errors of one species' particles, in Å and degrees."""
    pixel = series.pixel_size_angstrom
    motion = None
    if uncertainty.trajectories_px is not None:
        squares = np.sum(uncertainty.trajectories_px[part] ** 2, axis=-1)
        motion = np.sqrt(squares.mean(axis=1)) * pixel
    return AlignmentErrors(
        angles_degrees=np.rad2deg(uncertainty.angles),
        shifts_angstrom=uncertainty.shifts_px * pixel,
        positions_angstrom=uncertainty.positions_px[part] * pixel,
        motion_angstrom=motion,
        visible_particles=windows.visible.sum(axis=1),
        visible_tilts=windows.visible[:, part].sum(axis=0),
        dispersion=uncertainty.dispersion,
    )


def diagnostics(series: TiltSeries, windows: CorrelationWindows) -> Diagnostics:
    """Return the sums of the windows before any refinement, in RELION's layout."""
    reach, origin = round(windows.range_px / windows.step_px), windows.origin
    core = slice(origin - reach, origin + reach)
    seen = windows.visible
    sums = [windows.values[tilt][seen[tilt]][:, core, core].sum(axis=0) for tilt in range(len(seen))]
    summed = np.stack(sums)[series.chronological]
    weights = windows.frequency_weights
    assert weights is not None
    return Diagnostics(
        summed_windows=np.pad(summed, ((0, 0), (RELION_BORDER,) * 2, (RELION_BORDER,) * 2)),
        frequency_weights=np.broadcast_to(weights, (len(series), *weights.shape[1:])).astype(np.float32),
        window_step_angstrom=windows.step_px * series.pixel_size_angstrom,
        frequency_step=series.pixel_size_angstrom,
    )


def _warnings(series: TiltSeries, fit: Fit, settings: AlignSettings) -> tuple[str, ...]:
    warnings, windows, refinement = [], fit.windows, fit.refinement
    taking_part = frames_taking_part(series, settings)
    if not taking_part.any() and series.usable.any():
        warnings.append(
            f"--min_frame and --max_frame leave none of the {len(series)} tilt images of {series.name}, "
            "which keeps its input"
        )
    blind = np.flatnonzero(~windows.visible.any(axis=1) & taking_part)
    if len(blind):
        listed = ", ".join(str(i + 1) for i in blind)
        warnings.append(f"tilt images {listed} of {series.name} show no particle and keep their projections")
    dark = np.flatnonzero(windows.visible.any(axis=1) & ~windows.power.any(axis=1))
    if len(dark):
        listed = ", ".join(str(i + 1) for i in dark)
        warnings.append(
            f"tilt images {listed} of {series.name} have no frequency left to compare (dose, --cutoff_fract)"
        )
    warnings += _at_the_edge(series, fit)
    warnings += _uneven_exposure(series, settings)
    if not refinement.converged:
        warnings.append(
            f"{series.name} had not converged after {refinement.evaluations} evaluations: "
            "allow more with --it"
        )
    return tuple(warnings)


def _at_the_edge(series: TiltSeries, fit: Fit) -> list[str]:
    """Say that the range may be too small, where many pairs ended near its edge."""
    range_px = fit.windows.range_px
    moved = fit.refinement.displacements_px[fit.refinement.shown]
    far = np.hypot(moved[:, 0], moved[:, 1]) > NEAR_EDGE * range_px
    share = float(far.mean()) if len(far) else 0.0
    if share < MANY_AT_EDGE:
        return []
    return [
        f"{100 * share:.0f} % of the particle images of {series.name} ended at the edge of their windows "
        f"(--r {range_px}): try --r {2 * range_px}"
    ]


def _uneven_exposure(series: TiltSeries, settings: AlignSettings) -> list[str]:
    """Return a warning that the motion prior depends on the exposure of each image, where images differ."""
    if settings.motion is None or settings.motion.absolute or np.all(series.step_weights == 1):
        return []
    exposures = series.image_exposures
    return [
        f"the images of {series.name} differ in exposure ({exposures.min():.3g} to {exposures.max():.3g} "
        "e⁻/Å²): the variance of motion from each image to the next follows that image's exposure; --s_vel "
        f"and --s_div apply to images of {series.frame_dose:.3g} e⁻/Å²"
    ]


def _rms(vectors: Array) -> float:
    """Root mean square length of vectors (N, k)."""
    return float(np.sqrt(np.mean(np.sum(vectors**2, axis=-1))))
