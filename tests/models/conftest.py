"""RELION's results on the reference projects, read without the package's own readers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from gemmi import cif

from tomopolish.dataset.model import Deformation, Particles, TiltSeries
from tomopolish.physics.geometry import project_trajectories, relion5_projections
from tomopolish.physics.optics import Microscope, TiltCtf

Array = np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class RelionRun:
    """RELION's solution for one tomogram, and the truth."""

    projections_px: Array  # (F, 4, 4)
    positions_px: Array  # (P, 3)
    input_positions_px: Array  # (P, 3)
    trajectories_px: Array  # (F, P, 3), zero where the run had none
    chronological: Array  # (F,)
    pixel_size_angstrom: float
    image_size_px: tuple[int, int]
    deformation: Deformation | None
    true_uv_px: Array  # (F, P, 2)
    visible: Array  # (F, P)

    def projected_px(self) -> Array:
        points = self.positions_px + self.trajectories_px
        return project_trajectories(self.projections_px, points)[..., :2]

    def squared_errors_angstrom2(self, warp_px: Array | float = 0.0) -> Array:
        """Squared 2D distance from the truth of every visible pair."""
        error = (self.projected_px() + warp_px - self.true_uv_px)[self.visible] * self.pixel_size_angstrom
        return np.sum(error**2, axis=-1)


class _NoImages:
    """Images whose size alone matters."""

    def __init__(self, tilts: int, size_px: tuple[int, int]) -> None:
        self._tilts, self._size_px = tilts, size_px

    @property
    def size_px(self) -> tuple[int, int]:
        return self._size_px

    def __len__(self) -> int:
        return self._tilts

    def read(self, tilt: int) -> Array:
        raise AssertionError("models do not read images")


def make_series(
    tilts: int = 5, frame_dose: float = 3.0, deformation: Deformation | None = None
) -> TiltSeries:
    """TS_7: 1.5 Å/px, images of 400 × 300 px, exposed in a shuffled order."""
    rank = np.random.default_rng(5).permutation(tilts)
    zeros = np.zeros(tilts)
    return TiltSeries(
        name="TS_7",
        projections_px=np.tile(np.eye(4), (tilts, 1, 1)),
        tomogram_size_px=(400, 300, 100),
        pixel_size_angstrom=1.5,
        hand=-1.0,
        defocus_slope=1.0,
        microscope=Microscope(voltage_kv=300.0, spherical_aberration_mm=2.7, amplitude_contrast=0.1),
        ctf=TiltCtf(
            defocus_u_angstrom=zeros,
            defocus_v_angstrom=zeros,
            defocus_angle_degrees=zeros,
            phase_shift_degrees=zeros,
            bfactor_angstrom2=zeros,
            scale=zeros + 1,
        ),
        pre_exposure=rank * float(frame_dose),
        bfactor_per_dose=zeros,
        fractional_dose=None,
        images=_NoImages(tilts, (400, 300)),
        deformation=deformation,
    )


def make_particles(count: int = 7) -> Particles:
    """Particles anywhere."""
    none = np.zeros(count, dtype=np.int64)
    return Particles(
        rows=np.arange(count),
        names=tuple(f"TS_7/{i}" for i in range(count)),
        positions_px=np.random.default_rng(6).uniform(0, 300, (count, 3)),
        rotations=np.tile(np.eye(3), (count, 1, 1)),
        half_set=none,
        optics_group=none,
        optics_groups=(),
    )


def _table(path: Path, name: str) -> dict[str, list[str]]:
    for block in cif.read_file(str(path)):
        if block.name == name:
            loops = [item.loop for item in block if item.loop is not None]
            width = loops[0].width()
            return {tag: list(loops[0].values[i::width]) for i, tag in enumerate(loops[0].tags)}
    raise KeyError(name)


def _columns(table: dict[str, list[str]], *labels: str) -> Array:
    return np.stack([np.array(table[f"_rln{label}"], dtype=float) for label in labels], axis=-1)


def _positions(path: Path, tomogram: str, pixel: float, size: Array) -> tuple[Array, list[str]]:
    table = _table(path, "particles")
    mine = [i for i, name in enumerate(table["_rlnTomoName"]) if name == tomogram]
    centred = _columns(table, *(f"CenteredCoordinate{axis}Angst" for axis in "XYZ"))[mine]
    return centred / pixel + size / 2, [table["_rlnTomoParticleName"][i] for i in mine]


def _deformation(tilts: dict[str, list[str]], group: dict[str, list[str]], row: int) -> Deformation | None:
    if "_rlnTomoDeformationCoefficients" not in tilts:
        return None
    vectors = [cell.strip("[]").split(",") for cell in tilts["_rlnTomoDeformationCoefficients"]]
    width, height = (int(group[f"_rlnTomoDeformationGridSize{axis}"][row]) for axis in "XY")
    return Deformation(
        model=group["_rlnTomoDeformationType"][row],
        grid=(width, height),
        coefficients=np.array(vectors, dtype=float),
    )


def read_run(project: Path, run: str, tomogram: str) -> RelionRun:
    folder = project / "relion" / run
    group = _table(folder / "tomograms.star", "global")
    row = group["_rlnTomoName"].index(tomogram)
    size = np.array([int(group[f"_rlnTomoSize{axis}"][row]) for axis in "XYZ"])
    pixel = float(group["_rlnTomoTiltSeriesPixelSize"][row])
    tilts = _table(folder / "tilt_series" / f"{tomogram}.star", tomogram)
    truth = json.loads((project / "truth.json").read_text())[tomogram]
    image_size = (int(truth["size"][0]), int(truth["size"][1]))
    positions, names = _positions(folder / "particles.star", tomogram, pixel, size)
    count = len(tilts["_rlnTomoZRot"])
    trajectories = np.zeros((count, len(names), 3))
    if (folder / "motion.star").exists():
        for p, name in enumerate(names):
            table = _table(folder / "motion.star", name)
            trajectories[:, p] = _columns(table, *(f"Origin{axis}Angst" for axis in "XYZ")) / pixel
    true_uv = np.swapaxes(np.array(truth["uv"]), 0, 1)
    margin = truth["box"] / 2
    return RelionRun(
        projections_px=relion5_projections(
            _columns(tilts, "TomoXTilt", "TomoYTilt", "TomoZRot"),
            _columns(tilts, "TomoXShiftAngst", "TomoYShiftAngst") / pixel,
            image_size,
            (int(size[0]), int(size[1]), int(size[2])),
        ),
        positions_px=positions,
        input_positions_px=_positions(project / "particles.star", tomogram, pixel, size)[0],
        trajectories_px=trajectories,
        chronological=np.argsort(_columns(tilts, "MicrographPreExposure")[:, 0], kind="stable"),
        pixel_size_angstrom=pixel,
        image_size_px=image_size,
        deformation=_deformation(tilts, group, row),
        true_uv_px=true_uv,
        visible=np.all((true_uv >= margin) & (true_uv <= np.array(image_size) - margin), axis=-1),
    )


@pytest.fixture(scope="session")
def relion_run() -> Callable[[Path, str, str], RelionRun]:
    """Read (project folder, run, tomogram)."""
    return read_run


@pytest.fixture(scope="session")
def series() -> Callable[..., TiltSeries]:
    """Make a tilt series without images: `make_series`."""
    return make_series


@pytest.fixture(scope="session")
def particles() -> Callable[..., Particles]:
    """Make some particles: `make_particles`."""
    return make_particles
