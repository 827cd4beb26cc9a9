"""Replacement of an earlier set of files by a complete new set, without a mixture at any moment.

The new files are ready in the program's own folder; a journal lists their places. Then the files that
join the others (optimisation sets) and obsolete files are removed, and the new files are renamed into
their places, those that join them last. If that is interrupted, a later command finishes it from the journal.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tomopolish.dataset.files import atomic_write, sync
from tomopolish.dataset.opening import read_json
from tomopolish.errors import InputError, RunError
from tomopolish.run.folder.written import (
    STATE_FOLDER,
    is_inside,
    read_written,
    write_written,
    written_file,
)

JOURNAL_NAME = "switch.json"

Stamp = tuple[int, int]
"""Size in bytes, and modification time in ns."""


@dataclass(frozen=True, kw_only=True)
class Switch:
    """Content of the journal; all paths are within the folder.

    Attributes
    ----------
    command
        The command that wrote the files.
    sources
        Final place of each new file → its present place.
    joining
        Places of the files that name others: removed first, put in place last.
    obsolete
        Files that are removed.
    replaced
        Earlier files at the places of new ones, as they were when the journal was written.
    """

    command: str
    sources: Mapping[str, str]
    joining: tuple[str, ...]
    obsolete: tuple[str, ...]
    replaced: Mapping[str, Stamp]


def carry_out(folder: Path, switch: Switch) -> None:
    """Carry out a switch; once it has begun, this process or a later one finishes it.

    Raises RunError when a folder cannot be written, which changes nothing, or a file cannot be put in place:
    then the journal stays.
    """
    for parent in dict.fromkeys((folder / name).parent for name in [*switch.sources, *switch.obsolete]):
        _make_folder(parent)
    _write_journal(folder, switch)
    _move_all(folder, switch)


def finish_interrupted(folder: Path, *, overwrite: bool) -> bool:
    """Finish the switch that an earlier process has begun; returns whether there was one.

    Raises InputError when a file that must be replaced has been changed since, unless `overwrite`, and
    RunError when a file cannot be put in place.
    """
    switch = _read_journal(folder)
    if switch is None:
        _remove(folder / STATE_FOLDER / JOURNAL_NAME)
        return False
    if not overwrite:
        _check_unchanged(folder, switch)
    _move_all(folder, switch)
    return True


def moved_by_interrupted(folder: Path) -> set[str]:
    """Return the names of files that an unfinished switch has put in place and that are not yet listed."""
    switch = _read_journal(folder)
    if switch is None:
        return set()
    return {name for name, source in switch.sources.items() if not os.path.lexists(folder / source)}


def _move_all(folder: Path, switch: Switch) -> None:
    """Take every step of the switch that has not been taken before."""
    pending = {name for name, source in switch.sources.items() if os.path.lexists(folder / source)}
    for name in switch.joining:
        if name in pending:
            _remove(folder / name)
    for name in switch.obsolete:
        _remove(folder / name)
        _remove_empty_parents(folder, name)
    others = [name for name in switch.sources if name not in switch.joining]
    for name in others:
        if name in pending:
            _move(folder / switch.sources[name], folder / name)
    complete = all(os.path.lexists(folder / name) for name in others)
    for name in switch.joining if complete else ():  # else a new file has been removed meanwhile
        if name in pending:
            _move(folder / switch.sources[name], folder / name)
    for parent in {(folder / name).parent for name in switch.sources}:
        sync(parent)
    _list_written(folder, switch)
    _remove(folder / STATE_FOLDER / JOURNAL_NAME)


def _list_written(folder: Path, switch: Switch) -> None:
    earlier = read_written(folder)
    files = {name: file for name, file in earlier.files.items() if name not in switch.obsolete}
    for name in switch.sources:
        with contextlib.suppress(FileNotFoundError):
            files[name] = written_file(folder / name, switch.command)
    write_written(folder, replace(earlier, files=files))


def stamp_of(path: Path) -> Stamp | None:
    """Return size and modification time of a file, or of a link itself; None where there is none."""
    try:
        state = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return state.st_size, state.st_mtime_ns


def _check_unchanged(folder: Path, switch: Switch) -> None:
    for name, source in switch.sources.items():
        here, ready = stamp_of(folder / name), stamp_of(folder / source)
        if here is None or ready is None or here in (ready, switch.replaced.get(name)):
            continue
        raise InputError(
            f"{folder / name}: this file has changed since a command that was to replace it was interrupted: "
            "move it away, or give --overwrite"
        )


def _move(source: Path, target: Path) -> None:
    """Rename a file; if a part of the folder is on another file system, copy it and rename the copy."""
    try:
        try:
            source.replace(target)
        except OSError as problem:
            if problem.errno != errno.EXDEV:
                raise
            copied = target.parent / f".{target.name[:60]}.{uuid.uuid4().hex}.part"
            try:
                shutil.copy2(source, copied)
                sync(copied)
                copied.replace(target)
            finally:
                copied.unlink(missing_ok=True)
            source.unlink()
    except OSError as problem:
        raise _unfinished(target, problem) from problem


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except NotADirectoryError:
        return
    except OSError as problem:
        raise _unfinished(path, problem) from problem


def _unfinished(path: Path, problem: OSError) -> RunError:
    return RunError(
        f"{path}: cannot be replaced ({problem.strerror or problem}); the new files are complete in "
        f"{STATE_FOLDER}/, and the next tomopolish command that writes into this folder puts them in place"
    )


def _make_folder(path: Path) -> None:
    """Create a folder if needed, and check that files can be replaced in it, before any is replaced."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        reason = problem.strerror or problem
        raise RunError(f"{path}: cannot be created ({reason}); check the folder, and run again") from problem
    if not os.access(path, os.W_OK | os.X_OK):
        raise RunError(
            f"{path}: files cannot be replaced there (permission denied); change that, and run again"
        )


def _remove_empty_parents(folder: Path, name: str) -> None:
    parent = (folder / name).parent
    if parent != folder:
        with contextlib.suppress(OSError):  # it contains other files
            parent.rmdir()


def _write_journal(folder: Path, switch: Switch) -> None:
    with atomic_write(folder / STATE_FOLDER / JOURNAL_NAME, durable=True) as stream:
        json.dump(asdict(switch), stream)


def _read_journal(folder: Path) -> Switch | None:
    """Return the journal; None where there is none, or where it is damaged or leads out of the folder."""
    try:
        content = read_json(folder / STATE_FOLDER / JOURNAL_NAME)
        switch = Switch(
            command=str(content["command"]),
            sources={str(name): str(source) for name, source in content["sources"].items()},
            joining=tuple(map(str, content["joining"])),
            obsolete=tuple(map(str, content["obsolete"])),
            replaced={
                str(name): (int(size), int(time)) for name, (size, time) in content["replaced"].items()
            },
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None
    inside = folder.resolve()
    names = [*switch.sources, *switch.sources.values(), *switch.joining, *switch.obsolete]
    parents = {(folder / source).parent for source in switch.sources.values()}
    safe = all(map(is_inside, names)) and all(p.resolve().is_relative_to(inside) for p in parents)
    return switch if safe else None
