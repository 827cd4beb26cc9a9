"""Runs over some tomograms (`--only`), such as the tasks of a job array, and their results in a later run.

Each has a folder of its own within the output folder, so that many can run at the same time; a run over all
tomograms takes over the results that are still valid.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from tomopolish.dataset.files import file_name_of
from tomopolish.dataset.species import Project
from tomopolish.errors import InputError
from tomopolish.run.store import FOLDER_NAME, DamagedResultError, ResultsStore, StoredResult
from tomopolish.settings.alignment import AlignSettings

PARTS_FOLDER = "only"
"""Folder of these runs, in the output folder."""


def part_of(project: Project, settings: AlignSettings) -> tuple[Project, AlignSettings]:
    """Return the project of the chosen tomograms, and settings with the folder of their run.

    Raises InputError for a tomogram that the project does not have.
    """
    names = tuple(dict.fromkeys(settings.run.only))
    for name in names:
        if name not in project.tomogram_names:
            nearest = get_close_matches(name, project.tomogram_names, n=1)
            guess = f"; did you mean {nearest[0]}?" if nearest else "; tomograms.star lists them"
            raise InputError(f"--only {name}: the project has no tomogram of that name with particles{guess}")
    folder = settings.run.output_folder / PARTS_FOLDER / _folder_name(names)
    run = replace(settings.run, output_folder=folder)
    return project.restricted_to(names), replace(settings, run=run)


def _folder_name(names: Sequence[str]) -> str:
    first = file_name_of(names[0])
    if len(names) == 1:
        return first
    text = "\n".join(names).encode("utf-8", "surrogateescape")
    return f"{first}-and-{len(names) - 1}-{hashlib.blake2b(text, digest_size=4).hexdigest()}"


def results_of_parts(store: ResultsStore, name: str) -> Iterator[tuple[Path, StoredResult]]:
    """Yield the files and results of a tomogram that runs over some tomograms have stored."""
    for folder in sorted((store.folder.parent / PARTS_FOLDER).glob(f"*/{FOLDER_NAME}")):
        part = ResultsStore(folder=folder)
        try:
            stored = part.read(name)
        except DamagedResultError:
            continue
        if stored is not None:
            yield part.path(name), stored
