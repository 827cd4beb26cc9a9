"""Projects as Python's callers name them: opened, as paths, or several species by name."""

from __future__ import annotations

import json
import operator
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomopolish.api.keywords import AnyPath, PartOptions, checked, public
from tomopolish.errors import InputError
from tomopolish.run.invocation import Invocation
from tomopolish.settings.inputs import InputPaths, refuse_version
from tomopolish.settings.tilts import TiltSelection

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from tomopolish.dataset.project import Dataset
    from tomopolish.dataset.species import Project


SETS = {"particles", "tomograms"}
HALF_MAPS = {"half_map1", "half_map2"}
"""Parts that `align` and `tune` need, but neither `reconstruct` nor `export`."""


@public(PartOptions)
def load(optimisation_set: AnyPath | None = None, **parts: Unpack[PartOptions]) -> Project:
    """Open a project: from an optimisation set, from its parts, or from both (parts win).

    Relative paths, here and in the files, begin at the working directory. Images stay on disk;
    ``project.tomogram(name)`` returns the tilt series and the particles of one tomogram.

    Parameters
    ----------
    optimisation_set
        The optimisation set of RELION 4 or 5.
    **parts
        ``particles``, ``tomograms``, ``trajectories``: other sets. ``half_map1``, ``half_map2``, ``mask``,
        ``fsc``: other references. ``relion_version``: the RELION, 4 or 5, that will read the results; by
        default that of the tomogram set.

    Returns
    -------
    The project, for `align`, `tune`, `reconstruct` and `export`.

    Raises
    ------
    InputError
        When a file is missing or malformed.
    """
    from tomopolish.dataset.project import open_dataset
    from tomopolish.dataset.species import Project
    from tomopolish.run.inputs import open_inputs

    version = parts.pop("relion_version", None)
    paths: dict[str, Any] = {name: _path(path) for name, path in parts.items() if path is not None}
    if optimisation_set is None and paths.keys() >= SETS and not paths.keys() & HALF_MAPS:
        refuse_version(version)
        return Project.of(open_dataset(**paths, relion_version=version))
    inputs = InputPaths(optimisation_set=_path(optimisation_set), relion_version=version, **paths)
    return Project.of(open_inputs(inputs))


def project_of(project: Any) -> Project:
    """Return an opened project; raises InputError for anything that is none."""
    from tomopolish.dataset.species import Project, Species, join_species

    if isinstance(project, Project):
        return project
    if isinstance(project, str | Path):
        return load(project)
    if not isinstance(project, Mapping):
        raise InputError(f"project={project!r} is not a project: give what load() returns, or a path")
    if not project:
        raise InputError("project: no species was passed; give at least one")
    opened = {str(name): project_of(species).first for name, species in project.items()}
    return join_species([Species(name=n, dataset=dataset, box_px=0) for n, dataset in opened.items()])


def with_boxes(project: Project, box_px: int | Mapping[str, int]) -> Project:
    """Return the project with a box for each species; raises InputError when one is missing."""
    names = [species.name for species in project.species]
    if not isinstance(box_px, Mapping):
        return project.with_boxes([checked("box_px", box_px, "int")] * len(names))
    missing = [name for name in names if name not in box_px]
    if missing:
        raise InputError(f"box_px: no box is given for {missing[0]}; add it, or give one number for all")
    return project.with_boxes([checked("box_px", box_px[name], "int") for name in names])


def single(project: Project, function: str) -> Dataset:
    """Return the data set of the only species; raises InputError where there are several."""
    if not project.is_single:
        raise InputError(f"{function}() takes one species: give the project of one")
    return project.first


def selecting(project: Project, options: Mapping[str, Any]) -> Project:
    """Return the project without the tilt images that options leave out; raises InputError as settings do."""
    try:
        excluded = {
            name: tuple(sorted({operator.index(number) for number in numbers}))
            for name, numbers in dict(options.get("exclude_tilts") or {}).items()
        }
    except (TypeError, ValueError):
        raise InputError(
            "exclude_tilts must be tomogram → numbers of tilt images, as {'TS_01': [1, 2]}"
        ) from None
    angle, dose = (
        checked(name, options.get(name), "float | None") for name in ("max_tilt_angle_degrees", "max_dose")
    )
    selection = TiltSelection(
        excluded=excluded,
        max_tilt_angle_degrees=angle,
        max_dose=dose,
    )
    return project.selecting(selection) if selection else project


def folder_of(project: Project, folder: AnyPath) -> Path:
    """Return an output folder; a relative one begins where the project's paths begin."""
    beginning = project.first.files.working_directory
    return Path(folder) if beginning == Path.cwd() else beginning / folder


def python_call(function: str, *arguments: Any, **keywords: Any) -> Invocation:
    """Return how a function was called, for the note in its output folder: a command that does the same."""
    stated = [_written(value) for value in arguments]
    stated += [f"{name}={_written(value)}" for name, value in keywords.items()]
    return Invocation(command=("python", "-c", f"from tomopolish import *; {function}({', '.join(stated)})"))


def _written(value: Any) -> str:
    """Return the expression of an argument's value."""
    if type(value).__module__ == "numpy":  # which is not imported for this
        value = value.tolist()
    if isinstance(value, str | Path):
        return json.dumps(str(value), ensure_ascii=False)  # a shell's quotes stay readable
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_written(key)}: {_written(item)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple):
        items = ", ".join(map(_written, value))
        return f"[{items}]" if isinstance(value, list) else f"({items}{',' * (len(value) == 1)})"
    species = getattr(value, "species", None)
    if species is not None:
        calls = {one.name: _loaded(one.dataset) for one in species}
        named = ", ".join(f"{_written(name)}: {call}" for name, call in calls.items())
        return next(iter(calls.values())) if len(calls) == 1 else f"{{{named}}}"
    if is_dataclass(value):
        stated = [f"{field.name}={_written(getattr(value, field.name))}" for field in fields(value)]
        return f"{type(value).__name__}({', '.join(stated)})"
    return repr(value)


def _loaded(dataset: Dataset) -> str:
    """Return the call of `load` that opens a data set."""
    arguments = {"half map 1": "half_map1", "half map 2": "half_map2"}
    stated = [] if dataset.files.source is None else [_written(dataset.files.source)]
    stated += [
        f"{arguments.get(part, part)}={_written(file.named)}"
        for part, file in dataset.files.named.items()
        if file.option is not None
    ]
    stated += [] if dataset.relion_version is None else [f"relion_version={dataset.relion_version}"]
    return f"load({', '.join(stated)})"


def _path(path: Any) -> Path | None:
    return None if path is None else Path(path)
