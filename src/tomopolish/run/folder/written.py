"""The list of files that this program wrote into a folder, by which later commands recognise them."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tomopolish.dataset.files import atomic_write
from tomopolish.dataset.opening import read_json

STATE_FOLDER = ".tomopolish"
"""Name of the program's own folder within an output folder."""

LIST_NAME = "written.json"

DIGESTED_BYTES = 64 * 2**20
"""Larger files are recognised by size and modification time alone."""


@dataclass(frozen=True, kw_only=True)
class WrittenFile:
    """A file as a command wrote it: size, modification time (ns), digest of its bytes ("" if it is large)."""

    command: str
    size_bytes: int
    modified_ns: int
    digest: str

    def is_unchanged(self, path: Path) -> bool:
        """Return whether a file is unchanged; a copy of the folder may have other modification times."""
        try:
            state = path.lstat()
            if not stat.S_ISREG(state.st_mode) or state.st_size != self.size_bytes:
                return False
            if state.st_mtime_ns == self.modified_ns:
                return True
            return self.digest != "" and digest_of(path, state.st_size) == self.digest
        except OSError:
            return False


@dataclass(frozen=True, kw_only=True)
class WrittenFiles:
    """Files and folders that commands are known to have written.

    Attributes
    ----------
    files
        Path within the folder → the file as it was written.
    folders
        Folders within it that belong to a command, with all of their contents: name → command.
    """

    files: Mapping[str, WrittenFile] = field(default_factory=dict)
    folders: Mapping[str, str] = field(default_factory=dict)


def written_file(path: Path, command: str) -> WrittenFile:
    """Return the record of a file that a command has just written; raises OSError when it cannot be read."""
    state = path.stat()
    return WrittenFile(
        command=command,
        size_bytes=state.st_size,
        modified_ns=state.st_mtime_ns,
        digest=digest_of(path, state.st_size),
    )


def digest_of(path: Path, size_bytes: int) -> str:
    """Return the digest of a file's bytes; "" if it is too large. Raises OSError when it cannot be read."""
    if size_bytes > DIGESTED_BYTES:
        return ""
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def read_written(folder: Path) -> WrittenFiles:
    """Return a folder's list; empty where there is none, or it is damaged: then no file counts as written."""
    try:
        content = read_json(folder / STATE_FOLDER / LIST_NAME)
        return WrittenFiles(
            files={
                str(name): WrittenFile(
                    command=str(command), size_bytes=int(size), modified_ns=int(time), digest=str(digest)
                )
                for name, (command, size, time, digest) in content["files"].items()
                if is_inside(name)
            },
            folders={str(name): str(command) for name, command in content["folders"].items()},
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return WrittenFiles()


def write_written(folder: Path, written: WrittenFiles) -> None:
    """Write a folder's list atomically; raises RunError when that fails."""
    files = {
        name: [file.command, file.size_bytes, file.modified_ns, file.digest]
        for name, file in sorted(written.files.items())
    }
    with atomic_write(folder / STATE_FOLDER / LIST_NAME) as stream:
        json.dump({"files": files, "folders": dict(written.folders)}, stream, indent=0)


def is_inside(name: str) -> bool:
    """Return whether a name from a list stays inside the folder: a list may have been edited."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts
