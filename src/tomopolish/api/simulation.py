"""`simulate`: a complete project with known truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from tomopolish.api.keywords import AnyPath, public, settings_of, threads_here
from tomopolish.api.projects import python_call
from tomopolish.api.showing import Result, reporter_of
from tomopolish.plain_text import counted
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

if TYPE_CHECKING:
    from typing_extensions import Unpack


class SimulateOptions(TypedDict, total=False):
    """Fields of `SimulationSettings`."""

    seed: int
    tomograms: int
    dialect: str
    image_type: str
    molecule: MoleculeSettings
    acquisition: AcquisitionSettings
    specimen: SpecimenSettings
    errors: PlantedErrors
    noise: NoiseSettings
    motion: PlantedMotion | None
    warp: PlantedWarp | None
    companions: tuple[CompanionSettings, ...]
    dirt: DirtSettings


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SimulationRun(Result):
    """A simulated project.

    Attributes
    ----------
    settings
        All settings; the same ones make the same files.
    optimisation_set, truth
        The first species' set, and its truth for `evaluate`.
    companions
        Further species → (optimisation set, truth).
    """

    output_folder: Path
    settings: SimulationSettings
    optimisation_set: Path
    truth: Path
    companions: dict[str, tuple[Path, Path]]

    def facts(self) -> list[str]:
        """Return the numbers of tomograms and particles, and where the project is."""
        number = self.settings.tomograms * self.settings.specimen.particles
        further = [f"{name} too" for name in self.companions]
        counts = [counted(self.settings.tomograms, "tomogram"), counted(number, "particle")]
        return [*counts, *further, f"{self.output_folder}/"]

    def sentence(self) -> str:
        """Say where the project is, as the command does."""
        return f"Simulated project: {self.optimisation_set}"


@public(SimulateOptions)
def simulate(
    output_folder: AnyPath,
    *,
    threads: int = 1,
    overwrite: bool = False,
    show_progress: bool = False,
    **options: Unpack[SimulateOptions],
) -> SimulationRun:
    """Write a complete RELION project whose truth is known, as `tomopolish simulate` does.

    Parameters
    ----------
    output_folder
        New or empty, or holding nothing but an earlier simulation, which is replaced.
    overwrite
        Whether the folder may hold other files, too, which the project's replace where names are the same.
    threads, show_progress
        As in `align`.
    **options
        Fields of `SimulationSettings`: ``seed``, ``tomograms``, ``dialect``, ``image_type``, and the settings
        ``molecule``, ``acquisition``, ``specimen``, ``errors``, ``noise``, ``motion``, ``warp``,
        ``companions`` and ``dirt``.

    Returns
    -------
    Where the project and its truth are.

    Raises
    ------
    InputError
        When the settings cannot be simulated, or the folder holds anything else.
    RunError
        When a file cannot be written.
    """
    from tomopolish.run.commands.simulate import run_simulate
    from tomopolish.simulate.project import TRUTH_NAME

    settings = settings_of(SimulationSettings, options)
    folder = Path(output_folder)
    written = run_simulate(
        folder,
        settings,
        python_call("simulate", output_folder, threads=threads, **options),
        threads=threads_here(threads),
        reporter=reporter_of(show_progress),
        overwrite=overwrite,
    )
    return SimulationRun(
        output_folder=folder,
        settings=settings,
        optimisation_set=written,
        truth=folder / TRUTH_NAME,
        companions={
            one.name: (folder / f"{one.name}_{written.name}", folder / f"{one.name}_{TRUTH_NAME}")
            for one in settings.companions
        },
    )
