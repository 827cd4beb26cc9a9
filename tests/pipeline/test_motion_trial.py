"""`--motion auto`: motion with the prior that the images suggest, kept only where held-out pairs gain."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from small_project import align_one, errors_of, make_settings
from tomopolish.pipeline import prepare
from tomopolish.results.tomogram import TomogramResult
from tomopolish.settings.alignment import MotionSettings
from tomopolish.settings.joint import JointSettings
from tomopolish.settings.simulated_structure import MoleculeSettings
from tomopolish.settings.simulation import (
    AcquisitionSettings,
    NoiseSettings,
    PlantedErrors,
    PlantedMotion,
    SimulationSettings,
    SpecimenSettings,
)
from tomopolish.simulate.structure import Structure, build_structure
from tomopolish.simulate.tomogram import SimulatedTomogram, simulate_tomogram

PLANTED = PlantedMotion(velocity_scale=0.9, distance_scale=400.0)
AUTO = MotionSettings(auto=True)


@pytest.fixture(scope="module")
def structure() -> Structure:
    return build_structure(settings(0, None))


def settings(seed: int, motion: PlantedMotion | None) -> SimulationSettings:
    return SimulationSettings(
        seed=seed,
        molecule=MoleculeSettings(box_px=32, seed=2),
        acquisition=AcquisitionSettings(
            image_size_px=(220, 200), pixel_size_angstrom=5.0, tilt_step_degrees=8.0
        ),
        specimen=SpecimenSettings(particles=25, thickness_angstrom=400.0),
        noise=NoiseSettings(pair_snr=60.0),
        errors=PlantedErrors(shift_px=2.0, angle_degrees=0.3, position_px=1.5),
        motion=motion,
    )


@pytest.fixture(scope="module")
def still(structure: Structure) -> SimulatedTomogram:
    return simulate_tomogram(settings(3, None), structure=structure)


@pytest.fixture(scope="module")
def moving(structure: Structure) -> SimulatedTomogram:
    return simulate_tomogram(settings(11, PLANTED), structure=structure)


def align(tomogram: SimulatedTomogram, structure: Structure, **parts: Any) -> tuple[TomogramResult, float]:
    """Return the result, and the root mean square error in the images."""
    options = make_settings(32, 8, **parts)
    references = prepare(structure.references, options)
    result = align_one(tomogram.series, tomogram.particles, references, options)
    return result, errors_of(tomogram.truth, result.alignment, tomogram.particles).rms_2d_angstrom


def test_particles_that_keep_still_get_the_static_result(
    still: SimulatedTomogram, structure: Structure
) -> None:
    static, _ = align(still, structure)
    found, _ = align(still, structure, motion=AUTO)
    assert found.statistics.motion is not None and not found.statistics.motion.helps
    assert found.alignment.trajectories_px is None
    np.testing.assert_array_equal(found.alignment.projections_px, static.alignment.projections_px)
    np.testing.assert_array_equal(found.alignment.positions_px, static.alignment.positions_px)
    assert static.statistics.motion is None


def test_motion_is_found_and_kept_also_beside_orientations(
    moving: SimulatedTomogram, structure: Structure
) -> None:
    _, without = align(moving, structure)
    _, informed = align(moving, structure, motion=MotionSettings(velocity_scale=0.9, distance_scale=400.0))
    found, error = align(moving, structure, motion=AUTO)
    trial = found.statistics.motion
    assert trial is not None and trial.helps and trial.evidence is not None
    assert trial.evidence.gain > 3 * trial.evidence.standard_error
    assert error < 1.05 * informed < 0.9 * without
    assert found.alignment.trajectories_px is not None
    assert found.alignment.errors is not None and found.alignment.errors.motion_angstrom is not None
    views = JointSettings(orientations=True)
    joint, error = align(moving, structure, motion=AUTO, joint=views)
    assert joint.statistics.motion == trial
    assert joint.alignment.trajectories_px is not None
    assert error < 0.9 * align(moving, structure, joint=views)[1]


def test_input_trajectories_stay_where_motion_does_not_help(
    still: SimulatedTomogram, structure: Structure
) -> None:
    given = np.full((len(still.particles), len(still.series), 3), 0.01)
    still = replace(still, particles=replace(still.particles, trajectories_px=given))
    result, _ = align(still, structure, motion=AUTO)
    assert result.statistics.motion is not None and not result.statistics.motion.helps
    assert result.alignment.trajectories_px is not None
    np.testing.assert_allclose(np.ptp(result.alignment.trajectories_px, axis=1), 0, atol=1e-9)


def test_few_particles_are_not_asked(moving: SimulatedTomogram, structure: Structure) -> None:
    few = moving.particles.subset(np.arange(4))
    result, _ = align(replace(moving, particles=few), structure, motion=AUTO)
    trial = result.statistics.motion
    assert trial is not None and not trial.velocity_scale and not trial.helps
    assert result.alignment.trajectories_px is None
