"""`reconstruct`: half maps and their FSC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tomopolish.api.keywords import AnyPath, ReconstructOptions, public, settings_of, threads_here
from tomopolish.api.projects import folder_of, project_of, python_call, selecting, single
from tomopolish.api.showing import Result, data_frame, reporter_of
from tomopolish.settings.wording import in_python

if TYPE_CHECKING:
    import pandas
    from typing_extensions import Unpack

    from tomopolish.dataset.species import Project
    from tomopolish.imaging.fsc import ShellCorrelation


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ReconstructionRun(Result):
    """Maps that were reconstructed.

    Attributes
    ----------
    half_maps, merged_map, fsc_path
        The files.
    optimisation_set
        The project's, with these half maps and this FSC.
    fsc
        The curves, shell by shell.
    failures
        Tomogram → why it was left out.
    warnings
        One sentence each.
    """

    output_folder: Path
    half_maps: tuple[Path, Path]
    merged_map: Path
    fsc_path: Path
    optimisation_set: Path
    fsc: ShellCorrelation
    pixel_size_angstrom: float
    failures: Mapping[str, str]
    warnings: tuple[str, ...] = ()

    def resolution_angstrom(self, threshold: float | None = None) -> float:
        """Return the resolution, Å, of the last shell before the corrected FSC falls below a threshold.

        Without a threshold, it is 0.143.
        """
        chosen = () if threshold is None else (threshold,)
        return self.fsc.resolution_angstrom(self.pixel_size_angstrom, *chosen)

    def facts(self) -> list[str]:
        """Return the resolution, how many tomograms failed, and where the maps are."""
        failed = [f"{len(self.failures)} failed"] if self.failures else []
        return [f"{self.resolution_angstrom():.2f} Å at FSC 0.143", *failed, f"{self.output_folder}/"]

    def sentence(self) -> str:
        """Say where the maps are, and which resolution they reach, as the command does."""
        from tomopolish.run.commands.reconstruct import resolution_sentence

        return resolution_sentence(self.fsc, self.pixel_size_angstrom, self.output_folder, self.failures)

    def to_dataframe(self) -> pandas.DataFrame:
        """Return the FSC as a pandas DataFrame, a row for each shell; raises RunError without pandas."""
        from tomopolish.output.rows import shell_rows

        return data_frame(shell_rows(self.fsc, self.pixel_size_angstrom))


@public(ReconstructOptions)
def reconstruct(
    project: Project | AnyPath,
    output_folder: AnyPath,
    *,
    box_px: int,
    crop_px: int | None = None,
    symmetry: str = "C1",
    threads: int = 1,
    show_progress: bool = False,
    **options: Unpack[ReconstructOptions],
) -> ReconstructionRun:
    """Reconstruct the maps of both half sets and their FSC, as `tomopolish reconstruct` does.

    Parameters
    ----------
    project
        What `load` returns, or the path of an optimisation set, of one species. Its mask, if it has one, is
        that of the FSC; ``load(..., mask=...)`` names another.
    output_folder
        Receives ``half1.mrc``, ``half2.mrc``, ``merged.mrc``, ``fsc.star`` and ``optimisation_set.star``.
    box_px, crop_px
        Edge of the boxes cut from the images, and of the maps (None: the same).
    symmetry
        Point group: C1, C2 …, D2 …, T, O, I1, I2.
    threads, show_progress
        As in `align`.
    **options
        ``overwrite``: replace files that no earlier reconstruction wrote. ``exclude_tilts``,
        ``max_tilt_angle_degrees``, ``max_dose``: as in `align`.

    Returns
    -------
    The curves, and where the maps are. A tomogram that cannot be used is among its `failures`.

    Raises
    ------
    InputError
        When arguments or data cannot work; nothing has been computed then.
    RunError
        When no tomogram can be used, or a file cannot be written.
    """
    from tomopolish.run.commands.reconstruct import (
        FSC_NAME,
        MAP_NAMES,
        SET_NAME,
        ReconstructSettings,
        reconstruct_dataset,
    )

    chosen = project_of(project)
    single(chosen, "reconstruct")
    keywords = {"box_px": box_px, "crop_px": crop_px, "symmetry": symmetry, "threads": threads, **options}
    invocation = python_call("reconstruct", chosen, output_folder, **keywords)
    dataset = single(selecting(chosen, keywords), "reconstruct")
    folder = folder_of(chosen, output_folder)
    settings = settings_of(
        ReconstructSettings, {**keywords, "output_folder": folder, "threads": threads_here(threads)}
    )
    reporter = reporter_of(show_progress)
    maps = reconstruct_dataset(dataset, settings, reporter, invocation)
    one, two, merged = (folder / name for name in MAP_NAMES)
    return ReconstructionRun(
        output_folder=folder,
        half_maps=(one, two),
        merged_map=merged,
        fsc_path=folder / FSC_NAME,
        optimisation_set=folder / SET_NAME,
        fsc=maps.fsc,
        pixel_size_angstrom=dataset.pixel_size_angstrom,
        failures={name: in_python(reason) for name, reason in maps.failures.items()},
        warnings=reporter.warnings,
    )
