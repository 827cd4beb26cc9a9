"""What a stored result depends on, in words: options and files, so that a run can say why it refines again.

Whether a result is valid is decided by digests (`fingerprint`); this only names what differs.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tomopolish.dataset.files import shown_path
from tomopolish.dataset.images import MrcImages
from tomopolish.dataset.model import Tomogram
from tomopolish.dataset.species import Project
from tomopolish.errors import InputError
from tomopolish.plain_text import listed
from tomopolish.run.fingerprint import (
    IMAGES,
    OPTIONS,
    PARTICLES,
    REFERENCES,
    SERIES,
    VERSION,
    Fingerprint,
)
from tomopolish.settings.alignment import AlignSettings
from tomopolish.settings.wording import OFF, options_that_set

Basis = Mapping[str, Mapping[str, str]]
"""Part of a fingerprint → option or file → its value, or its size and time of change."""

MOST_NAMED = 4
"""Maximum number of options and files that are named."""

_GROUPS = ("windows", "weights", "fit", "joint")
_MODELS = ("motion", "deformation")
AUTO = "auto"
"""Field of a model's settings that is a value of the model's option, and no option itself."""
_MAPS = ("half map 1", "half map 2", "mask", "fsc")


def basis_of(project: Project, settings: AlignSettings, tomogram: Tomogram) -> dict[str, dict[str, str]]:
    """Return the options and files that one tomogram's result depends on."""
    first, paths = project.first, [species.dataset.files.paths for species in project.species]
    folder, series = first.files.working_directory, [first.files.paths["tomograms"]]
    with contextlib.suppress(InputError):  # a table without a file for each tilt series
        series.append(first.tomograms.series_file(tomogram.series.name))
    images = tomogram.series.images
    stacks = list(images.files) if isinstance(images, MrcImages) else []
    files = {
        REFERENCES: [p[part] for p in paths for part in _MAPS if part in p],
        SERIES: series,
        IMAGES: stacks,
        PARTICLES: [p[part] for p in paths for part in ("particles", "trajectories") if part in p],
    }
    return {
        OPTIONS: options_of(settings),
        **{part: file_states(found, folder) for part, found in files.items()},
    }


def options_of(settings: AlignSettings) -> dict[str, str]:
    """Return the options that change a result, with their values as a command line has them."""
    values: dict[str, str] = {}
    for group in _GROUPS:
        values |= shown_options(getattr(settings, group))
    for model in _MODELS:
        chosen = getattr(settings, model)
        values[f"--{model}"] = "off" if chosen is None else "auto" if getattr(chosen, AUTO, False) else "on"
        values |= {} if chosen is None else shown_options(chosen)
    return values


def shown_options(group: Any, without: Sequence[str] = (AUTO,)) -> dict[str, str]:
    """Return the fields of a group of settings, without some, as options with their values."""
    shown = {}
    for field in dataclasses.fields(group):
        if field.name in without:
            continue
        value = getattr(group, field.name)
        items = enumerate(value) if isinstance(value, tuple) else [(None, value)]
        for place, item in items:
            argument = field.name if place is None else f"{field.name}[{place}]"
            option, of_flag = next(iter(options_that_set(argument)), (argument, ""))
            shown[f"--{option}"] = _value(option, item, of_flag)
    return shown


def _value(option: str, value: Any, of_flag: str) -> str:
    if isinstance(value, bool):
        return "on" if str(value) == (of_flag or "True") else "off"
    if value is None:
        return OFF.get(option, "none")
    return f"{value:g}" if isinstance(value, float) else str(value)


def file_states(paths: Iterable[Path], working_directory: Path) -> dict[str, str]:
    """Return size and time of change of those files that exist, by the paths that messages show."""
    states = {}
    for path in paths:
        with contextlib.suppress(OSError, ValueError):
            state = path.stat()
            states[shown_path(path, working_directory)] = f"{state.st_size} {state.st_mtime_ns}"
    return states


def changes_in_words(
    changed: Sequence[str], old: Fingerprint, before: Basis, new: Fingerprint, now: Basis
) -> str:
    """Return a clause on the parts that changed, with the options or files that did, where they are known.

    The fingerprint of the stored result is `old` and stands for `before`, that of this run is `new` and
    stands for `now`.
    """
    details = [
        f"{old[part]} → {new[part]}" for part in changed if part == VERSION and part in old and part in new
    ]
    for part in changed:
        details += _details(before.get(part, {}), now.get(part, {}), with_values=part == OPTIONS)
    more = f", {len(details) - MOST_NAMED} more" if len(details) > MOST_NAMED else ""
    shown = f" ({', '.join(details[:MOST_NAMED])}{more})" if details else ""
    return f"its {listed(changed)} changed{shown}"


def _details(before: Mapping[str, str], now: Mapping[str, str], *, with_values: bool) -> list[str]:
    if not before:
        return []
    names = [name for name in dict.fromkeys([*now, *before]) if before.get(name) != now.get(name)]
    if not with_values:
        return names
    return [f"{name} {before.get(name, 'off')} → {now.get(name, 'off')}" for name in names]
