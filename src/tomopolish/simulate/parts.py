"""The simulator in parts, for studies and tests: settings, structures, tilt series in memory, and truth."""

from tomopolish.settings.dirt import DirtSettings
from tomopolish.settings.simulated_structure import CompanionSettings, MoleculeSettings
from tomopolish.settings.simulation import (
    AcquisitionSettings,
    NoiseSettings,
    PlantedErrors,
    PlantedMotion,
    PlantedWarp,
    SimulationSettings,
    SpecimenSettings,
)
from tomopolish.simulate.companions import SimulatedSpecies
from tomopolish.simulate.project import write_project
from tomopolish.simulate.structure import Structure, build_structure
from tomopolish.simulate.tomogram import (
    SimulatedTomogram,
    simulate_species,
    simulate_tilt_series,
    simulate_tomogram,
)
from tomopolish.simulate.truth import Truth, read_truth, with_true_geometry, write_truth

__all__ = [
    "AcquisitionSettings",
    "CompanionSettings",
    "DirtSettings",
    "MoleculeSettings",
    "NoiseSettings",
    "PlantedErrors",
    "PlantedMotion",
    "PlantedWarp",
    "SimulatedSpecies",
    "SimulatedTomogram",
    "SimulationSettings",
    "SpecimenSettings",
    "Structure",
    "Truth",
    "build_structure",
    "read_truth",
    "simulate_species",
    "simulate_tilt_series",
    "simulate_tomogram",
    "with_true_geometry",
    "write_project",
    "write_truth",
]
