"""Several species in one simulated tomogram, and what the second does for the first."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from small_project import errors_of, make_settings
from tomopolish import pipeline
from tomopolish.dataset.model import Tomogram
from tomopolish.dataset.project import open_dataset
from tomopolish.errors import InputError
from tomopolish.progress import SilentProgress
from tomopolish.simulate.motion import random_trajectories
from tomopolish.simulate.parts import (
    AcquisitionSettings,
    CompanionSettings,
    MoleculeSettings,
    NoiseSettings,
    PlantedErrors,
    PlantedMotion,
    SimulationSettings,
    SpecimenSettings,
    read_truth,
    simulate_species,
    simulate_tomogram,
    write_project,
)

SECOND = CompanionSettings(
    name="second", molecule=MoleculeSettings(box_px=40, seed=1, diameter_fraction=0.55), particles=18,
    pair_snr=40.0,
)  # fmt: skip


def crowd(seed: int = 0, **changes: object) -> SimulationSettings:
    """Few particles of the first structure among many of a second."""
    return replace(
        SimulationSettings(
            seed=seed,
            molecule=MoleculeSettings(box_px=48),
            acquisition=AcquisitionSettings(image_size_px=(288, 256), tilt_step_degrees=6.0),
            specimen=SpecimenSettings(particles=6, thickness_angstrom=600.0),
            noise=NoiseSettings(pair_snr=40.0),
            errors=PlantedErrors(max_displacement_px=5.0),
            companions=(SECOND,),
        ),
        **changes,
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_second_species_lowers_the_error_of_the_first(seed: int) -> None:
    """Same images, with and without: three times as many particles fix the projections better."""
    series, species = simulate_species(crowd(seed), threads=2)
    settings = make_settings(48, 6)
    references = [pipeline.prepare(s.references, make_settings(s.box_px, 6)) for s in species]
    errors = []
    for count in (1, len(species)):
        tomogram = Tomogram(series=series, species=tuple(s.particles for s in species[:count]))
        result = pipeline.align_tomogram(tomogram, references[:count], settings, SilentProgress())
        found = errors_of(species[0].truth, result.alignment, species[0].particles)
        errors.append(found.rms_2d_angstrom)
    alone, together = errors
    assert together < 0.8 * alone < 0.4 * 7


def test_the_first_species_is_the_same_with_and_without_others() -> None:
    motion = PlantedMotion()
    with_second = simulate_tomogram(crowd(motion=motion))
    alone = simulate_tomogram(crowd(motion=motion, companions=()))
    for field in ("projections_px", "positions_px", "input_positions_px", "trajectories_px", "rotations"):
        np.testing.assert_array_equal(getattr(with_second.truth, field), getattr(alone.truth, field))
    assert not alone.companions
    (second,) = with_second.companions
    difference = with_second.images.read(3) - alone.images.read(3)
    np.testing.assert_allclose(difference, with_second.images.others[0].paint(3), atol=1e-5)
    assert difference.std() > 0.01
    apart = np.linalg.norm(second.truth.positions_px[:, None] - alone.truth.positions_px, axis=-1)
    assert apart.min() > 0.5 * SECOND.molecule.box_px
    np.testing.assert_array_equal(second.truth.projections_px, alone.truth.projections_px)


def test_all_species_move_in_one_field() -> None:
    """Correlations between the two halves of the particles are those of a draw of all at once."""
    rng = np.random.default_rng(0)
    positions = rng.uniform(0, 300, (6, 3))
    motion = PlantedMotion(distance_scale=100.0)
    acquisition = AcquisitionSettings(frame_dose=3.0, pixel_size_angstrom=3.0)
    settings = SimulationSettings(motion=motion, acquisition=acquisition)
    exposure = 3.0 * np.arange(4000)
    first = random_trajectories(settings, positions[:3], exposure, rng)
    more = random_trajectories(settings, positions[3:], exposure, rng, earlier=(positions[:3], first))
    velocity = np.diff(np.concatenate([first, more]), axis=1).reshape(6, -1) / motion.velocity_scale
    distance = np.linalg.norm(positions[:, None] - positions, axis=-1) / 100.0
    np.testing.assert_allclose(velocity @ velocity.T / velocity.shape[1], np.exp(-distance), atol=0.05)


@pytest.mark.parametrize("dialect", ["relion5", "relion4"])
def test_a_project_on_disk_holds_every_species(
    tmp_path: Path, dialect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = crowd(dialect=dialect, tomograms=2, motion=PlantedMotion())
    write_project(tmp_path / "both", settings)
    write_project(tmp_path / "alone", replace(settings, companions=()))
    for name in ("optimisation_set.star", "tomograms.star", "particles.star", "ref_half1.mrc"):
        one, other = ((tmp_path / f / name).read_bytes() for f in ("both", "alone"))
        assert hashlib.sha256(one).digest() == hashlib.sha256(other).digest()
    monkeypatch.chdir(tmp_path)
    second = open_dataset(Path("both/second_optimisation_set.star"))
    truths = read_truth(Path("both/second_truth.json"))
    assert second.tomogram_names == tuple(truths) == ("TS_01", "TS_02")
    assert second.references().size_px == SECOND.molecule.box_px
    simulated = simulate_tomogram(settings, 1).companions[0]
    _, particles = second.load("TS_02")
    np.testing.assert_array_equal(particles.rows, simulated.particles.rows)
    np.testing.assert_allclose(particles.positions_px, simulated.particles.positions_px, atol=1e-4)
    np.testing.assert_allclose(truths["TS_02"].trajectories_px, simulated.truth.trajectories_px)


def test_impossible_species_are_refused() -> None:
    with pytest.raises(InputError, match="a name of its own"):
        crowd(companions=(SECOND, SECOND))
    with pytest.raises(InputError, match="species name"):
        CompanionSettings(name="../up")
    with pytest.raises(InputError, match=r"at least one particle of second"):
        replace(SECOND, particles=0)
    with pytest.raises(InputError, match="signal-to-noise ratio of second"):
        replace(SECOND, pair_snr=0.0)
