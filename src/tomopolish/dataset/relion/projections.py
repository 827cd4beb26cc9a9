"""Projections in RELION's tables, by angles and shifts, by matrices, or by both.

See docs/dev/conventions.md, Geometry.

Where a table has matrices, every version of RELION uses these; angles beside them then have no effect.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import numpy as np

from tomopolish.dataset.model import TiltSeries
from tomopolish.dataset.relion.image_values import ImageValues
from tomopolish.dataset.relion.tomogram_size import TomogramSize
from tomopolish.dataset.remarks import Remark
from tomopolish.dataset.star import StarTable, float_columns, format_vectors
from tomopolish.errors import InputError
from tomopolish.physics.geometry import project, relion5_parameters, relion5_projections
from tomopolish.shapes import Array, Float

ANGLES = ("rlnTomoXTilt", "rlnTomoYTilt", "rlnTomoZRot")
SHIFTS = ("rlnTomoXShiftAngst", "rlnTomoYShiftAngst")
MATRIX_ROWS = ("rlnTomoProjX", "rlnTomoProjY", "rlnTomoProjZ", "rlnTomoProjW")
_NOTABLE_PX = 0.1
_TURNS = ANGLES[1:]
"""Angles without which there is no alignment; a table may lack the tilt about x."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StatedProjections:
    """The projections of a tilt series, file order.

    Attributes
    ----------
    matrices_px
        The projections that are used.
    ignored_px
        Projections by the angles beside matrices; None where there are none.
    remarks
        Assumptions that were made.
    """

    matrices_px: Float[Array, "F 4 4"]
    ignored_px: Float[Array, "F 4 4"] | None = None
    remarks: tuple[Remark, ...] = ()


def has_projections(series: StarTable) -> bool:
    """Return whether a table has projections, by matrices or by angles."""
    return any(label in series for label in MATRIX_ROWS) or _has_angles(series)


def needed_for_projections(series: StarTable) -> tuple[str, ...]:
    """Name the columns without which a table's projections cannot be read, for the kind that it has."""
    if any(label in series for label in MATRIX_ROWS) and not _has_angles(series):
        return MATRIX_ROWS
    if _has_matrices(series):
        return ()
    return (*_TURNS, *SHIFTS) if any(label in series for label in SHIFTS) else _TURNS


def uses_matrices(series: StarTable) -> bool:
    """Return whether a table's matrices are used, not its angles; raises InputError if there are neither."""
    if _has_matrices(series):
        return True
    if _has_angles(series):
        return False
    missing = [label for label in MATRIX_ROWS if label not in series]
    if 0 < len(missing) < len(MATRIX_ROWS):
        raise series.error(
            f"{' and '.join(missing)} missing; add the rows of the matrices, or export the table again"
        )
    raise series.error(
        "there are neither angles (rlnTomoYTilt, rlnTomoZRot, …) nor matrices (rlnTomoProjX, …); "
        "align the tilt series, then export this file again"
    )


def read_projections(
    values: ImageValues, pixel_size_angstrom: float, image_size_px: tuple[int, int], size: TomogramSize
) -> StatedProjections:
    """Return the projections of a tilt series; an image with an unusable projection is left out.

    Raises InputError where columns are missing.
    """
    series = values.table
    if not uses_matrices(series):
        matrices, remarks = _by_angles(values, pixel_size_angstrom, image_size_px, size)
        return StatedProjections(matrices_px=matrices, remarks=remarks)
    ignored = None
    if _has_angles(series) and all(label in series for label in SHIFTS):
        with contextlib.suppress(InputError):  # projections that are not used may be invalid
            aside = ImageValues(table=series)
            found, _ = _by_angles(aside, pixel_size_angstrom, image_size_px, size)
            ignored = None if aside.reasons else found
    return StatedProjections(matrices_px=_by_matrices(values, size), ignored_px=ignored)


def projection_remarks(series: TiltSeries, points_px: Float[Array, "P 3"]) -> list[Remark]:
    """Return remarks on the distance between points in the projections that are used and the others."""
    ignored = series.ignored_projections_px
    if ignored is None or not len(points_px):
        return []
    difference = (project(series.projections_px, points_px) - project(ignored, points_px))[series.usable]
    apart_px = float(np.hypot(difference[..., 0], difference[..., 1]).max())
    if apart_px <= _NOTABLE_PX:
        return []
    sentence = (
        f"{MATRIX_ROWS[0]}, Y, Z, W are used, as in RELION, but the angles and shifts beside them disagree: "
        "they move particles by up to {amount} px in the tilt images; if they are right, "
        f"remove the columns {', '.join(MATRIX_ROWS)}"
    )
    return [Remark(sentence=sentence, amount=apart_px)]


def projection_columns(
    series: StarTable,
    projections_px: Float[Array, "F 4 4"],
    pixel_size_angstrom: float,
    image_size_px: tuple[int, int],
    size: TomogramSize,
) -> dict[str, list[str]]:
    """Return consistent new cells for all columns by which a table describes projections."""
    columns: dict[str, list[str]] = {}
    in_matrices = uses_matrices(series)
    if in_matrices:
        matrices = projections_px.copy()
        matrices[:, :3, 3] += matrices[:, :3, :3] @ size.file_origin_px
        columns |= {label: format_vectors(matrices[:, i]) for i, label in enumerate(MATRIX_ROWS)}
    if not in_matrices or any(label in series for label in (*ANGLES, *SHIFTS)):
        angles, shifts_px = relion5_parameters(projections_px, image_size_px, size.px)
        columns |= float_columns(ANGLES, angles)
        columns |= float_columns(SHIFTS, shifts_px * pixel_size_angstrom)
    return columns


def _has_matrices(series: StarTable) -> bool:
    return all(map(series.is_stated, MATRIX_ROWS))


def _has_angles(series: StarTable) -> bool:
    return any(map(series.is_stated, _TURNS))


def _by_angles(
    values: ImageValues, pixel_size: float, image_size: tuple[int, int], size: TomogramSize
) -> tuple[Float[Array, "F 4 4"], tuple[Remark, ...]]:
    x_tilts = values.floats(ANGLES[0], default=0.0)
    angles = np.stack([x_tilts, *(values.floats(label) for label in _TURNS)], axis=-1)
    has_shifts = any(label in values.table for label in SHIFTS)
    shifts = np.stack(
        [values.floats(label, default=None if has_shifts else 0.0) for label in SHIFTS], axis=-1
    )
    remarks: tuple[Remark, ...] = ()
    if not has_shifts:
        remarks = (Remark(sentence=f"{' and '.join(SHIFTS)} are missing, assumed to be 0"),)
    return relion5_projections(angles, shifts / pixel_size, image_size, size.px), remarks


def _by_matrices(values: ImageValues, size: TomogramSize) -> Float[Array, "F 4 4"]:
    matrices = np.stack([values.vectors(label, 4) for label in MATRIX_ROWS], axis=1)
    rotation = matrices[:, :3, :3]
    deviation = np.abs(rotation @ np.swapaxes(rotation, 1, 2) - np.eye(3)).max(axis=(1, 2))
    wrong = np.flatnonzero((deviation > 0.1) | (np.linalg.det(rotation) <= 0))
    remedy = "convert projections to unbinned pixels"
    if _has_angles(values.table):
        remedy += f", or remove the columns {', '.join(MATRIX_ROWS)}, so that the angles are used"
    values.leave_out_numbers(wrong + 1, f"rlnTomoProjX, Y, Z is not a rotation (with a shift); {remedy}")
    matrices[wrong] = np.eye(4)
    matrices[:, :3, 3] -= rotation @ size.file_origin_px
    return matrices
