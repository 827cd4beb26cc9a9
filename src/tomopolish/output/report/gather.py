"""From stored results to what a report shows; everything it needs is in the result itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tomopolish.dataset.model import Alignment, Deformation
from tomopolish.models.deformation import deformation_from
from tomopolish.output.report.data import (
    Flag,
    ParticleMoves,
    TiltCurves,
    TomogramDetails,
    TomogramSummary,
    WarpGrids,
    Windows,
)
from tomopolish.physics.geometry import (
    project,
    project_trajectories,
    relion5_parameters,
    rotation_vector,
    tomogram_centre_px,
)
from tomopolish.results.tomogram import FitRecord, TomogramResult
from tomopolish.shapes import Bool, Float, Int

Array = np.ndarray

MOST_PARTICLES = 2000
"""Particles that figures show; of more, a sample."""

WARP_NODES = 13
WEAK = "hardly constrained by the data"
POOR = "matches the reference much worse than the others"
WORSE = "matches the reference worse than before"


def tomogram_summary(name: str, result: TomogramResult) -> TomogramSummary:
    """Row of the overview."""
    errors = [a.errors for a in result.alignments if a.errors is not None]
    record = result.record
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
        flagged_tilts=int(np.sum(_any(_tilt_marks(result)))) if record is not None else 0,
        flagged_particles=int(np.sum(_any(_particle_marks(result)))) if record is not None else 0,
    )


def tomogram_details(name: str, result: TomogramResult, standing: str) -> TomogramDetails | None:
    """Details of a tomogram; None where its result holds no record of the fit."""
    record = result.record
    if record is None:
        return None
    order = np.argsort(record.given.pre_exposure, kind="stable")
    return TomogramDetails(
        name=name,
        statistics=result.statistics,
        standing=standing,
        tilts=_tilt_curves(result, record, order),
        particles=_particle_moves(result, record, order),
        warps=_warp_grids(result.alignment, record, order),
        windows=Windows(
            step_angstrom=record.window_step_angstrom,
            before=record.windows_before[order].astype(np.float64),
            after=record.windows_after[order].astype(np.float64),
        ),
        objective=record.objective,
        flagged_tilts=_flags(_tilt_names(record), _tilt_marks(result)),
        flagged_particles=_flags(record.given.particle_names, _particle_marks(result)),
    )


def _tilt_curves(result: TomogramResult, record: FitRecord, order: Int[Array, "F"]) -> TiltCurves:
    given, refined = record.given, result.alignment.projections_px
    errors = next((a.errors for a in result.alignments if a.errors is not None), None)
    unknown = np.full((len(order), 3), np.nan)
    sizes = (given.image_size_px, given.tomogram_size_px)
    power = record.tilt_power[:, None]
    agreement = np.full((len(order), 2), np.nan)
    np.divide(record.tilt_log_likelihood, power, out=agreement, where=power > 0)
    before = np.swapaxes(given.projections_px[:, :3, :3], 1, 2)
    taken = np.ones((len(order), 1))
    taken[[one.tilt for one in result.left_out]] = np.nan  # no figure shows what was left out
    return TiltCurves(
        rows=tuple(int(i) + 1 for i in order),
        exposure=given.pre_exposure[order],
        angles_before_degrees=(taken * relion5_parameters(given.projections_px, *sizes)[0])[order],
        angles_after_degrees=(taken * relion5_parameters(refined, *sizes)[0])[order],
        turned_degrees=np.rad2deg(rotation_vector(refined[:, :3, :3] @ before))[order],
        angle_errors_degrees=(taken * (unknown if errors is None else errors.angles_degrees))[order],
        shifts_before_angstrom=(taken * _shifts_angstrom(given.projections_px, record))[order],
        shifts_after_angstrom=(taken * _shifts_angstrom(refined, record))[order],
        shift_errors_angstrom=(taken * (unknown[:, :2] if errors is None else errors.shifts_angstrom))[order],
        agreement=agreement[order],
    )


def _shifts_angstrom(projections_px: Float[Array, "F 4 4"], record: FitRecord) -> Float[Array, "F 2"]:
    given = record.given
    centre = tomogram_centre_px(given.tomogram_size_px)
    projected = project(projections_px, centre[None])[:, 0, :2]
    shifts: Array = (projected - np.asarray(given.image_size_px) / 2) * given.pixel_size_angstrom
    return shifts


def _particle_moves(result: TomogramResult, record: FitRecord, order: Int[Array, "F"]) -> ParticleMoves:
    given = record.given
    total, pixel = len(given.positions_px), given.pixel_size_angstrom
    chosen = sample(total, MOST_PARTICLES)
    positions = np.concatenate([a.positions_px for a in result.alignments])[chosen]
    motion = _trajectories(result.alignments, len(order))
    motion = None if motion is None else motion[chosen]
    before = given.trajectories_px
    start = image_positions_px(
        given.projections_px,
        given.positions_px[chosen],
        None if before is None else before[chosen],
        given.deformation,
        given.image_size_px,
    )
    end = image_positions_px(
        result.alignment.projections_px,
        positions,
        motion,
        result.alignment.deformation or given.deformation,
        given.image_size_px,
    )
    unseen = ~record.visible[:, chosen]
    start[unseen] = np.nan
    return ParticleMoves(
        names=tuple(given.particle_names[i] for i in chosen),
        total=total,
        pixel_size_angstrom=pixel,
        image_size_px=given.image_size_px,
        image_positions_px=start[order],
        image_moves_angstrom=((end - start) * pixel)[order],
        positions_angstrom=(given.positions_px[chosen] - tomogram_centre_px(given.tomogram_size_px)) * pixel,
        moves_angstrom=(positions - given.positions_px[chosen]) * pixel,
        errors_angstrom=_position_errors(result.alignments)[chosen],
        trajectories_angstrom=None if motion is None else motion[:, order] * pixel,
    )


def image_positions_px(
    projections_px: Float[Array, "F 4 4"],
    positions_px: Float[Array, "P 3"],
    trajectories_px: Float[Array, "P F 3"] | None,
    deformation: Deformation | None,
    image_size_px: tuple[int, int],
) -> Float[Array, "F P 2"]:
    """Where a geometry expects each particle in each tilt image."""
    if trajectories_px is None:
        found = project(projections_px, positions_px)[..., :2]
    else:
        moving = positions_px + np.moveaxis(trajectories_px, 1, 0)
        found = project_trajectories(projections_px, moving)[..., :2]
    if deformation is not None:
        model, coefficients = deformation_from(deformation, image_size_px)
        found = found + model.displacement_px(found, coefficients)
    return np.array(found)


def sample(total: int, most: int) -> Int[Array, "n"]:
    """Choose all, or so many spread evenly over the table; returns indices."""
    if total <= most:
        return np.arange(total)
    return np.unique(np.linspace(0, total - 1, most).round().astype(np.int64))


def _trajectories(alignments: Sequence[Alignment], tilts: int) -> Float[Array, "P F 3"] | None:
    """Refined trajectories of all species; None where nothing moves."""
    if all(a.trajectories_px is None for a in alignments):
        return None
    parts = [
        np.zeros((len(a.rows), tilts, 3)) if a.trajectories_px is None else a.trajectories_px
        for a in alignments
    ]
    return np.concatenate(parts)


def _position_errors(alignments: Sequence[Alignment]) -> Float[Array, "P 3"]:
    parts = [
        np.full((len(a.rows), 3), np.nan) if a.errors is None else a.errors.positions_angstrom
        for a in alignments
    ]
    return np.concatenate(parts)


def _warp_grids(alignment: Alignment, record: FitRecord, order: Int[Array, "F"]) -> WarpGrids | None:
    given = record.given
    x, y = (np.linspace(0.0, size, WARP_NODES) for size in given.image_size_px)
    nodes = np.stack(np.meshgrid(x, y), axis=-1)

    def displacement(deformation: Deformation | None) -> Array | None:
        if deformation is None:
            return None
        model, coefficients = deformation_from(deformation, given.image_size_px)
        alike = bool(np.all(coefficients == coefficients[:1]))
        coefficients = coefficients[:1] if alike else coefficients[order]
        points = np.broadcast_to(nodes.reshape(-1, 2), (len(coefficients), WARP_NODES**2, 2))
        moved = model.displacement_px(points, coefficients) * given.pixel_size_angstrom
        return moved.reshape(-1, WARP_NODES, WARP_NODES, 2)

    before = displacement(given.deformation)
    after = before if alignment.deformation is None else displacement(alignment.deformation)
    if before is None and after is None:
        return None
    return WarpGrids(x_px=x, y_px=y, before_angstrom=before, after_angstrom=after)


Marks = dict[str, Bool[Array, "N"]]


def _tilt_marks(result: TomogramResult) -> Marks:
    """Reason → the tilt images for which it holds, file order."""
    record = result.record
    assert record is not None
    errors = next((a.errors for a in result.alignments if a.errors is not None), None)
    before, after = record.tilt_log_likelihood.T
    weak = np.zeros(len(after), dtype=bool) if errors is None else errors.weak_tilts()
    marks: Marks = {}
    for one in result.left_out:
        mark = marks.setdefault(f"left out: {one.reason}", np.zeros(len(after), dtype=bool))
        mark[one.tilt] = True
        weak[one.tilt] = False
    return {**marks, WEAK: weak, POOR: record.poor_tilts(), WORSE: after < before}


def _particle_marks(result: TomogramResult) -> Marks:
    """Reason → the particles for which it holds."""
    record = result.record
    assert record is not None
    weak = [
        np.zeros(len(a.rows), dtype=bool) if a.errors is None else a.errors.weak_particles()
        for a in result.alignments
    ]
    return {WEAK: np.concatenate(weak), POOR: record.poor_particles()}


def _any(marks: Marks) -> Bool[Array, "N"]:
    found: Array = np.any(list(marks.values()), axis=0)
    return found


def _flags(names: Sequence[str], marks: Marks) -> tuple[Flag, ...]:
    return tuple(
        Flag(name=names[int(i)], reasons=tuple(reason for reason, mark in marks.items() if mark[i]))
        for i in np.flatnonzero(_any(marks))
    )


def _tilt_names(record: FitRecord) -> list[str]:
    return [f"{i + 1} ({dose:.4g} e⁻/Å²)" for i, dose in enumerate(record.given.pre_exposure)]


def _median_length(vectors: Float[Array, "N k"]) -> float:
    return float(np.median(np.linalg.norm(vectors, axis=1))) if len(vectors) else float("nan")
