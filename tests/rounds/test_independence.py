"""Half sets share no noise: references of noise bring no agreement, and neither half sees the other's map."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from tomopolish.cli import run
from tomopolish.dataset.mrc import write_volume
from tomopolish.dataset.project import open_dataset
from tomopolish.dataset.relion.fsc_file import write_fsc
from tomopolish.imaging.fsc import shell_correlation
from tomopolish.physics.geometry import rotation_vector
from tomopolish.settings.simulated_structure import MoleculeSettings
from tomopolish.settings.simulation import (
    AcquisitionSettings,
    NoiseSettings,
    PlantedErrors,
    SimulationSettings,
    SpecimenSettings,
)
from tomopolish.simulate.project import write_project

BOX, PIXEL, RESOLUTION = 32, 4.0, 14.0
SIMULATED = SimulationSettings(
    seed=7,
    molecule=MoleculeSettings(box_px=BOX, seed=7, blobs=40),
    acquisition=AcquisitionSettings(
        image_size_px=(240, 240), pixel_size_angstrom=PIXEL, tilt_step_degrees=12.0
    ),
    specimen=SpecimenSettings(
        particles=40,
        tomogram_size_px=(240, 240, 90),
        thickness_angstrom=240.0,
        min_distance_px=10.0,
        edge_margin_px=20.0,
    ),
    errors=PlantedErrors(shift_px=0.0, angle_degrees=0.0, position_px=0.5),
    noise=NoiseSettings(pair_snr=200.0),
)
POLISH = "--i set/optimisation_set.star --b 32 --r 5 --rounds 1 --hold_out 0 --no_report --ref_scale 1"


@pytest.fixture
def simulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small simulated project, and references of noise beside it whose FSC promises too much."""
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path / "set", SIMULATED)
    rng = np.random.default_rng(3)
    strength = _read("set/ref_half1.mrc").std()
    for number in (1, 2):
        noise = gaussian_filter(rng.standard_normal((BOX,) * 3), 1.0)
        write_volume(
            tmp_path / f"noise{number}.mrc", (strength * noise / noise.std()).astype(np.float32), PIXEL
        )
    curve = 0.95 * (np.arange(BOX // 2 + 1) <= BOX * PIXEL / RESOLUTION)
    write_fsc(tmp_path / "fsc.star", {"corrected": curve}, box_px=BOX, pixel_size_angstrom=PIXEL)
    return tmp_path


def _read(path: str | Path) -> np.ndarray:
    with mrcfile.open(path) as file:
        return np.array(file.data)


def _agreement(folder: Path) -> float:
    """Return the mean FSC of a round's half maps, without mask, where the references were used."""
    halves = np.stack([_read(folder / f"half{n}.mrc") for n in (1, 2)])
    return float(shell_correlation(halves, None).unmasked[2:9].mean())


def _polish(*options: str) -> None:
    assert run(["polish", *POLISH.split(), *options]) == 0


def test_noise_refined_against_noise_stays_noise(simulated: Path) -> None:
    rng = np.random.default_rng(5)
    for path in Path("set/tilt_series").glob("*.mrc*"):
        with mrcfile.mmap(path, mode="r+") as stack:
            stack.data[:] = rng.standard_normal(stack.data.shape)
    fsc = ["--fsc", "fsc.star", "--mask", "set/mask.mrc"]
    _polish("--ref1", "noise1.mrc", "--ref2", "noise2.mrc", *fsc, "--o", "apart")
    apart = _agreement(Path("apart/round01/maps"))
    # The same fit finds noise where both half sets look for the same noise: the test can fail.
    _polish(
        "--ref1", "noise1.mrc", "--ref2", "noise1.mrc", "--ini_high", str(RESOLUTION), *fsc, "--o", "same"
    )
    same = _agreement(Path("same/round01/maps"))
    assert apart < 0.12
    assert same > 0.15


def test_orientations_of_a_half_set_do_not_depend_on_the_other_halfs_map(simulated: Path) -> None:
    fixed = [
        "--const_a",
        "--const_s",
        "--orientations",
        "--no_outliers",
        "--fsc",
        "fsc.star",
        "--mask",
        "set/mask.mrc",
    ]
    _polish("--ref1", "set/ref_half1.mrc", "--ref2", "noise1.mrc", *fixed, "--o", "one")
    _polish("--ref1", "set/ref_half1.mrc", "--ref2", "noise2.mrc", *fixed, "--o", "other")
    before, one, other = (
        open_dataset(Path(name)).load("TS_01")[1]
        for name in (
            "set/optimisation_set.star",
            "one/round01/optimisation_set.star",
            "other/round01/optimisation_set.star",
        )
    )

    def turned(first: np.ndarray, second: np.ndarray, half: int) -> float:
        chosen = before.half_set == half
        turns = rotation_vector(np.swapaxes(first, 1, 2) @ second)[chosen]
        return float(np.rad2deg(np.sqrt(np.mean(np.sum(turns**2, axis=1)))))

    # Scales of tilt images and the width of the orientations' prior belong to both half sets.
    assert turned(one.rotations, other.rotations, 1) > 5.0
    assert turned(one.rotations, other.rotations, 0) < 0.25 * turned(one.rotations, other.rotations, 1)
