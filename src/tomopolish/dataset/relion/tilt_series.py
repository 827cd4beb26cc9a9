"""One tilt series from its rows: geometry, optics, deformation, images; both dialects (spec §2, §3, §7)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tomopolish.dataset.files import resolve_path
from tomopolish.dataset.images import MrcImages, open_micrographs, open_stack
from tomopolish.dataset.model import Deformation, TiltSeries
from tomopolish.dataset.mrc import split_section
from tomopolish.dataset.star import StarTable
from tomopolish.physics.geometry import relion5_projections
from tomopolish.physics.optics import Microscope, TiltCtf
from tomopolish.shapes import Float

Array = np.ndarray

ANGLES = ("rlnTomoXTilt", "rlnTomoYTilt", "rlnTomoZRot")
SHIFTS = ("rlnTomoXShiftAngst", "rlnTomoYShiftAngst")
MATRIX_ROWS = ("rlnTomoProjX", "rlnTomoProjY", "rlnTomoProjZ", "rlnTomoProjW")
SIZES = ("rlnTomoSizeX", "rlnTomoSizeY", "rlnTomoSizeZ")
STACK = "rlnTomoTiltSeriesName"
MICROGRAPH = "rlnMicrographName"
SERIES_FILE = "rlnTomoTiltSeriesStarFile"
PIXEL_SIZE = "rlnTomoTiltSeriesPixelSize"
LARGEST = 1_000_000
"""No count, and no edge of a tomogram in px, is larger."""
COEFFICIENTS = "rlnTomoDeformationCoefficients"
DEFORMATION_TYPE = "rlnTomoDeformationType"
DEFORMATION_GRID = ("rlnTomoDeformationGridSizeX", "rlnTomoDeformationGridSizeY")
DEFORMATION_MODELS = {name.lower(): name for name in ("linear", "spline", "Fourier")}
ABSENT = ("", "None", "none")


def load_tilt_series(
    general: StarTable,
    row: int,
    series: StarTable,
    *,
    general_file: Path,
    series_file: Path,
    working_directory: Path,
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
    pixel_size = positive(general, PIXEL_SIZE, row)
    images = _open_images(general, row, series, (general_file, series_file, working_directory))
    size = tomogram_size_px(general, row)
    return TiltSeries(
        name=general.value("rlnTomoName", row),
        projections_px=_projections(series, pixel_size, images.size_px, size),
        tomogram_size_px=size,
        pixel_size_angstrom=pixel_size,
        hand=_hand(general, row),
        defocus_slope=number(general, "rlnTomoDefocusSlope", row, default=1.0),
        microscope=read_microscope(general, row),
        ctf=_ctf(series),
        pre_exposure=_pre_exposure(series),
        bfactor_per_dose=_bfactor_per_dose(general, row, series),
        fractional_dose=_fractional_dose(general, row),
        images=images,
        deformation=read_deformation(general, row, series),
    )


def number(table: StarTable, label: str, row: int, default: float | None = None) -> float:
    """One cell as a finite number; raises InputError naming it."""
    if label not in table and default is not None:
        return default
    cell = table.value(label, row)
    try:
        value = float(cell)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise table.error(
            f"{label} is {cell[:60]!r}, which is not a finite number; correct the cell", row=row
        )
    return value


def positive(table: StarTable, label: str, row: int) -> float:
    """One cell as a positive number; raises InputError naming it."""
    value = number(table, label, row)
    if value <= 0:
        raise table.error(f"{label} is {value:g}, but must be positive; correct the cell", row=row)
    return value


def whole(table: StarTable, label: str, row: int) -> int:
    """One cell as a positive whole number; raises InputError naming it."""
    value = positive(table, label, row)
    if not value <= LARGEST or value != int(value):
        raise table.error(
            f"{label} is {value:g}, but must be a whole number up to {LARGEST}; correct the cell", row=row
        )
    return int(value)


def tomogram_size_px(general: StarTable, row: int) -> tuple[int, int, int]:
    """(W, H, D) of a tomogram, px."""
    w, h, d = (whole(general, label, row) for label in SIZES)
    return w, h, d


def read_microscope(table: StarTable, row: int) -> Microscope:
    """Voltage, Cs and amplitude contrast of a row; raises InputError when they are impossible."""
    voltage = number(table, "rlnVoltage", row)
    if not 10 <= voltage <= 5000:
        raise table.error(
            f"rlnVoltage is {voltage:g}, which is no voltage in kV; give kV, such as 300", row=row
        )
    cs = number(table, "rlnSphericalAberration", row)
    if not 0 <= cs <= 100:
        raise table.error(
            f"rlnSphericalAberration is {cs:g}, which is no Cs in mm; give mm, such as 2.7", row=row
        )
    q0 = number(table, "rlnAmplitudeContrast", row)
    if not 0 <= q0 <= 1:
        raise table.error(
            f"rlnAmplitudeContrast is {q0:g}, but must lie between 0 and 1; correct it", row=row
        )
    return Microscope(voltage_kv=voltage, spherical_aberration_mm=cs, amplitude_contrast=q0)


def read_deformation(general: StarTable, row: int, series: StarTable) -> Deformation | None:
    """Return the warp of a tilt series, or None where the sets have none."""
    if COEFFICIENTS not in series:
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


def uses_matrices(series: StarTable) -> bool:
    """Whether a table gives projections as matrices (RELION 4) rather than angles; InputError if neither."""
    if "rlnTomoYTilt" in series:
        return False
    if MATRIX_ROWS[0] in series:
        return True
    raise series.error(
        "there are neither angles (rlnTomoYTilt, rlnTomoZRot, …) nor matrices (rlnTomoProjX, …); "
        "align the tilt series, then export this file again"
    )


def _projections(
    series: StarTable, pixel_size: float, image_size: tuple[int, int], size: tuple[int, int, int]
) -> Float[Array, "F 4 4"]:
    if not uses_matrices(series):
        angles = np.stack(
            [series.floats(ANGLES[0], default=0.0), *(series.floats(label) for label in ANGLES[1:])], axis=-1
        )
        shifts = np.stack([series.floats(label) for label in SHIFTS], axis=-1)
        return relion5_projections(angles, shifts / pixel_size, image_size, size)
    matrices = np.stack([series.vectors(label, 4) for label in MATRIX_ROWS], axis=1)
    rotation = matrices[:, :3, :3]
    deviation = np.abs(rotation @ np.swapaxes(rotation, 1, 2) - np.eye(3)).max(axis=(1, 2))
    if (deviation > 0.1).any() or (np.linalg.det(rotation) <= 0).any():
        bad = int(np.argmax((deviation > 0.1) | (np.linalg.det(rotation) <= 0)))
        raise series.error(
            "rlnTomoProjX, Y, Z is not a rotation (with a shift); convert projections to unbinned pixels",
            row=bad,
        )
    return matrices


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
        phase_shift_degrees=series.floats("rlnPhaseShift", default=0.0),
        bfactor_angstrom2=series.floats("rlnCtfBfactor", default=0.0),
        scale=series.floats("rlnCtfScalefactor", default=1.0),
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
    if STACK in general and general.value(STACK, row) not in ABSENT:
        _, name = split_section(general.value(STACK, row))
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
