"""tomopolish refines cryo-electron-tomography tilt series against a known structure.

From Python: `load` opens a project, `align` refines it; docs/api.md describes all functions.
"""

# These packages come first: Python would put one that is imported later in place of the function of its name.
import tomopolish.simulate
import tomopolish.tune  # noqa: F401
from tomopolish.api import (
    AlignmentPlan,
    AlignmentRun,
    EvaluationRun,
    ExportRun,
    KeywordError,
    PolishRun,
    ReconstructionRun,
    ReportRun,
    SelectionRun,
    SimulationRun,
    TuningRun,
    align,
    evaluate,
    export,
    load,
    plan,
    polish,
    reconstruct,
    report,
    select,
    simulate,
    tune,
)
from tomopolish.errors import InputError, RunError, TomopolishError
from tomopolish.settings.alignment import DeformationSettings, MotionSettings
from tomopolish.settings.cluster import ClusterSettings, SlurmSettings, TlsFiles
from tomopolish.settings.dirt import DirtSettings
from tomopolish.settings.simulated_structure import CompanionSettings, MoleculeSettings
from tomopolish.settings.simulation import (
    AcquisitionSettings,
    NoiseSettings,
    PlantedErrors,
    PlantedMotion,
    PlantedWarp,
    SpecimenSettings,
)
from tomopolish.version import program_version

__all__ = [
    "AcquisitionSettings",
    "AlignmentPlan",
    "AlignmentRun",
    "ClusterSettings",
    "CompanionSettings",
    "DeformationSettings",
    "DirtSettings",
    "EvaluationRun",
    "ExportRun",
    "InputError",
    "KeywordError",
    "MoleculeSettings",
    "MotionSettings",
    "NoiseSettings",
    "PlantedErrors",
    "PlantedMotion",
    "PlantedWarp",
    "PolishRun",
    "ReconstructionRun",
    "ReportRun",
    "RunError",
    "SelectionRun",
    "SimulationRun",
    "SlurmSettings",
    "SpecimenSettings",
    "TlsFiles",
    "TomopolishError",
    "TuningRun",
    "__version__",
    "align",
    "evaluate",
    "export",
    "load",
    "plan",
    "polish",
    "reconstruct",
    "report",
    "select",
    "simulate",
    "tune",
]


def __getattr__(name: str) -> str:
    """Return `__version__`, which is looked up when it is asked for."""
    if name == "__version__":
        return program_version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
