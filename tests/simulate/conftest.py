from __future__ import annotations

import pytest

from tomopolish.simulate.parts import (
    AcquisitionSettings,
    MoleculeSettings,
    PlantedErrors,
    SimulationSettings,
    SpecimenSettings,
)


@pytest.fixture(scope="session")
def small() -> SimulationSettings:
    """A tomogram that takes a moment: odd image and tomogram sizes, 11 tilts, 8 particles."""
    return SimulationSettings(
        seed=11,
        molecule=MoleculeSettings(box_px=48, blobs=120),
        acquisition=AcquisitionSettings(
            image_size_px=(201, 173), tilt_step_degrees=12.0, tilt_axis_degrees=-37.0, pixel_size_angstrom=4.0
        ),
        specimen=SpecimenSettings(particles=8, thickness_angstrom=400.0, tomogram_size_px=(203, 175, 151)),
        errors=PlantedErrors(max_displacement_px=5.0),
    )
