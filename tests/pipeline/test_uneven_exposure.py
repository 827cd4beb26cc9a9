"""Motion where the first image has many times the exposure of the others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from small_project import align_one, errors_of, make_settings
from tomopolish.pipeline import prepare
from tomopolish.settings.alignment import MotionSettings
from tomopolish.settings.simulated_structure import MoleculeSettings
from tomopolish.settings.simulation import (
    AcquisitionSettings,
    NoiseSettings,
    PlantedErrors,
    PlantedMotion,
    SimulationSettings,
    SpecimenSettings,
)
from tomopolish.simulate.structure import build_structure
from tomopolish.simulate.tomogram import simulate_tomogram


def test_motion_of_a_hybrid_scheme_is_recovered() -> None:
    """As well as if all images had the exposure of the others, and better than as if all had the first's."""
    acquisition = AcquisitionSettings(
        image_size_px=(220, 200), pixel_size_angstrom=5.0, tilt_step_degrees=8.0, frame_dose=2.0,
        first_dose=50.0, state_frame_dose=False,
    )  # fmt: skip
    settings = SimulationSettings(
        seed=11,
        molecule=MoleculeSettings(box_px=32, seed=2),
        acquisition=acquisition,
        specimen=SpecimenSettings(particles=25, thickness_angstrom=400.0),
        noise=NoiseSettings(pair_snr=60.0),
        errors=PlantedErrors(shift_px=2.0, angle_degrees=0.3, position_px=1.5),
        motion=PlantedMotion(velocity_scale=0.9, distance_scale=400.0),
    )
    structure = build_structure(settings)
    tomogram = simulate_tomogram(settings, structure=structure)
    assert tomogram.series.step_weights.max() == 25.0
    motion = MotionSettings(velocity_scale=0.9, distance_scale=400.0)
    results, errors = {}, {}
    for name, asked in {
        "own exposure": motion,
        "the first's": replace(motion, velocity_scale=0.9 * 50 / 5, distance_scale=4000.0, absolute=True),
    }.items():
        options = make_settings(32, 8, motion=asked)
        references = prepare(structure.references, options)
        results[name] = align_one(tomogram.series, tomogram.particles, references, options)
        found = errors_of(tomogram.truth, results[name].alignment, tomogram.particles)
        errors[name] = found.rms_trajectory_angstrom
    assert errors["own exposure"] < 0.85 * errors["the first's"]
    said = " ".join(results["own exposure"].statistics.warnings)
    assert "differ in exposure (2 to 50 e⁻/Å²)" in said and "images of 2 e⁻/Å²" in said
    assert "exposure" not in " ".join(results["the first's"].statistics.warnings)
    moved = results["own exposure"].alignment.trajectories_px
    assert moved is not None
    order = tomogram.series.chronological
    steps = np.linalg.norm(np.diff(moved[:, order], axis=1), axis=-1).mean(axis=0)
    assert steps[0] > 1.5 * np.median(steps[1:])
