"""Half sets whose maps are turned against each other come back into one frame."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tomopolish.dataset.model import Alignment
from tomopolish.dataset.project import Dataset, open_dataset
from tomopolish.dataset.species import Project
from tomopolish.physics.geometry import rotation_from_vector, rotation_vector
from tomopolish.rounds.align import turned_particles
from tomopolish.rounds.frames import between_halves, write_in_one_frame
from tomopolish.rounds.maps import SpeciesMaps, make_maps
from tomopolish.run.back_projection import back_project
from tomopolish.run.reporter import SilentReporter
from tomopolish.settings.joint import JointSettings
from tomopolish.settings.simulated_structure import MoleculeSettings
from tomopolish.settings.simulation import (
    AcquisitionSettings,
    NoiseSettings,
    PlantedErrors,
    SimulationSettings,
    SpecimenSettings,
)
from tomopolish.simulate.project import write_project

BOX = 32
SIMULATED = SimulationSettings(
    seed=11,
    molecule=MoleculeSettings(box_px=BOX, seed=11, blobs=40),
    acquisition=AcquisitionSettings(
        image_size_px=(240, 240), pixel_size_angstrom=4.0, tilt_step_degrees=10.0
    ),
    specimen=SpecimenSettings(
        particles=40,
        tomogram_size_px=(240, 240, 90),
        thickness_angstrom=240.0,
        min_distance_px=10.0,
        edge_margin_px=20.0,
    ),
    errors=PlantedErrors(shift_px=0.0, angle_degrees=0.0, position_px=0.0),
    noise=NoiseSettings(pair_snr=200.0),
)


def maps_of(dataset: Dataset, folder: Path) -> SpeciesMaps:
    projected = back_project(dataset, BOX, "C1", 1, SilentReporter())
    return make_maps(Project.of(dataset, BOX).species[0], projected, folder, BOX)


def test_a_turned_half_set_is_turned_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path / "set", SIMULATED)
    dataset = open_dataset(Path("set/optimisation_set.star"))
    true, particles = dataset.load("TS_01")
    turn, shift = rotation_from_vector(np.deg2rad([4.0, -3.0, 2.0])), np.array([0.6, 0.2, -0.5])
    second = particles.half_set == 1
    turned = replace(
        particles,
        rotations=np.where(second[:, None, None], particles.rotations @ turn, particles.rotations),
        positions_px=particles.positions_px + second[:, None] * (particles.rotations @ shift),
    )
    wrong = Alignment(
        tomogram="TS_01",
        projections_px=true.projections_px,
        rows=turned.rows,
        positions_px=turned.positions_px,
        rotations=turned.rotations,
    )
    dataset.write(Path("wrong"), {"TS_01": wrong}, motion=False)
    moved = open_dataset(Path("wrong/optimisation_set.star"))
    maps = maps_of(moved, tmp_path / "before")
    found = between_halves(maps)
    assert found is not None
    (written,) = write_in_one_frame(Project.of(moved), [found], Path("back"))
    back = open_dataset(written)
    _, after = back.load("TS_01")
    turns = np.rad2deg(
        np.linalg.norm(rotation_vector(np.swapaxes(after.rotations, 1, 2) @ particles.rotations), axis=1)
    )
    assert turns[~second].max() < 1e-3
    assert turns[second].max() < 1.0
    assert np.abs(after.positions_px - particles.positions_px).max() < 0.25
    again = maps_of(back, tmp_path / "after")
    assert again.fsc.corrected[1:12].mean() > maps.fsc.corrected[1:12].mean() + 0.02
    assert between_halves(again) is None


@pytest.mark.parametrize(
    ("helps", "turned"), [((True, False), True), ((False, False), False), ((None, False), True), ((), False)]
)
def test_half_sets_are_registered_where_any_orientations_were_kept(
    helps: tuple[bool | None, ...], turned: bool
) -> None:
    """Orientations that went back to the input are in one frame; those that nothing judged may not be."""
    statistics = {
        str(i): SimpleNamespace(
            groups=() if each is None else (SimpleNamespace(group="orientations", helps=each),)
        )
        for i, each in enumerate(helps)
    }
    refined, fixed = (SimpleNamespace(joint=JointSettings(orientations=wanted)) for wanted in (True, False))
    assert turned_particles(refined, statistics) == turned  # type: ignore[arg-type]
    assert not turned_particles(fixed, statistics)  # type: ignore[arg-type]
