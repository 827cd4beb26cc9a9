"""Content of a report, computed from stored results alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tomopolish.dataset.model import Alignment, Deformation
from tomopolish.models.deformation import deformation_from
from tomopolish.output.report.data import (
    ParticleMoves,
    TiltCurves,
    TomogramDetails,
    TomogramSummary,
    WarpGrids,
)
from tomopolish.output.report.marks import (
    flags,
    particle_agreement,
    particle_flags,
    particle_marks,
    particle_probabilities,
    score_histogram,
    tilt_marks,
    tilt_probabilities,
)
from tomopolish.physics.geometry import (
    project,
    project_trajectories,
    relion5_parameters,
    rotation_vector,
    tomogram_centre_px,
)
from tomopolish.results.doubts import causes
from tomopolish.results.tomogram import FitRecord, JointRecord, TomogramResult
from tomopolish.shapes import Array, Float, Int

MOST_PARTICLES = 2000
"""Maximum number of particles in figures; of more, a sample is shown."""

WARP_NODES = 13


def tomogram_summary(name: str, result: TomogramResult) -> TomogramSummary:
    """Return a tomogram's row of the overview."""
    errors = [a.errors for a in result.alignments if a.errors is not None]
    return TomogramSummary(
        name=name,
        statistics=result.statistics,
        tilts=len(result.alignment.projections_px),
        shift_error_angstrom=_median_length(errors[0].shifts_angstrom[result.usable])
        if errors
        else float("nan"),
        position_error_angstrom=_median_length(np.concatenate([e.positions_angstrom for e in errors]))
        if errors
        else float("nan"),
        dispersion=errors[0].dispersion if errors else float("nan"),
        has_details=result.record is not None,
    )


def tomogram_details(name: str, result: TomogramResult, verdict: str) -> TomogramDetails | None:
    """Return the details of a tomogram; None where its result contains no record of the fit."""
    record = result.record
    if record is None:
        return None
    order = np.argsort(record.given.pre_exposure, kind="stable")
    evidence = result.statistics.evidence
    return TomogramDetails(
        name=name,
        statistics=result.statistics,
        verdict=verdict,
        doubts=tuple(causes(evidence.doubts)) if evidence is not None else (),
        tilts=tilt_curves(result, record, order),
        particles=_particle_moves(result, record, order),
        warps=_warp_grids(result.alignment, record, order),
        windows_before=record.windows_before[order].astype(np.float64),
        windows_after=record.windows_after[order].astype(np.float64),
        window_step_angstrom=record.window_step_angstrom,
        objective=record.objective,
        tilts_to_inspect=flags(_tilt_names(record), tilt_marks(result), tilt_probabilities(result)),
        particles_to_inspect=flags(
            record.given.particle_names, particle_marks(result), particle_probabilities(result)
        ),
        scores=score_histogram(result),
        by_frequency=record.by_frequency,
        by_depth=record.by_depth,
        by_defocus=record.by_defocus,
        picture=None
        if record.picture is None
        else (int(np.flatnonzero(order == record.picture.tilt)[0]), record.picture),
        joint=record.joint and _by_exposure(record.joint, order),
    )


def tilt_curves(result: TomogramResult, record: FitRecord, order: Int[Array, "F"]) -> TiltCurves:
    """Return the projections before and after, in an order of the tilt images (indices into the file)."""
    source, refined = record.given, result.alignment.projections_px
    errors = next((a.errors for a in result.alignments if a.errors is not None), None)
    unknown = np.full((len(order), 3), np.nan)
    sizes = (source.image_size_px, source.tomogram_size_px)
    before = np.swapaxes(source.projections_px[:, :3, :3], 1, 2)
    in_use = np.ones((len(order), 1))
    in_use[[image.tilt for image in result.left_out]] = np.nan  # images left out appear in no figure
    return TiltCurves(
        rows=tuple(int(i) + 1 for i in order),
        exposure=source.pre_exposure[order],
        angles_before_degrees=(in_use * relion5_parameters(source.projections_px, *sizes)[0])[order],
        angles_after_degrees=(in_use * relion5_parameters(refined, *sizes)[0])[order],
        turned_degrees=np.rad2deg(rotation_vector(refined[:, :3, :3] @ before))[order],
        angle_errors_degrees=(in_use * (unknown if errors is None else errors.angles_degrees))[order],
        shifts_before_angstrom=(in_use * _shifts_angstrom(source.projections_px, record))[order],
        shifts_after_angstrom=(in_use * _shifts_angstrom(refined, record))[order],
        shift_errors_angstrom=(in_use * (unknown[:, :2] if errors is None else errors.shifts_angstrom))[
            order
        ],
        agreement=record.tilt_agreement[order],
    )


def _shifts_angstrom(projections_px: Float[Array, "F 4 4"], record: FitRecord) -> Float[Array, "F 2"]:
    source = record.given
    centre = tomogram_centre_px(source.tomogram_size_px)
    projected = project(projections_px, centre[None])[:, 0, :2]
    shifts: Array = (projected - np.asarray(source.image_size_px) / 2) * source.pixel_size_angstrom
    return shifts


def _particle_moves(result: TomogramResult, record: FitRecord, order: Int[Array, "F"]) -> ParticleMoves:
    source = record.given
    total, pixel = len(source.positions_px), source.pixel_size_angstrom
    chosen = sample(total, MOST_PARTICLES)
    positions = np.concatenate([a.positions_px for a in result.alignments])[chosen]
    motion = _trajectories(result.alignments, len(order))
    motion = None if motion is None else motion[chosen]
    before = source.trajectories_px
    start = image_positions_px(
        source.projections_px,
        source.positions_px[chosen],
        None if before is None else before[chosen],
        source.deformation,
        source.image_size_px,
    )
    end = image_positions_px(
        result.alignment.projections_px,
        positions,
        motion,
        result.alignment.deformation or source.deformation,
        source.image_size_px,
    )
    unseen = ~record.visible[:, chosen]
    start[unseen] = np.nan
    return ParticleMoves(
        names=tuple(source.particle_names[i] for i in chosen),
        total=total,
        pixel_size_angstrom=pixel,
        image_size_px=source.image_size_px,
        image_positions_px=start[order],
        image_moves_angstrom=((end - start) * pixel)[order],
        positions_angstrom=(source.positions_px[chosen] - tomogram_centre_px(source.tomogram_size_px))
        * pixel,
        moves_angstrom=(positions - source.positions_px[chosen]) * pixel,
        errors_angstrom=position_errors(result.alignments)[chosen],
        trajectories_angstrom=None if motion is None else motion[:, order] * pixel,
        agreement=particle_agreement(result)[chosen],
        flagged=particle_flags(result)[chosen],
    )


def image_positions_px(
    projections_px: Float[Array, "F 4 4"],
    positions_px: Float[Array, "P 3"],
    trajectories_px: Float[Array, "P F 3"] | None,
    deformation: Deformation | None,
    image_size_px: tuple[int, int],
) -> Float[Array, "F P 2"]:
    """Return the projection of each particle in each tilt image, warp included, px."""
    if trajectories_px is None:
        positions = project(projections_px, positions_px)[..., :2]
    else:
        moving = positions_px + np.moveaxis(trajectories_px, 1, 0)
        positions = project_trajectories(projections_px, moving)[..., :2]
    if deformation is not None:
        model, coefficients = deformation_from(deformation, image_size_px)
        positions = positions + model.displacement_px(positions, coefficients)
    return np.array(positions)


def sample(total: int, most: int) -> Int[Array, "n"]:
    """Return the indices of all rows, or of at most `most` rows spread evenly over the table."""
    if total <= most:
        return np.arange(total)
    return np.unique(np.linspace(0, total - 1, most).round().astype(np.int64))


def _trajectories(alignments: Sequence[Alignment], tilts: int) -> Float[Array, "P F 3"] | None:
    """Return the refined trajectories of all species; None where no motion was refined."""
    if all(a.trajectories_px is None for a in alignments):
        return None
    parts = [
        np.zeros((len(a.rows), tilts, 3)) if a.trajectories_px is None else a.trajectories_px
        for a in alignments
    ]
    return np.concatenate(parts)


def position_errors(alignments: Sequence[Alignment]) -> Float[Array, "P 3"]:
    """Return the standard errors of all species' positions, Å; NaN where they were not estimated."""
    parts = [
        np.full((len(a.rows), 3), np.nan) if a.errors is None else a.errors.positions_angstrom
        for a in alignments
    ]
    return np.concatenate(parts)


def _warp_grids(alignment: Alignment, record: FitRecord, order: Int[Array, "F"]) -> WarpGrids | None:
    source = record.given
    x, y = (np.linspace(0.0, size, WARP_NODES) for size in source.image_size_px)
    nodes = np.stack(np.meshgrid(x, y), axis=-1)

    def displacement(deformation: Deformation | None) -> Array | None:
        if deformation is None:
            return None
        model, coefficients = deformation_from(deformation, source.image_size_px)
        alike = bool(np.all(coefficients == coefficients[:1]))
        coefficients = coefficients[:1] if alike else coefficients[order]
        points = np.broadcast_to(nodes.reshape(-1, 2), (len(coefficients), WARP_NODES**2, 2))
        moved = model.displacement_px(points, coefficients) * source.pixel_size_angstrom
        return moved.reshape(-1, WARP_NODES, WARP_NODES, 2)

    before = displacement(source.deformation)
    after = before if alignment.deformation is None else displacement(alignment.deformation)
    if before is None and after is None:
        return None
    return WarpGrids(x_px=x, y_px=y, before_angstrom=before, after_angstrom=after)


def _tilt_names(record: FitRecord) -> list[str]:
    return [f"{i + 1} ({dose:.4g} e⁻/Å²)" for i, dose in enumerate(record.given.pre_exposure)]


def _median_length(vectors: Float[Array, "N k"]) -> float:
    return float(np.median(np.linalg.norm(vectors, axis=1))) if len(vectors) else float("nan")


def _by_exposure(joint: JointRecord, order: Int[Array, "F"]) -> JointRecord:
    """Return the quantities of the tilt images in an order of the tilt images (indices into the file)."""
    images = tuple(
        replace(q, before=q.before[order], after=q.after[order], error=q.error[order]) for q in joint.images
    )
    return replace(joint, images=images)
