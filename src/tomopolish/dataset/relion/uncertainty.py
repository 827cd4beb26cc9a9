"""The file of standard errors, ``uncertainty.star``: one table for tilt images, one for particles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tomopolish.dataset.model import Alignment, TiltSeries
from tomopolish.dataset.star import GrowingFile, float_columns, format_floats, read_star
from tomopolish.shapes import Array

FILE_NAME = "uncertainty.star"
TILT_IMAGES, LEFT_OUT = "tilt_images", "tomopolishLeftOut"


class UncertaintyFile(GrowingFile):
    """Collects tomograms one at a time and writes the file at the end, unless none has errors.

    A tomogram of one image has no motion, so that its error is 0 beside tomograms with motion.
    """

    def add(self, series: TiltSeries, names: Sequence[str], alignment: Alignment) -> None:
        """Add one tomogram's errors, if it has any; `names` are those of the alignment's particles."""
        errors = alignment.errors
        if errors is None:
            return
        self.append(
            TILT_IMAGES,
            {
                "rlnTomoName": [series.name] * len(series),
                "rlnMicrographPreExposure": format_floats(series.pre_exposure),
                "tomopolishVisibleParticles": [str(n) for n in errors.visible_particles],
                **_columns("tomopolishSigmaAngle", "", errors.angles_degrees),
                **_columns("tomopolishSigmaShift", "Angst", errors.shifts_angstrom),
                **_optional("tomopolishSigmaDefocusAngst", errors.defocus_angstrom),
                **_optional("tomopolishSigmaAstigmatismAngst", errors.astigmatism_angstrom),
                **_optional("tomopolishSigmaPhaseShift", errors.phase_shift_degrees),
                **_optional("tomopolishSigmaRelativeScale", errors.relative_scale),
                **_optional("tomopolishSigmaBfactor", errors.bfactor_angstrom2),
                **_optional("tomopolishSharedRelativeScale", errors.shared_relative_scale),
                **_optional("tomopolishSharedBfactor", errors.shared_bfactor_angstrom2),
                "tomopolishWeaklyDetermined": _flags(errors.weak_tilts()),
                LEFT_OUT: _flags(~alignment.usable),
            },
        )
        particles = {
            "rlnTomoName": [series.name] * len(names),
            "rlnTomoParticleName": list(names),
            "tomopolishVisibleTilts": [str(n) for n in errors.visible_tilts],
            **_columns("tomopolishSigmaPosition", "Angst", errors.positions_angstrom),
            "tomopolishWeaklyDetermined": _flags(errors.weak_particles()),
        }
        particles |= _optional("tomopolishSigmaMotionAngst", errors.motion_angstrom)
        if errors.orientations_degrees is not None:
            particles |= _columns("tomopolishSigmaOrientation", "", errors.orientations_degrees)
        self.append("particles", particles)


def read_left_out(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the tilt images that a run left out: tomogram → their indices, from 0 in the order of its rows.

    The result is empty where there is no such file. Raises InputError when it is malformed.
    """
    if not path.is_file():
        return {}
    table = read_star(path).table(TILT_IMAGES)
    rows: dict[str, list[str]] = {}
    for name, flag in zip(table.strings("rlnTomoName"), table.columns.get(LEFT_OUT, ()), strict=False):
        rows.setdefault(name, []).append(flag)
    return {
        name: tuple(tilt for tilt, flag in enumerate(flags) if flag == "1") for name, flags in rows.items()
    }


def _columns(stem: str, unit: str, values: Array) -> dict[str, list[str]]:
    return float_columns([f"{stem}{axis}{unit}" for axis in "XYZ"[: values.shape[1]]], values)


def _optional(label: str, values: Array | None) -> dict[str, list[str]]:
    return {} if values is None else {label: format_floats(values)}


def _flags(values: Array) -> list[str]:
    return [str(int(v)) for v in values]
