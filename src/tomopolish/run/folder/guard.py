"""Files that a command may replace: its own; others only with --overwrite; inputs never."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tomopolish.dataset.files import shown_path
from tomopolish.dataset.project import Dataset
from tomopolish.errors import InputError
from tomopolish.run.folder.lock import is_own
from tomopolish.run.folder.switch import moved_by_interrupted
from tomopolish.run.folder.written import STATE_FOLDER, WrittenFiles, read_written

_Identity = tuple[int, int]
"""Device and number of a file."""


def _none() -> tuple[Path, ...]:
    return ()


@dataclass(frozen=True, eq=False)
class Inputs:
    """Files that a command reads; they are listed only when a file would be replaced.

    Attributes
    ----------
    sets
        Returns the sets, tables and maps.
    images
        Returns the tilt images; called only before a file that this program did not write is replaced.
    """

    sets: Callable[[], Iterable[Path]] = _none
    images: Callable[[], Iterable[Path]] = _none

    @cached_property
    def _sets(self) -> dict[_Identity, Path]:
        return _identities(self.sets())

    @cached_property
    def _images(self) -> dict[_Identity, Path]:
        return _identities(self.images())

    def found_at(self, path: Path, *, also_images: bool) -> Path | None:
        """Return the input that a path leads to, by any name or link; None where it leads to none."""
        identity = _identity(path)
        if identity is None:
            return None
        return self._sets.get(identity) or (self._images.get(identity) if also_images else None)


@dataclass(frozen=True, kw_only=True, eq=False)
class Guard:
    """Decides which files a command may replace in a folder.

    Attributes
    ----------
    folder, shown
        The folder, and its name in messages, such as ``--o out``.
    command
        Name of the command, which may replace its own files.
    inputs
        Input files of the command.
    overwrite
        Whether other files may also be replaced.
    """

    folder: Path
    shown: str
    command: str
    inputs: Inputs = field(default_factory=Inputs)
    overwrite: bool = False

    @classmethod
    def of(cls, dataset: Dataset, folder: Path, command: str, *, overwrite: bool) -> Guard:
        """Return the guard of a command's output folder (`--o`), which may begin in the project's folder."""
        return cls(
            folder=dataset.files.working_directory / folder,
            shown=f"--o {folder}",
            command=command,
            inputs=Inputs(sets=dataset.input_files, images=dataset.image_files),
            overwrite=overwrite,
        )

    @property
    def place(self) -> str:
        """Name of the folder in messages, without the option."""
        return self.shown.removeprefix("--o ")

    def check(self, names: Iterable[str]) -> None:
        """Raise an error if writing these names would replace files that must not be; changes nothing.

        Raises InputError, which names the first such file.
        """
        written, moved = read_written(self.folder), moved_by_interrupted(self.folder)
        for name in names:
            path = self.folder / name
            try:
                state = path.lstat()
            except FileNotFoundError:
                continue
            except NotADirectoryError:
                raise InputError(
                    f"{self.shown}: {name} cannot be written, as a part of that path is a file: move it away"
                ) from None
            self._check_existing(name, path, state, None if name in moved else written)

    def check_place(self) -> None:
        """Refuse a folder that is part of another command's output, unless that command runs in this process.

        Raises InputError.
        """
        folder = self.folder.absolute()
        for parent in () if self.overwrite else folder.parents:
            name = folder.relative_to(parent).parts[0]
            command = read_written(parent).folders.get(name)
            if command is not None and not is_own(parent / STATE_FOLDER):
                raise InputError(
                    f"{self.shown} belongs to the output of 'tomopolish {command}' in "
                    f"{shown_path(parent, Path.cwd())}: give another folder, or --overwrite"
                )

    def _check_existing(
        self, name: str, path: Path, state: os.stat_result, written: WrittenFiles | None
    ) -> None:
        """Check an existing file; `written` is None for a file that was put in place but not yet listed."""
        if stat.S_ISDIR(state.st_mode):
            raise InputError(f"{self.shown}: {name} is a folder, but must be a file: move it away")
        earlier = None if written is None else written.files.get(name)
        own = earlier is not None and earlier.command == self.command and earlier.is_unchanged(path)
        own = own or written is None
        replaced = self.inputs.found_at(path, also_images=not own)
        if replaced is not None:
            named = shown_path(replaced, Path.cwd())
            raise InputError(f"{self.shown} would replace the input {named}: give another folder")
        if own or self.overwrite:
            return
        if earlier is None:
            reason = "which this program did not write there"
        elif earlier.command != self.command:
            reason = f"which 'tomopolish {earlier.command}' wrote"
        else:
            reason = f"which has changed since 'tomopolish {self.command}' wrote it"
        raise InputError(f"{self.shown} would replace {name}, {reason}: give another folder, or --overwrite")

    def own_files(self) -> list[str]:
        """Return the names of unchanged files of earlier runs of this command that are not inputs."""
        return [
            name
            for name, file in read_written(self.folder).files.items()
            if file.command == self.command
            and file.is_unchanged(self.folder / name)
            and self.inputs.found_at(self.folder / name, also_images=False) is None
        ]


def _identities(paths: Iterable[Path]) -> dict[_Identity, Path]:
    found: dict[_Identity, Path] = {}
    for path in paths:
        identity = _identity(path)
        if identity is not None:
            found.setdefault(identity, path)
    return found


def _identity(path: Path) -> _Identity | None:
    try:
        state = path.stat()
    except (OSError, ValueError):
        return None
    return state.st_dev, state.st_ino
