"""A small simulated project of two species, ribosome and fas."""

from __future__ import annotations

from pathlib import Path

from tomopolish.settings.simulated_structure import CompanionSettings, MoleculeSettings
from tomopolish.settings.simulation import (
    AcquisitionSettings,
    NoiseSettings,
    PlantedErrors,
    SimulationSettings,
    SpecimenSettings,
)
from tomopolish.simulate.project import write_project

PIXEL, BOXES = 4.0, {"ribosome": 32, "fas": 28}
SIMULATED = SimulationSettings(
    seed=9,
    tomograms=2,
    molecule=MoleculeSettings(box_px=32, seed=9, blobs=40),
    acquisition=AcquisitionSettings(
        image_size_px=(200, 200), pixel_size_angstrom=PIXEL, tilt_step_degrees=15.0
    ),
    specimen=SpecimenSettings(
        particles=14,
        tomogram_size_px=(200, 200, 90),
        thickness_angstrom=240.0,
        min_distance_px=10.0,
        edge_margin_px=20.0,
    ),
    errors=PlantedErrors(shift_px=1.0, angle_degrees=0.1, position_px=1.0),
    noise=NoiseSettings(pair_snr=150.0),
    companions=(
        CompanionSettings(
            name="fas",
            molecule=MoleculeSettings(box_px=28, seed=4, blobs=40),
            particles=14,
            pair_snr=150.0,
        ),
    ),
)
YAML = """species:
- {name: ribosome, optimisation_set: optimisation_set.star, box: 32}
- {name: fas, optimisation_set: fas_optimisation_set.star, box: 28, sym: C2}
"""


def write_two_species(folder: Path) -> None:
    """Write the project, with ``species.yaml``; the first species has no particles in the second tomogram."""
    write_project(folder, SIMULATED)
    (folder / "species.yaml").write_text(YAML)
    lines = (folder / "particles.star").read_text().split("\n")
    (folder / "particles.star").write_text("\n".join(x for x in lines if not x.startswith("TS_02")))
