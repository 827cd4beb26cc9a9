"""The journal of a polishing run: finished rounds, and what each depends on, so that a run can be resumed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tomopolish.dataset.files import atomic_write
from tomopolish.dataset.opening import read_json
from tomopolish.dataset.species import Project
from tomopolish.errors import RunError
from tomopolish.results.rounds import Round, RoundEvidence, SpeciesRound
from tomopolish.run.basis import Basis, changes_in_words, file_states, options_of, shown_options
from tomopolish.run.fingerprint import OPTIONS, VERSION, Fingerprint, differences, digest
from tomopolish.run.folder.written import STATE_FOLDER
from tomopolish.run.outputs import inputs_of
from tomopolish.run.rounds_folder import JOURNAL_NAME
from tomopolish.settings.polish import PolishSettings
from tomopolish.version import program_version

FILES = "input files"
"""Part of the fingerprint of a run, beside version and options."""

_NOT_OWN = ("align", "max_rounds")
"""Fields of the settings that are no options of the rounds alone, or change none of them."""


@dataclass(frozen=True, kw_only=True)
class RunBasis:
    """All that the rounds of a run depend on: digests, which decide, and what they stand for in words."""

    fingerprint: Fingerprint
    basis: Basis


@dataclass(frozen=True, kw_only=True)
class Journal:
    """The journal in a run's folder."""

    folder: Path

    @property
    def path(self) -> Path:
        """The journal's file."""
        return self.folder / STATE_FOLDER / JOURNAL_NAME

    def exists(self) -> bool:
        """Return whether an earlier run has left a journal."""
        return self.path.exists()

    def changes(self, basis: RunBasis) -> str:
        """Return a clause on why the rounds in the journal are not those of a run; "" where they are."""
        content = self._read()
        if content is None:
            return f"its record {self.path} is damaged, or of another version of the program"
        earlier, _ = content
        changed = differences(earlier.fingerprint, basis.fingerprint)
        if not changed:
            return ""
        return changes_in_words(changed, earlier.fingerprint, earlier.basis, basis.fingerprint, basis.basis)

    def rounds(self, basis: RunBasis) -> list[Round]:
        """Return the finished rounds of a run; none where the journal is that of another, or damaged."""
        content = self._read()
        return [] if content is None or self.changes(basis) else content[1]

    def write(self, basis: RunBasis, rounds: Sequence[Round]) -> None:
        """Replace the journal atomically; raises RunError when that fails."""
        with atomic_write(self.path) as stream:
            json.dump({**asdict(basis), "rounds": [asdict(each) for each in rounds]}, stream)

    def remove(self) -> None:
        """Remove the journal; raises RunError when that fails."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as problem:
            raise RunError(f"{self.path}: cannot be removed ({problem.strerror or problem})") from problem

    def _read(self) -> tuple[RunBasis, list[Round]] | None:
        try:
            content = read_json(self.path)
            basis = RunBasis(
                fingerprint={str(part): str(value) for part, value in content["fingerprint"].items()},
                basis={str(part): dict(values) for part, values in content["basis"].items()},
            )
            return basis, [_decoded(each) for each in content["rounds"]]
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None


def run_basis(project: Project, settings: PolishSettings) -> RunBasis:
    """Return all that the rounds depend on: program, options and input files.

    Files are compared by path, size and modification time; the largest number of rounds may change.
    """
    align = {
        field.name: getattr(settings.align, field.name)
        for field in fields(settings.align)
        if field.name not in ("run", "inputs")
    }
    own = {
        field.name: getattr(settings, field.name) for field in fields(settings) if field.name not in _NOT_OWN
    }
    species = [
        (each.name, each.box_px, each.symmetry, each.dataset.relion_version, each.dataset.selection)
        for each in project.species
    ]
    inputs = inputs_of(project)
    files = sorted({*inputs.sets(), *inputs.images()})
    options = options_of(settings.align) | shown_options(settings, _NOT_OWN) | _species_options(project)
    return RunBasis(
        fingerprint={
            VERSION: program_version(),
            OPTIONS: digest([align, own, species]),
            FILES: digest([_identity(path) for path in files]),
        },
        basis={OPTIONS: options, FILES: file_states(files, project.first.files.working_directory)},
    )


def _species_options(project: Project) -> dict[str, str]:
    """Return the options that belong to the species, those of several with their names."""
    first = project.first
    left_out = [f"{name}:{','.join(map(str, each))}" for name, each in first.selection.excluded.items()]
    options = {
        "--relion_version": str(first.relion_version or "auto"),
        "--exclude_tilts": " ".join(left_out) or "none",
        **shown_options(first.selection, ("excluded",)),
    }
    for each in () if project.is_single else project.species:
        options[f"box of {each.name}"] = str(each.box_px)
        options[f"point group of {each.name}"] = each.symmetry or "--sym"
    return options


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
