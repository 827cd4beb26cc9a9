"""One tilt series from its rows: geometry, optics, deformation, images; both dialects (spec §2, §3, §7)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from tomopolish.dataset.files import resolve_path
from tomopolish.dataset.images import MrcImages, open_micrographs, open_stack
from tomopolish.dataset.model import Deformation, TiltSeries
from tomopolish.dataset.mrc import split_section
from tomopolish.dataset.relion.numbers import number, positive, source_of, value_or, whole
from tomopolish.dataset.relion.projections import read_projections
from tomopolish.dataset.relion.tomogram_size import read_tomogram_size
from tomopolish.dataset.remarks import Remark
from tomopolish.dataset.star import StarTable
from tomopolish.physics.optics import Microscope, TiltCtf
from tomopolish.shapes import Float

Array = np.ndarray

STACK = "rlnTomoTiltSeriesName"
MICROGRAPH = "rlnMicrographName"
SERIES_FILE = "rlnTomoTiltSeriesStarFile"
PIXEL_SIZE = "rlnTomoTiltSeriesPixelSize"
COEFFICIENTS = "rlnTomoDeformationCoefficients"
DEFORMATION_TYPE = "rlnTomoDeformationType"
DEFORMATION_GRID = ("rlnTomoDeformationGridSizeX", "rlnTomoDeformationGridSizeY")
DEFORMATION_MODELS = {name.lower(): name for name in ("linear", "spline", "Fourier")}
STATED_TWICE = (PIXEL_SIZE, "rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast")
"""What the particles' optics groups repeat."""
_DEFAULTS = {
    "rlnTomoXTilt": 0.0,
    "rlnPhaseShift": 0.0,
    "rlnCtfBfactor": 0.0,
    "rlnCtfScalefactor": 1.0,
    "rlnCtfBfactorPerElectronDose": 0.0,
}
"""Columns of a tilt series that may be missing."""
_NO_MICROSCOPE = Microscope(voltage_kv=300.0, spherical_aberration_mm=0.0, amplitude_contrast=0.0)


def load_tilt_series(
    general: StarTable,
    row: int,
    series: StarTable,
    *,
    general_file: Path,
    series_file: Path,
    working_directory: Path,
    optics: StarTable | None = None,
    geometry_only: bool = False,
) -> TiltSeries:
    """Build a tilt series from its row of the table ``global`` and its own table.

    Parameters
    ----------
    general, row
        Table ``global`` and the tomogram's row in it.
    series
        One row per tilt image.
    general_file, series_file, working_directory
        The files of both tables and the project's folder: where relative names begin (spec §7).
    optics
        The particles' optics groups, for a pixel size or microscope that `general` does not state.
    geometry_only
        Whether only geometry is computed with: microscope, CTF and exposures that cannot be read then have
        values that mean nothing.

    Raises
    ------
    InputError
        When anything is missing, of the wrong type, or impossible; it names file, table and row.
    """
    if len(series) < 2:
        raise series.error(
            f"the tilt series has {len(series)} tilt image{'' if len(series) == 1 else 's'}, "
            "but at least 2 are needed; remove this tomogram from the sets"
        )
    pixel_size = positive(*_place(PIXEL_SIZE, general, row, optics))
    images = _open_images(general, row, series, (general_file, series_file, working_directory))
    size = read_tomogram_size(general, row, images.size_px)
    projections = read_projections(series, pixel_size, images.size_px, size)
    zeros = np.zeros(len(series))
    read = partial(value_or, only_if=geometry_only)
    return TiltSeries(
        name=general.value("rlnTomoName", row),
        projections_px=projections.matrices_px,
        tomogram_size_px=size.px,
        pixel_size_angstrom=pixel_size,
        hand=read(1.0, lambda: _hand(general, row)),
        defocus_slope=read(1.0, lambda: number(general, "rlnTomoDefocusSlope", row, default=1.0)),
        microscope=read(_NO_MICROSCOPE, lambda: read_microscope(general, row, optics)),
        ctf=read(_no_ctf(len(series)), lambda: _ctf(series)),
        pre_exposure=read(zeros, lambda: _pre_exposure(series)),
        bfactor_per_dose=read(zeros, lambda: _bfactor_per_dose(general, row, series)),
        fractional_dose=read(None, lambda: _fractional_dose(general, row)),
        images=images,
        deformation=read_deformation(general, row, series),
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


def _place(label: str, general: StarTable, row: int, optics: StarTable | None) -> tuple[StarTable, str, int]:
    """Return where a value is to be read, as the functions of `numbers` take it."""
    table, place = source_of(label, general, row, optics)
    return table, label, place


def read_microscope(general: StarTable, row: int, optics: StarTable | None = None) -> Microscope:
    """Voltage, Cs and amplitude contrast of a row; raises InputError when they are impossible.

    `optics` is the particles' optics groups, for what the row does not state.
    """
    table, label, place = _place("rlnVoltage", general, row, optics)
    voltage = number(table, label, place)
    if not 10 <= voltage <= 5000:
        raise table.error(
            f"rlnVoltage is {voltage:g}, which is no voltage in kV; give kV, such as 300", row=place
        )
    table, label, place = _place("rlnSphericalAberration", general, row, optics)
    cs = number(table, label, place)
    if not 0 <= cs <= 100:
        raise table.error(
            f"rlnSphericalAberration is {cs:g}, which is no Cs in mm; give mm, such as 2.7", row=place
        )
    table, label, place = _place("rlnAmplitudeContrast", general, row, optics)
    q0 = number(table, label, place)
    if not 0 <= q0 <= 1:
        raise table.error(
            f"rlnAmplitudeContrast is {q0:g}, but must lie between 0 and 1; correct it", row=place
        )
    return Microscope(voltage_kv=voltage, spherical_aberration_mm=cs, amplitude_contrast=q0)


def _from_second_source(general: StarTable, row: int, optics: StarTable | None) -> list[Remark]:
    """Say which values the particles' optics groups supplied."""
    labels = [label for label in STATED_TWICE if source_of(label, general, row, optics)[0] is not general]
    if not labels or optics is None:
        return []
    return [Remark(sentence=f"{', '.join(labels)} not set in {general.place}; {optics.place} counts")]


def _filled_cells(series: StarTable) -> list[Remark]:
    """Say which columns have a value in some rows only; one that has none at all is as good as missing."""
    remarks = []
    for label, default in _DEFAULTS.items():
        unset = series.unset_rows(label)
        if 0 < len(unset) < len(series):
            remarks.append(
                Remark(sentence=f"{label} is not set in every row; taken as {default:g} in the others")
            )
    return remarks


def read_deformation(general: StarTable, row: int, series: StarTable) -> Deformation | None:
    """Return the warp of a tilt series, or None where the sets have none."""
    if not series.is_stated(COEFFICIENTS):
        return None
    cell = general.value(DEFORMATION_TYPE, row)
    model = DEFORMATION_MODELS.get(cell.lower())
    if model is None:
        raise general.error(
            f"{DEFORMATION_TYPE} is {cell[:60]!r}, but must be linear, spline or Fourier; correct the cell",
            row=row,
        )
    width, height = (whole(general, label, row) for label in DEFORMATION_GRID)
    expected = {"linear": 3, "spline": 8 * width * height}.get(model)
    coefficients = series.vectors(COEFFICIENTS, expected)
    return Deformation(model=model, grid=(width, height), coefficients=coefficients)


def _hand(general: StarTable, row: int) -> float:
    hand = number(general, "rlnTomoHand", row)
    if abs(hand) != 1:
        raise general.error(f"rlnTomoHand is {hand:g}, but must be 1 or -1; correct the cell", row=row)
    return hand


def _ctf(series: StarTable) -> TiltCtf:
    return TiltCtf(
        defocus_u_angstrom=series.floats("rlnDefocusU"),
        defocus_v_angstrom=series.floats("rlnDefocusV"),
        defocus_angle_degrees=series.floats("rlnDefocusAngle"),
        phase_shift_degrees=series.floats("rlnPhaseShift", default=_DEFAULTS["rlnPhaseShift"]),
        bfactor_angstrom2=series.floats("rlnCtfBfactor", default=_DEFAULTS["rlnCtfBfactor"]),
        scale=series.floats("rlnCtfScalefactor", default=_DEFAULTS["rlnCtfScalefactor"]),
    )


def _pre_exposure(series: StarTable) -> Float[Array, "F"]:
    dose = series.floats("rlnMicrographPreExposure")
    if (dose < 0).any():
        row = int(np.argmax(dose < 0))
        raise series.error(
            f"rlnMicrographPreExposure is {dose[row]:g}, but no dose is negative; correct it", row=row
        )
    return dose


def _bfactor_per_dose(general: StarTable, row: int, series: StarTable) -> Float[Array, "F"]:
    label = "rlnCtfBfactorPerElectronDose"
    return series.floats(label, default=number(general, label, row, default=0.0))


def _fractional_dose(general: StarTable, row: int) -> float | None:
    value = number(general, "rlnTomoImportFractionalDose", row, default=0.0)
    return value if value > 0 else None


def _open_images(
    general: StarTable, row: int, series: StarTable, folders: tuple[Path, Path, Path]
) -> MrcImages:
    general_file, series_file, working_directory = folders
    stack = general.stated(STACK, row)
    if stack is not None:
        _, name = split_section(stack)
        path = resolve_path(name, general_file, working_directory)
        return open_stack(path, len(series), named_in=f"{general.place}, row {row + 1}, {STACK}")
    if MICROGRAPH not in series:
        raise general.error(
            f"no tilt images are named; add {STACK} here, or {MICROGRAPH} to {series.source}", row=row
        )
    entries = []
    for named in series.strings(MICROGRAPH):
        section, name = split_section(named)
        entries.append((section, resolve_path(name, series_file, working_directory)))
    return open_micrographs(entries, named_in=series.place)
