"""Files: finding those that a STAR file names, and writing without incomplete files."""

from __future__ import annotations

import contextlib
import difflib
import errno
import hashlib
import itertools
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from tomopolish.errors import RunError

_LEFTOVER = re.compile(r"\..*\.[0-9a-f]{32}\.part", re.DOTALL)
"""Pattern of temporary names from `atomic_path`."""

_MOST_NAMES = 2000
"""Maximum number of names in a folder that are compared with a missing name."""


def resolve_path(named: str, star_file: Path, working_directory: Path) -> Path:
    """Return the path of a file that a STAR file names.

    Relative names are resolved in the working directory (RELION's project directory) or, when there is no
    such file, in the STAR file's own folder; then again with slashes for backslashes, which programs for
    Windows write. If none of these files exists, the first path is returned.
    """
    first = working_directory / named
    for path in dict.fromkeys((Path(named), Path(named.replace("\\", "/")))):
        for place in (working_directory / path, working_directory / star_file.parent / path):
            if exists(place):
                return place
    return first


def exists(path: Path) -> bool:
    """Return whether a file or folder of any kind has that name."""
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long, or with a NUL
        return False


def searched_folders(named: str, star_file: Path | None, working_directory: Path) -> tuple[Path, ...]:
    """Return the folders in which `resolve_path` looks for a name; none for an absolute name.

    Without a STAR file, the name is from an option.
    """
    if Path(named).is_absolute():
        return ()
    if star_file is None:
        return (working_directory,)
    return tuple(dict.fromkeys((working_directory, working_directory / star_file.parent)))


def not_found(named: str, folders: Sequence[Path]) -> str:
    """Return a sentence on a missing file: where it was looked for, and a similar name in these folders."""
    where = f" (looked for in {' and in '.join(map(str, folders))})" if folders else ""
    alike = _nearest_name(named, folders)
    guess = f" (did you mean {alike}?)" if alike else ""
    remedy = f"correct the name{guess}, or start in RELION's project folder"
    return f"{named}: file not found{where}; {remedy}"


def _nearest_name(named: str, folders: Sequence[Path]) -> str | None:
    """Return a file whose name is similar to that of a missing file; None where there is none."""
    for folder in folders or (Path(),):
        wanted = folder / named
        try:
            names = [entry.name for entry in itertools.islice(wanted.parent.iterdir(), _MOST_NAMES)]
        except (OSError, ValueError):
            continue
        # A name with other digits would be that of another tomogram.
        names = [name for name in names if _digits(name) == _digits(wanted.name)]
        found = difflib.get_close_matches(wanted.name, names, n=1, cutoff=0.75)
        if found:
            return str(Path(named).with_name(found[0]))
    return None


def rebased(named: str, star_file: Path, working_directory: Path) -> str:
    """Return a file's name such that it is found from the working directory, whichever folder names it.

    A name that already works from there is returned unchanged.
    """
    found = resolve_path(named, star_file, working_directory)
    if found == working_directory / named:
        return named
    return shown_path(found, working_directory)


def shown_path(path: Path, working_directory: Path) -> str:
    """Return a path for files and messages: relative to the working directory if it is inside."""
    try:
        return str(path.relative_to(working_directory)) if path.is_absolute() else str(path)
    except ValueError:
        return str(path)


def _digits(name: str) -> str:
    return "".join(filter(str.isdigit, name))


@contextlib.contextmanager
def atomic_path(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield the path of a temporary file that replaces `path` if the block ends without an error.

    With `durable` its bytes are on the disk before, so that a machine that stops leaves the old file or the
    new one. Raises RunError when the folder or the file cannot be written.
    """
    temporary = path.parent / f".{path.name[:60]}.{uuid.uuid4().hex}.part"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.open("x").close()
        yield temporary
        if durable:
            sync(temporary)
        temporary.replace(path)
    except OSError as problem:
        raise RunError(
            f"{path}: cannot be written ({problem.strerror or problem}); check the folder and the free space"
        ) from problem
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's entries, are on the disk; raises OSError when that fails."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as problem:
        if problem.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems cannot, mostly for folders
            raise
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Remove incomplete files of killed processes from a folder."""
    for path in folder.glob(".*.part"):
        if _LEFTOVER.fullmatch(path.name):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_write(path: Path, *, durable: bool = False) -> Iterator[TextIO]:
    """Open a text file for writing, which replaces the old file when complete (see `atomic_path`)."""
    with (
        atomic_path(path, durable=durable) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="\n") as handle,
    ):
        yield handle


def safe_file_name(name: str) -> str:
    """Return a name from a STAR file as a file name that stays inside its folder, on any file system."""
    kept = "".join(c if c.isalnum() or c in "._-+=@" else "_" for c in name).lstrip(".")
    while len(kept.encode("utf-8", "surrogateescape")) > 150:
        kept = kept[:-1]
    return kept or "unnamed"


def file_name_of(name: str) -> str:
    """Return a name from a STAR file as a file name; unsafe names are distinguished by a digest."""
    safe = safe_file_name(name)
    if safe == name:
        return name
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()
    return f"{safe}-{digest}"


def unique_file_names(names: Iterable[str]) -> dict[str, str]:
    """Return safe file names, distinct even where names differ only in case or in unsafe characters."""
    taken: set[str] = set()
    file_names = {}
    for name in names:
        stem = wanted = safe_file_name(name)
        number = 2
        while stem.casefold() in taken:
            stem = f"{wanted}_{number}"
            number += 1
        taken.add(stem.casefold())
        file_names[name] = stem
    return file_names
