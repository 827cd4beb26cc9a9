"""Writer of a new project in either dialect, for simulations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tomopolish.dataset.model import OpticsGroup, Particles, References, TiltSeries
from tomopolish.dataset.mrc import write_volume
from tomopolish.dataset.relion.fsc_file import write_fsc
from tomopolish.dataset.relion.kinds import LABELS
from tomopolish.dataset.relion.particles import CENTRED, CORNERED, ORIGIN, PARTICLE_ANGLES
from tomopolish.dataset.relion.projections import ANGLES, MATRIX_ROWS, SHIFTS
from tomopolish.dataset.relion.tilt_series import MICROGRAPH, PIXEL_SIZE, SERIES_FILE, STACK
from tomopolish.dataset.relion.tomogram_size import SIZES
from tomopolish.dataset.relion.tomograms import Dialect
from tomopolish.dataset.star import StarTable, float_columns, format_floats, format_vectors, write_star
from tomopolish.physics.geometry import euler_zyz_angles, relion5_parameters, tomogram_centre_px
from tomopolish.shapes import Array, Float

Columns = dict[str, list[str]]

STACK_NAME = "tilt_series/{}.mrcs"  # of a tomogram's images, within the project's folder
_FILES = {
    "tomograms": "tomograms.star",
    "particles": "particles.star",
    "half map 1": "ref_half1.mrc",
    "half map 2": "ref_half2.mrc",
    "mask": "mask.mrc",
    "fsc": "fsc.star",
}


class NewProjectWriter:
    """Writes the STAR files and maps of a new project; tomograms are added one at a time.

    Tomogram and particle sets are written by `finish`; the caller writes the image stacks to `STACK_NAME`. A
    further `species` in the tomograms of a project has a folder for its particles and references; its
    optimisation set names the project's tomograms.
    """

    def __init__(self, folder: Path, dialect: Dialect, species: str | None = None) -> None:
        self._folder = folder
        self._species = species
        self._dialect = dialect
        self._general: Columns = {}
        self._series: list[StarTable] = []  # RELION 4 only: they are written into the set's own file
        self._particles: Columns = {}
        self._optics: StarTable | None = None
        self._named: dict[str, list[str]] = {}

    def add(
        self,
        series: TiltSeries,
        particles: Particles,
        *,
        nominal_angles_degrees: Float[Array, "F"],
        box_px: int,
    ) -> None:
        """Add a tomogram with its particles; all tomograms must share their optics groups.

        The nominal angles are those of the stage, in file order; `box_px` is the size of the particle images.
        """
        table = self._table(series.name, _tilt_columns(series, nominal_angles_degrees, self._dialect))
        if self._dialect is Dialect.RELION_5:
            write_star(self._folder / "tilt_series" / f"{series.name}.star", [table])
        else:
            self._series.append(table)
        _extend(self._general, _general_columns(series, self._dialect))
        self.add_particles(series, particles, box_px=box_px)

    def add_particles(self, series: TiltSeries, particles: Particles, *, box_px: int) -> None:
        """Add only the particles, in a tomogram of the project's first species."""
        _extend(self._particles, _particle_columns(series, particles, self._dialect))
        self._optics = self._table("optics", _optics_columns(series, particles.optics_groups, box_px))

    def write_references(self, references: References) -> None:
        """Write half maps, mask and FSC."""
        pixel = references.pixel_size_angstrom
        for half in range(2):
            write_volume(self._path(f"half map {half + 1}"), references.half_maps[half], pixel)
        if references.mask is not None:
            write_volume(self._path("mask"), references.mask, pixel)
        if references.fsc is not None:
            write_fsc(
                self._path("fsc"),
                {"corrected": references.fsc},
                box_px=references.fsc_box or references.size_px,
                pixel_size_angstrom=pixel,
                version=self._dialect.value,
            )

    def finish(self) -> Path:
        """Write the sets, and last the optimisation set, which names the others; returns its path."""
        particle_tables = [self._optics] if self._optics is not None else []
        particle_tables.append(self._table("particles", self._particles))
        if self._dialect is Dialect.RELION_5:
            particle_tables.insert(0, self._pairs("general", {"rlnTomoSubTomosAre2DStacks": ["1"]}))
        write_star(self._path("particles"), particle_tables)
        if self._species is None:
            write_star(self._path("tomograms"), [self._table("global", self._general), *self._series])
            path = self._folder / "optimisation_set.star"
        else:
            self._named[LABELS["tomograms"]] = [f"./{_FILES['tomograms']}"]
            path = self._folder / f"{self._species}_optimisation_set.star"
        write_star(path, [self._pairs("", self._named)])
        return path

    def _path(self, component: str) -> Path:
        """Return the file of a component, which the optimisation set will name."""
        name = _FILES[component] if self._species is None else f"{self._species}/{_FILES[component]}"
        self._named[LABELS[component]] = [f"./{name}"]
        return self._folder / name

    def _table(self, name: str, columns: Columns) -> StarTable:
        return StarTable(name=name, columns=columns, version=self._dialect.value)

    def _pairs(self, name: str, values: Mapping[str, list[str]]) -> StarTable:
        return StarTable(name=name, columns=values, is_loop=False, version=self._dialect.value)


def _cells(value: float) -> list[str]:
    """Return the single cell of a column with one row."""
    return format_floats([value])


def _extend(columns: Columns, more: Columns) -> None:
    for label, cells in more.items():
        columns.setdefault(label, []).extend(cells)


def _tilt_columns(series: TiltSeries, nominal_angles_degrees: Float[Array, "F"], dialect: Dialect) -> Columns:
    columns: Columns = {}
    if dialect is Dialect.RELION_5:
        angles, shifts_px = relion5_parameters(
            series.projections_px, series.image_size_px, series.tomogram_size_px
        )
        columns |= float_columns(ANGLES, angles)
        columns |= float_columns(SHIFTS, shifts_px * series.pixel_size_angstrom)
    else:
        matrices = series.projections_px
        columns |= {label: format_vectors(matrices[:, i]) for i, label in enumerate(MATRIX_ROWS)}
    ctf = series.ctf
    columns |= {
        "rlnDefocusU": format_floats(ctf.defocus_u_angstrom),
        "rlnDefocusV": format_floats(ctf.defocus_v_angstrom),
        "rlnDefocusAngle": format_floats(ctf.defocus_angle_degrees),
        "rlnMicrographPreExposure": format_floats(series.pre_exposure),
        "rlnTomoNominalStageTiltAngle": format_floats(nominal_angles_degrees),
        MICROGRAPH: [f"{i + 1:06d}@./{STACK_NAME.format(series.name)}" for i in range(len(series))],
        "rlnCtfScalefactor": format_floats(ctf.scale),
    }
    optional = {
        "rlnPhaseShift": ctf.phase_shift_degrees,
        "rlnCtfBfactor": ctf.bfactor_angstrom2,
        "rlnCtfBfactorPerElectronDose": series.bfactor_per_dose,
    }
    columns |= {label: format_floats(values) for label, values in optional.items() if np.any(values != 0)}
    if dialect is Dialect.RELION_4:
        del columns["rlnTomoNominalStageTiltAngle"], columns[MICROGRAPH]
    return columns


def _general_columns(series: TiltSeries, dialect: Dialect) -> Columns:
    columns: Columns = {"rlnTomoName": [series.name]}
    if dialect is Dialect.RELION_5:
        columns[SERIES_FILE] = [f"./tilt_series/{series.name}.star"]
    columns[STACK] = [f"./{STACK_NAME.format(series.name)}"]
    columns["rlnTomoFrameCount"] = [str(len(series))]
    columns |= {label: [str(n)] for label, n in zip(SIZES, series.tomogram_size_px, strict=True)}
    columns["rlnTomoHand"] = [f"{series.hand:.0f}"]
    columns["rlnOpticsGroupName"] = ["opticsGroup1"]
    columns[PIXEL_SIZE] = _cells(series.pixel_size_angstrom)
    columns |= _microscope_columns(series)
    if series.fractional_dose is not None:
        columns["rlnTomoImportFractionalDose"] = _cells(series.fractional_dose)
    if series.defocus_slope != 1:
        columns["rlnTomoDefocusSlope"] = _cells(series.defocus_slope)
    return columns


def _microscope_columns(series: TiltSeries) -> Columns:
    return {
        "rlnVoltage": _cells(series.microscope.voltage_kv),
        "rlnSphericalAberration": _cells(series.microscope.spherical_aberration_mm),
        "rlnAmplitudeContrast": _cells(series.microscope.amplitude_contrast),
    }


def _particle_columns(series: TiltSeries, particles: Particles, dialect: Dialect) -> Columns:
    count = len(particles)
    columns: Columns = {
        "rlnTomoName": [series.name] * count,
        "rlnTomoParticleName": list(particles.names),
    }
    if dialect is Dialect.RELION_5:
        centred = particles.positions_px - tomogram_centre_px(series.tomogram_size_px)
        columns |= float_columns(CENTRED, centred * series.pixel_size_angstrom)
    else:
        columns |= float_columns(CORNERED, particles.positions_px - 1)
    columns |= float_columns(PARTICLE_ANGLES, euler_zyz_angles(particles.rotations))
    columns["rlnOpticsGroup"] = [str(group + 1) for group in particles.optics_group]
    columns["rlnRandomSubset"] = [str(half + 1) for half in particles.half_set]
    columns |= float_columns(ORIGIN, np.zeros((count, 3)))
    return columns


def _optics_columns(series: TiltSeries, groups: tuple[OpticsGroup, ...], box_px: int) -> Columns:
    columns: Columns = {}
    pixel = _cells(series.pixel_size_angstrom)
    for number, group in enumerate(groups, start=1):
        _extend(
            columns,
            {
                "rlnOpticsGroup": [str(number)],
                "rlnOpticsGroupName": [group.name],
                **_microscope_columns(series),
                PIXEL_SIZE: pixel,
                "rlnCtfDataAreCtfPremultiplied": ["1"],
                "rlnImageDimensionality": ["2"],
                "rlnImagePixelSize": pixel,
                "rlnImageSize": [str(box_px)],
                "rlnTomoSubtomogramBinning": ["1.000000"],
            },
        )
    for label, coefficients in (
        ("rlnOddZernike", [group.odd_zernike for group in groups]),
        ("rlnEvenZernike", [group.even_zernike for group in groups]),
    ):
        longest = max(len(c) for c in coefficients)
        if longest:
            padded = np.array([(*c, *[0.0] * (longest - len(c))) for c in coefficients])
            columns[label] = format_vectors(padded)
    return columns
