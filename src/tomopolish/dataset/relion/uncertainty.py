"""The file of standard errors, ``uncertainty.star``: one table for tilt images, one for particles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tomopolish.dataset.model import Alignment, TiltSeries
from tomopolish.dataset.star import StarFile, StarTable, format_floats, read_star, write_star

Array = np.ndarray

FILE_NAME = "uncertainty.star"
TILT_IMAGES, LEFT_OUT = "tilt_images", "tomopolishLeftOut"


class UncertaintyFile:
    """Collects tomograms one at a time and writes the file at the end, unless none has errors."""

    def __init__(self, path: Path, version: str) -> None:
        self._path = path
        self._version = version
        self._tilts: list[dict[str, Sequence[str]]] = []
        self._particles: list[dict[str, Sequence[str]]] = []

    def add(self, series: TiltSeries, names: Sequence[str], alignment: Alignment) -> None:
        """Add one tomogram's errors, if it has any.

        Parameters
        ----------
        names
            Names of the particles, in the order of the alignment.
        """
        errors = alignment.errors
        if errors is None:
            return
        self._tilts.append(
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
            }
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
        self._particles.append(particles)

    def write(self) -> None:
        """Write the file; raises RunError when it cannot be written."""
        if not self._tilts:
            return
        tables = tuple(
            StarTable(name=name, columns=_joined(parts), is_loop=True, version=self._version)
            for name, parts in ((TILT_IMAGES, self._tilts), ("particles", self._particles))
        )
        write_star(self._path, StarFile(tables=tables))


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


def _columns(stem: str, unit: str, values: Array) -> dict[str, Sequence[str]]:
    return {
        f"{stem}{axis}{unit}": format_floats(column) for axis, column in zip("XYZ", values.T, strict=False)
    }


def _optional(label: str, values: Array | None) -> dict[str, Sequence[str]]:
    return {} if values is None else {label: format_floats(values)}


def _flags(values: Array) -> list[str]:
    return [str(int(v)) for v in values]


def _joined(parts: list[dict[str, Sequence[str]]]) -> dict[str, list[str]]:
    """Return stacked columns; a tomogram of one image has no motion, so that its error is 0."""
    labels = dict.fromkeys(label for part in parts for label in part)
    nothing = [format_floats([0.0] * len(part["rlnTomoName"])) for part in parts]
    return {
        label: [cell for part, zeros in zip(parts, nothing, strict=True) for cell in part.get(label, zeros)]
        for label in labels
    }
