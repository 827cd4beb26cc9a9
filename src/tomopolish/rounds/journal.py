"""The journal of a polishing run: finished rounds, and what each depends on, so that a run can be resumed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tomopolish.dataset.files import atomic_write
from tomopolish.dataset.opening import read_json
from tomopolish.dataset.species import Project
from tomopolish.results.rounds import Round, RoundEvidence, SpeciesRound
from tomopolish.run.fingerprint import digest
from tomopolish.run.folder.written import STATE_FOLDER
from tomopolish.run.outputs import inputs_of
from tomopolish.settings.polish import PolishSettings
from tomopolish.version import program_version

JOURNAL_NAME = "rounds.json"


@dataclass(frozen=True, kw_only=True)
class Journal:
    """The journal in a run's folder."""

    folder: Path

    @property
    def _path(self) -> Path:
        return self.folder / STATE_FOLDER / JOURNAL_NAME

    def read(self, key: str) -> list[Round]:
        """Return the finished rounds of a run with that key; none where it is another, or damaged."""
        try:
            content = read_json(self._path)
            if content["key"] != key:
                return []
            return [_decoded(each) for each in content["rounds"]]
        except (OSError, ValueError, TypeError, KeyError):
            return []

    def exists(self) -> bool:
        """Return whether an earlier run has left a journal."""
        return self._path.exists()

    def write(self, key: str, rounds: list[Round]) -> None:
        """Replace the journal atomically; raises RunError when that fails."""
        with atomic_write(self._path) as stream:
            json.dump({"key": key, "rounds": [asdict(each) for each in rounds]}, stream)


def run_key(project: Project, settings: PolishSettings) -> str:
    """Return the digest of all that the rounds depend on: program, options and input files.

    Files are compared by path, size and modification time; the largest number of rounds may change.
    """
    align = {
        field.name: getattr(settings.align, field.name)
        for field in fields(settings.align)
        if field.name not in ("run", "inputs")
    }
    own = {
        field.name: getattr(settings, field.name)
        for field in fields(settings)
        if field.name not in ("align", "max_rounds")
    }
    species = [
        (each.name, each.box_px, each.symmetry, each.dataset.relion_version, each.dataset.selection)
        for each in project.species
    ]
    listed = inputs_of(project)
    files = sorted({*listed.sets(), *listed.images()})
    return digest([program_version(), align, own, species, [_identity(path) for path in files]])


def _identity(path: Path) -> list[Any]:
    try:
        state = path.stat()
    except OSError:
        return [str(path)]
    return [str(path.resolve()), state.st_size, state.st_mtime_ns]


def _decoded(content: Mapping[str, Any]) -> Round:
    pairs = {name: tuple(map(tuple, content[name])) for name in ("groups", "failures")}
    evidence = content["evidence"]
    known = None if evidence is None else RoundEvidence(**evidence)
    species = tuple(
        SpeciesRound(**{**each, **{name: tuple(each[name]) for name in ("fsc", "resolution_angstrom")}})
        for each in content["species"]
    )
    return Round(**{**content, **pairs, "species": species, "evidence": known})
