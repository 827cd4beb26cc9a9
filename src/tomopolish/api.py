"""The program from Python: load a project, align it, look at the results as arrays, write them.

>>> import tomopolish
>>> project = tomopolish.load("optimisation_set.star")      # doctest: +SKIP
>>> run = tomopolish.align(project, box_px=128, range_px=12)  # doctest: +SKIP
>>> run.results["TS_01"].alignment.positions_px               # doctest: +SKIP
>>> run.write("out")                                          # doctest: +SKIP
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tomopolish.errors import InputError
from tomopolish.settings.alignment import (
    AlignSettings,
    DeformationSettings,
    FitSettings,
    InputPaths,
    MotionSettings,
    RunSettings,
    WeightSettings,
    WindowSettings,
    refuse_unavailable,
)
from tomopolish.settings.tilts import TiltSelection

# Each function imports what it computes with, as the commands do: the command line is a part of this package,
# and `tomopolish --help` must not wait for numba and SciPy.
if TYPE_CHECKING:
    from tomopolish.dataset.project import Dataset
    from tomopolish.dataset.species import Project
    from tomopolish.results.tomogram import TomogramResult
    from tomopolish.results.verdict import Verdict
    from tomopolish.run.folder.output import OutputFolder
    from tomopolish.run.local import RunReport
    from tomopolish.run.reporter import Reporter

AnyPath = str | Path


@dataclass(frozen=True, kw_only=True, eq=False)
class AlignedProject:
    """A project after refinement.

    Attributes
    ----------
    project
        What was refined; it still holds the input values. Each result has an alignment for each of its
        species, in their order.
    report
        What became of each tomogram.
    warnings
        One sentence each.
    """

    project: Project
    report: RunReport
    warnings: tuple[str, ...] = field(default=())

    @property
    def results(self) -> Mapping[str, TomogramResult]:
        """Tomogram → refined geometry (`alignment`) and figures (`statistics`)."""
        return self.report.results

    @property
    def failures(self) -> Mapping[str, str]:
        """Tomogram → why it could not be refined."""
        return self.report.failures

    @property
    def verdict(self) -> Verdict | None:
        """Whether it helped, from pairs held out of a first fit; None where there is no evidence."""
        return self.report.verdict

    def write(self, folder: AnyPath, *, overwrite: bool = False) -> Path:
        """Write the refined sets and return the new optimisation set's path.

        Of several species, each has its set in a folder of its name; the first path is returned.
        A relative `folder` begins where the project's paths begin. Sets of an earlier refinement there are
        replaced.

        Raises
        ------
        InputError
            When another process writes into the folder, or files would be replaced that no refinement wrote:
            with `overwrite`, all but the inputs may be.
        RunError
            When a file cannot be written.
        """
        from tomopolish.run.outputs import optimisation_sets, write_refined_sets

        sets = optimisation_sets(self.project)
        with self._own(folder, overwrite, sets) as out:
            with out.new_files(joining=sets, obsolete=lambda _: True) as new:
                write_refined_sets(self.project, self.results, Path(folder), new)
            return out.folder / sets[0]

    def write_report(self, folder: AnyPath, *, overwrite: bool = False) -> Path:
        """Write ``report.html`` into a folder and return its path; see docs/report.md.

        A relative `folder` begins where the project's paths begin. Raises what `write` raises, and RunError
        when a library is missing.
        """
        from tomopolish.run.commands.report import write_report
        from tomopolish.run.outputs import REPORT_NAME

        with self._own(folder, overwrite, [REPORT_NAME]) as out:
            with out.new_files() as new:
                write_report(new, self.results, self.failures)
            return out.folder / REPORT_NAME

    def _own(
        self, folder: AnyPath, overwrite: bool, planned: Sequence[str]
    ) -> AbstractContextManager[OutputFolder]:
        from tomopolish.run.folder.guard import Guard
        from tomopolish.run.folder.output import own_folder
        from tomopolish.run.outputs import COMMAND, inputs_of

        guard = Guard(
            folder=self.project.first.files.working_directory / folder,
            shown=str(folder),
            command=COMMAND,
            inputs=inputs_of(self.project),
            overwrite=overwrite,
        )
        return own_folder(guard, sys.argv, planned)


def load(
    optimisation_set: AnyPath | None = None,
    *,
    particles: AnyPath | None = None,
    tomograms: AnyPath | None = None,
    trajectories: AnyPath | None = None,
    half_map1: AnyPath | None = None,
    half_map2: AnyPath | None = None,
    mask: AnyPath | None = None,
    fsc: AnyPath | None = None,
    relion_version: int | None = None,
) -> Project:
    """Open a project: from an optimisation set, from its parts, or from both (parts win).

    Relative paths, here and in the files, begin at the working directory. Images stay on disk;
    ``project.tomogram(name)`` returns the tilt series and the particles of one tomogram. `relion_version` is
    the RELION, 4 or 5, that will read the results; by default that of the tomogram set.

    Raises
    ------
    InputError
        When a file is missing or malformed.
    """
    from tomopolish.dataset.species import Project
    from tomopolish.run.inputs import open_inputs

    paths = InputPaths(
        optimisation_set=_path(optimisation_set),
        particles=_path(particles),
        tomograms=_path(tomograms),
        trajectories=_path(trajectories),
        half_map1=_path(half_map1),
        half_map2=_path(half_map2),
        mask=_path(mask),
        fsc=_path(fsc),
        relion_version=relion_version,
    )
    return Project.of(open_inputs(paths))


def align(
    project: Project | Mapping[str, Project],
    *,
    box_px: int | Mapping[str, int],
    range_px: int = 20,
    threads: int = 1,
    device: str = "auto",
    range_penalty: float = 0.0,
    min_frame: int = 0,
    max_frame: int | None = None,
    exclude_tilts: Mapping[str, Sequence[int]] | None = None,
    max_tilt_angle: float | None = None,
    max_dose: float | None = None,
    weights: WeightSettings | None = None,
    fit: FitSettings | None = None,
    motion: MotionSettings | None = None,
    deformation: DeformationSettings | None = None,
    show_progress: bool = False,
) -> AlignedProject:
    """Refine all tomograms of a project; the same computation as `tomopolish align`.

    Parameters
    ----------
    project
        One project, or name → project of several species in the same tomograms, which then pull on the same
        projections.
    box_px, range_px
        Box around each particle (one, or name → box), and the largest displacement that is searched.
    device
        Where windows are computed: ``auto``, ``cpu``, ``cuda``, or devices as
        ``cuda:0,cuda:1``.
    range_penalty, min_frame, max_frame
        See `tomopolish.settings.alignment.WindowSettings`.
    exclude_tilts
        Tomogram → numbers of tilt images that are left out, from 1 in the order of its rows.
    max_tilt_angle, max_dose
        Largest tilt, degrees, and largest exposure before an image, e⁻/Å², that are used; None: any.
    weights, fit, motion, deformation
        Options that differ from the defaults.
    show_progress
        Report on stdout as the command does, and warnings on stderr.

    Raises
    ------
    InputError
        When options or data cannot work; nothing has been computed then.
    RunError
        When no tomogram could be refined.
    """
    from tomopolish.dataset.check import check_project
    from tomopolish.run.align import STAGES
    from tomopolish.run.devices import runner_for
    from tomopolish.run.local import refine
    from tomopolish.run.reporter import SilentReporter, reporter_for

    chosen = _with_boxes(project, box_px)
    selection = TiltSelection(
        excluded={name: tuple(sorted(numbers)) for name, numbers in (exclude_tilts or {}).items()},
        max_tilt_angle_degrees=max_tilt_angle,
        max_dose=max_dose,
    )
    if selection:
        chosen = chosen.selecting(selection)
    first = chosen.first
    settings = AlignSettings(
        inputs=_inputs(first),
        windows=WindowSettings(
            box_px=chosen.boxes_px[0],
            range_px=range_px,
            range_penalty=range_penalty,
            min_frame=min_frame,
            max_frame=max_frame,
        ),
        run=RunSettings(output_folder=first.files.working_directory, threads=threads, device=device),
        weights=weights or WeightSettings(),
        fit=fit or FitSettings(),
        motion=motion,
        deformation=deformation,
    )
    refuse_unavailable(settings)
    runner = runner_for(device)
    shown: Reporter = reporter_for(sys.stdout) if show_progress else SilentReporter()
    warnings = check_project(chosen)
    for sentence in warnings:
        shown.warn(sentence)
    report = refine(chosen, settings, STAGES, shown, runner=runner)
    warnings += [sentence for result in report.results.values() for sentence in result.statistics.warnings]
    return AlignedProject(project=chosen, report=report, warnings=tuple(dict.fromkeys(warnings)))


def _with_boxes(project: Project | Mapping[str, Project], box_px: int | Mapping[str, int]) -> Project:
    """Return one project of all species, each with its box; raises InputError when a box is missing."""
    from tomopolish.dataset.species import Species, join_species

    if isinstance(project, Mapping):
        if not project:
            raise InputError("project: no species was passed; give at least one")
        species = [Species(name=name, dataset=one.first, box_px=0) for name, one in project.items()]
        project = join_species(species)
    names = [species.name for species in project.species]
    if not isinstance(box_px, Mapping):
        return project.with_boxes([box_px] * len(names))
    missing = [name for name in names if name not in box_px]
    if missing:
        raise InputError(f"box_px: no box is given for {missing[0]}; add it, or give one number for all")
    return project.with_boxes([box_px[name] for name in names])


def _inputs(project: Dataset) -> InputPaths:
    found = project.files.paths
    return InputPaths(
        optimisation_set=None if project.files.source is None else Path(project.files.source),
        particles=found.get("particles"),
        tomograms=found.get("tomograms"),
        trajectories=found.get("trajectories"),
        half_map1=found.get("half map 1"),
        half_map2=found.get("half map 2"),
        mask=found.get("mask"),
        fsc=found.get("fsc"),
        relion_version=project.relion_version,
    )


def _path(path: AnyPath | None) -> Path | None:
    return None if path is None else Path(path)
