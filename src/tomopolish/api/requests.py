"""From the keywords of a call to the settings of an alignment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomopolish.api.keywords import AnyPath, checked, settings_of, threads_here
from tomopolish.api.projects import folder_of, selecting
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
)
from tomopolish.settings.inputs import SpeciesPaths
from tomopolish.settings.joint import USUAL, JointSettings

if TYPE_CHECKING:
    from tomopolish.dataset.species import Project

NEED_FOLDER = ("only", "only_do_unfinished", "diagnostics", "evaluate", "pipeline_folder", "cluster")
"""Keywords that do nothing without an output folder."""


def align_request(
    project: Project, output_folder: AnyPath | None, keywords: Mapping[str, Any]
) -> tuple[Project, AlignSettings]:
    """Return the project and the settings of a call; raises InputError where they cannot work."""
    for name in NEED_FOLDER if output_folder is None else ():
        if keywords.get(name):
            raise InputError(f"{name} needs an output folder: give output_folder")
    folder = project.first.files.working_directory if output_folder is None else output_folder
    settings = align_settings(project, folder, keywords)
    for species in project.species:
        replace(settings.windows, box_px=species.box_px)  # refuses a box that does not fit the range
    return selecting(project, keywords), settings


def align_settings(project: Project, output_folder: AnyPath, keywords: Mapping[str, Any]) -> AlignSettings:
    """Return the settings of an alignment of a project whose boxes are chosen.

    `keywords` are those of `align`, ``threads`` and ``range_px`` included; others are ignored. Raises
    InputError when they cannot work.
    """
    keywords = {**keywords, "box_px": project.boxes_px[0]}
    pipeline, chosen = keywords.get("pipeline_folder"), keywords.get("only") or ()
    run = {
        **keywords,
        "output_folder": folder_of(project, output_folder),
        "threads": threads_here(keywords["threads"]),
        "pipeline_folder": None if pipeline is None else Path(pipeline),
        "only": (chosen,) if isinstance(chosen, str) else tuple(chosen),
    }
    usual = dict.fromkeys(USUAL, True) if keywords.get("joint") else {}
    return AlignSettings(
        inputs=_inputs(project),
        windows=settings_of(WindowSettings, keywords),
        run=settings_of(RunSettings, run),
        weights=settings_of(WeightSettings, keywords),
        fit=settings_of(FitSettings, keywords),
        motion=_motion(keywords),
        deformation=_deformation(keywords),
        joint=settings_of(JointSettings, {**usual, **keywords}),
    )


def _motion(keywords: Mapping[str, Any]) -> MotionSettings | None:
    """Return the settings of motion, which may be those of the word "auto"."""
    value = keywords.get("motion")
    if value == "auto":
        return MotionSettings(auto=True)
    if value is None or isinstance(value, MotionSettings):
        return value
    raise InputError(f'motion={value!r} must be MotionSettings(...), "auto", or None to refine none')


def _deformation(keywords: Mapping[str, Any]) -> DeformationSettings | None:
    value = keywords.get("deformation")
    if value is None or isinstance(value, DeformationSettings):
        return value
    raise InputError(f"deformation={value!r} must be DeformationSettings(...), or None to refine none")


def _inputs(project: Project) -> InputPaths:
    """Return the paths of a project that is open."""
    if not project.is_single:
        species = [
            SpeciesPaths(
                name=one.name,
                optimisation_set=Path(one.dataset.files.source or one.dataset.files.require("particles")),
                box_px=one.box_px,
            )
            for one in project.species
        ]
        return InputPaths(species=tuple(species))
    files = project.first.files
    return InputPaths(
        optimisation_set=None if files.source is None else Path(files.source),
        particles=files.paths.get("particles"),
        tomograms=files.paths.get("tomograms"),
        trajectories=files.paths.get("trajectories"),
        half_map1=files.paths.get("half map 1"),
        half_map2=files.paths.get("half map 2"),
        mask=files.paths.get("mask"),
        fsc=files.paths.get("fsc"),
        relion_version=checked("relion_version", project.first.relion_version, "int | None"),
    )
