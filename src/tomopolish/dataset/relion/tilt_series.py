"""One tilt series from its rows: geometry, optics, deformation, images; both dialects.

See docs/dev/conventions.md, Geometry, Optics.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from tomopolish.dataset.files import exists, not_found, resolve_path, searched_folders
from tomopolish.dataset.images import MrcImages, open_micrographs, open_stack
from tomopolish.dataset.model import Deformation, TiltSeries
from tomopolish.dataset.mrc import split_section
from tomopolish.dataset.relion.image_values import LARGEST_NUMBER, ImageValues
from tomopolish.dataset.relion.numbers import number, positive, positive_integer, source_of, value_or
from tomopolish.dataset.relion.projections import (
    has_projections,
    needed_for_projections,
    read_projections,
)
from tomopolish.dataset.relion.required import Needed, check_columns
from tomopolish.dataset.relion.tomogram_size import read_tomogram_size
from tomopolish.dataset.remarks import Remark
from tomopolish.dataset.star import StarTable
from tomopolish.errors import InputError
from tomopolish.physics.exposure import image_exposures, typical_exposure
from tomopolish.physics.optics import Microscope, TiltCtf
from tomopolish.settings.alignment import DEFORMATION_MODELS
from tomopolish.settings.tilts import TiltSelection
from tomopolish.shapes import Array, Float

STACK = "rlnTomoTiltSeriesName"
MICROGRAPH = "rlnMicrographName"
SERIES_FILE = "rlnTomoTiltSeriesStarFile"
PIXEL_SIZE = "rlnTomoTiltSeriesPixelSize"
PRE_EXPOSURE = "rlnMicrographPreExposure"
STAGE_ANGLE = "rlnTomoNominalStageTiltAngle"
COEFFICIENTS = "rlnTomoDeformationCoefficients"
DEFORMATION_TYPE = "rlnTomoDeformationType"
DEFORMATION_GRID = ("rlnTomoDeformationGridSizeX", "rlnTomoDeformationGridSizeY")
_MICROSCOPE = (
    ("rlnVoltage", 10, 5000, "which is not a voltage in kV; give kV, such as 300"),
    ("rlnSphericalAberration", 0, 100, "which is not a Cs in mm; give mm, such as 2.7"),
    ("rlnAmplitudeContrast", 0, 1, "but must lie between 0 and 1; correct it"),
)
"""Column, its least and largest value, and the complaint about others."""

STATED_TWICE = (PIXEL_SIZE, *(label for label, *_ in _MICROSCOPE))
"""Columns that the particles' optics groups repeat."""
HAND = "rlnTomoHand"
HAND_SOURCE = (
    "from Import; -1 where defocus decreases with depth, 1 where it increases: Import writes -1 by default, "
    "and most data sets need it; in doubt, align with both and keep the better sign"
)
_RUN_THEM = "run these jobs, and give the tomogram set that they write"
CTF_SCALE, CTF_BFACTOR, PHASE_SHIFT = "rlnCtfScalefactor", "rlnCtfBfactor", "rlnPhaseShift"
DEFOCUS = ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle")
_DEFAULTS = {
    "rlnTomoXTilt": 0.0,
    PHASE_SHIFT: 0.0,
    CTF_BFACTOR: 0.0,
    CTF_SCALE: 1.0,
    "rlnCtfBfactorPerElectronDose": 0.0,
}
"""Columns of a tilt series that may be missing."""
_NO_MICROSCOPE = Microscope(voltage_kv=300.0, spherical_aberration_mm=0.0, amplitude_contrast=0.0)

LARGEST_DEFOCUS, LARGEST_BFACTOR, LARGEST_SCALE, LARGEST_DOSE = 1e7, 1e4, 1e6, 1e6
"""Largest values in Å, Å² (per e⁻/Å²), factor, e⁻/Å², within the range of single precision."""

ANGLE_TOLERANCE = 0.05
"""Maximum error of the stage's tilt angle, degrees."""


@dataclass(frozen=True, kw_only=True)
class ImageFolders:
    """The files of the table ``global`` and of the tilt series' own, and the project's folder."""

    general_file: Path
    series_file: Path
    working_directory: Path


def load_tilt_series(
    general: StarTable,
    row: int,
    series: StarTable,
    *,
    folders: ImageFolders,
    selection: TiltSelection,
    optics: StarTable | None = None,
    geometry_only: bool = False,
) -> TiltSeries:
    """Return a tilt series from its row of the table ``global`` and its own table.

    An image that cannot be read, or whose row lacks a value that only this image needs, is left out.

    Raises InputError, which names file, table and row, when any other value is missing, of the wrong type, or
    impossible, or no image is left.

    Parameters
    ----------
    selection
        Images that the user has chosen to leave out.
    optics
        The particles' optics groups, for a pixel size or microscope that `general` does not state.
    geometry_only
        Whether microscope, CTF and exposures that cannot be read have meaningless values.
    """
    if not len(series):
        raise series.error("the tilt series has no tilt image; remove this tomogram from the sets")
    if not geometry_only:
        _check_columns(series)
    pixel_size = read_pixel_size(general, row, optics)
    name, values = general.value("rlnTomoName", row), ImageValues(table=series)
    values.leave_out_numbers(selection.excluded.get(name, ()), "--exclude_tilts")
    images = _open_images(general, row, series, folders)
    for one in images.unreadable:
        values.leave_out(one.tilt, one.reason)
    size = read_tomogram_size(general, row, images.size_px)
    projections = read_projections(values, pixel_size, images.size_px, size)
    deformation = _deformation(general, row, values)
    read = partial(value_or, only_if=geometry_only)
    zeros, besides = np.zeros(len(series)), ImageValues(table=series) if geometry_only else values
    ctf, exposure = (
        read(_no_ctf(len(series)), lambda: _ctf(besides)),
        read(zeros, lambda: _pre_exposure(besides)),
    )
    bfactor_per_dose = read(zeros, lambda: _bfactor_per_dose(general, row, besides))
    _leave_out_selected(values, projections.matrices_px, exposure, selection)
    return TiltSeries(
        name=name,
        projections_px=projections.matrices_px,
        tomogram_size_px=size.px,
        pixel_size_angstrom=pixel_size,
        hand=read(1.0, lambda: _hand(general, row)),
        defocus_slope=read(1.0, lambda: number(general, "rlnTomoDefocusSlope", row, default=1.0)),
        microscope=read(_NO_MICROSCOPE, lambda: _microscope(general, row, optics)),
        ctf=ctf,
        pre_exposure=exposure,
        bfactor_per_dose=bfactor_per_dose,
        fractional_dose=read(None, lambda: _fractional_dose(general, row)),
        images=images,
        deformation=deformation,
        left_out=values.left_out(),
        size_is_assumed=size.is_assumed,
        ignored_projections_px=projections.ignored_px,
        remarks=(
            *size.remarks,
            *projections.remarks,
            *_filled_cells(series),
            *_from_second_source(general, row, optics),
        ),
    )


def _no_ctf(tilts: int) -> TiltCtf:
    zeros = np.zeros(tilts)
    return TiltCtf(
        defocus_u_angstrom=zeros,
        defocus_v_angstrom=zeros,
        defocus_angle_degrees=zeros,
        phase_shift_degrees=zeros,
        bfactor_angstrom2=zeros,
        scale=np.ones(tilts),
    )


def read_pixel_size(general: StarTable, row: int, optics: StarTable | None) -> float:
    """Return the pixel size of a tomogram's tilt images, Å; `optics` is as in `load_tilt_series`."""
    table, place = source_of(PIXEL_SIZE, general, row, optics)
    return positive(table, PIXEL_SIZE, place)


def _microscope(general: StarTable, row: int, optics: StarTable | None) -> Microscope:
    values = []
    for label, least, most, problem in _MICROSCOPE:
        table, place = source_of(label, general, row, optics)
        value = number(table, label, place)
        if not least <= value <= most:
            raise table.error(f"{label} is {value:g}, {problem}", row=place)
        values.append(value)
    voltage, cs, amplitude_contrast = values
    return Microscope(voltage_kv=voltage, spherical_aberration_mm=cs, amplitude_contrast=amplitude_contrast)


def _from_second_source(general: StarTable, row: int, optics: StarTable | None) -> list[Remark]:
    """Return remarks on the values that come from the particles' optics groups."""
    labels = [label for label in STATED_TWICE if source_of(label, general, row, optics)[0] is not general]
    if not labels or optics is None:
        return []
    return [Remark(sentence=f"{', '.join(labels)} not set in {general.place}; {optics.place} is used")]


def _filled_cells(series: StarTable) -> list[Remark]:
    """Return remarks on columns with values in some rows only; a column without any counts as missing."""
    return [
        Remark(sentence=f"{label} is not set in every row; {default:g} is assumed in the others")
        for label, default in _DEFAULTS.items()
        if 0 < len(series.unset_rows(label)) < len(series)
    ]


def _deformation(general: StarTable, row: int, values: ImageValues) -> Deformation | None:
    """Return the warp of a tilt series; None where the sets have none."""
    if not values.table.is_stated(COEFFICIENTS):
        return None
    cell = general.value(DEFORMATION_TYPE, row)
    model = next((name for name in DEFORMATION_MODELS if name.lower() == cell.lower()), None)
    if model is None:
        raise general.error(
            f"{DEFORMATION_TYPE} is {cell[:60]!r}, but must be linear, spline or Fourier; correct the cell",
            row=row,
        )
    width, height = (
        # A linear warp has no grid.
        value_or(3, partial(positive_integer, general, label, row), only_if=model == "linear")
        for label in DEFORMATION_GRID
    )
    expected = {"linear": 3, "spline": 8 * width * height}.get(model)
    coefficients = values.vectors(COEFFICIENTS, expected)
    return Deformation(model=model, grid=(width, height), coefficients=coefficients)


def _check_columns(series: StarTable) -> None:
    """Raise InputError, which names all missing columns and the jobs that write them."""
    aligned = has_projections(series)
    needed = [
        Needed(labels=needed_for_projections(series), source="from Align tilt-series"),
        Needed(labels=DEFOCUS, source="from CTF estimation"),
        Needed(labels=(PRE_EXPOSURE,), source="from Import"),
    ]
    missing = [group.lacking(series) for group in needed]
    if any(missing[1:]) or (aligned and missing[0]):
        check_columns(series, needed, "" if aligned else _RUN_THEM)


def _hand(general: StarTable, row: int) -> float:
    try:
        hand = number(general, HAND, row)
    except InputError:
        hand = 0.0
    if abs(hand) != 1:
        raise general.error(
            f"{HAND} is {general.value(HAND, row)[:60]}, but must be 1 or -1 ({HAND_SOURCE}); correct it",
            row=row,
        )
    return hand


def _ctf(values: ImageValues) -> TiltCtf:
    def optional(label: str, most: float) -> Float[Array, "F"]:
        return values.floats(label, most=most, default=_DEFAULTS[label])

    return TiltCtf(
        defocus_u_angstrom=values.floats(DEFOCUS[0], most=LARGEST_DEFOCUS),
        defocus_v_angstrom=values.floats(DEFOCUS[1], most=LARGEST_DEFOCUS),
        defocus_angle_degrees=values.floats(DEFOCUS[2]),
        phase_shift_degrees=optional(PHASE_SHIFT, LARGEST_NUMBER),
        bfactor_angstrom2=optional(CTF_BFACTOR, LARGEST_BFACTOR),
        scale=optional(CTF_SCALE, LARGEST_SCALE),
    )


def _pre_exposure(values: ImageValues) -> Float[Array, "F"]:
    """Return the exposure before each image; an unknown one is put after all others."""
    dose = values.floats(PRE_EXPOSURE, most=LARGEST_DOSE, least=0.0, lacking=np.nan)
    unknown = np.isnan(dose)
    known = np.sort(dose[~unknown])
    step = typical_exposure(image_exposures(known)) or 1.0
    dose[unknown] = known.max(initial=0.0) + step * (1 + np.arange(np.count_nonzero(unknown)))
    return dose


def _bfactor_per_dose(general: StarTable, row: int, values: ImageValues) -> Float[Array, "F"]:
    label = "rlnCtfBfactorPerElectronDose"
    return values.floats(label, most=LARGEST_BFACTOR, default=number(general, label, row, default=0.0))


def _leave_out_selected(
    values: ImageValues,
    projections_px: Float[Array, "F 4 4"],
    exposure: Float[Array, "F"],
    selection: TiltSelection,
) -> None:
    """Leave out images beyond the largest tilt (of the stage, if the table has it) and exposure."""
    largest = selection.max_tilt_angle_degrees
    if largest is not None:
        tilts = np.rad2deg(np.arccos(np.clip(np.abs(projections_px[:, 2, 2]), 0.0, 1.0)))
        if values.table.is_stated(STAGE_ANGLE):
            stage = ImageValues(table=values.table).floats(STAGE_ANGLE, lacking=np.nan)
            tilts = np.where(np.isnan(stage), tilts, np.abs(stage))
        beyond = np.flatnonzero(tilts > largest + ANGLE_TOLERANCE)
        values.leave_out_numbers(beyond + 1, f"--max_tilt_angle {largest:g}")
    if selection.max_dose is not None:
        beyond = np.flatnonzero(exposure > selection.max_dose)
        values.leave_out_numbers(beyond + 1, f"--max_dose {selection.max_dose:g}")


def _fractional_dose(general: StarTable, row: int) -> float | None:
    value = number(general, "rlnTomoImportFractionalDose", row, default=0.0)
    return value if value > 0 else None


def _open_images(general: StarTable, row: int, series: StarTable, folders: ImageFolders) -> MrcImages:
    general_file, series_file = folders.general_file, folders.series_file
    working_directory = folders.working_directory
    entries = [split_section(named) for named in (series.strings(MICROGRAPH) if MICROGRAPH in series else ())]
    stack = general.stated(STACK, row)
    if stack is not None:
        file_name = split_section(stack)[1]
        path = resolve_path(file_name, general_file, working_directory)
        named_in = f"{general.place}, row {row + 1}, {STACK}"
        if not exists(path):
            searched = searched_folders(file_name, general_file, working_directory)
            raise InputError(f"{named_in}: {not_found(file_name, searched)}")
        named = [section for section, _ in entries if section is not None]
        remedy = (
            "give the stack that belongs to this table, or a table with a row for each section, and leave "
            f"images out with --exclude_tilts {general.value('rlnTomoName', row)}:NUMBERS"
        )
        return open_stack(path, len(series), named_in=named_in, named=named, remedy=remedy)
    if not entries:
        raise general.error(
            f"no tilt images are named; add {STACK} here, or {MICROGRAPH} to {series.source}", row=row
        )
    paths = [(section, resolve_path(name, series_file, working_directory)) for section, name in entries]
    absent = {
        tilt: not_found(name, searched_folders(name, series_file, working_directory))
        for tilt, ((_, name), (_, path)) in enumerate(zip(entries, paths, strict=True))
        if not exists(path)
    }
    return open_micrographs(paths, named_in=series.place, absent=absent)
