"""Putting a complete set of new files in the place of an earlier one, so that no moment shows a mixture.

The new files lie ready in the program's own folder; a journal says where each belongs. Then the files that
join the others (optimisation sets) and all that is obsolete are removed, the new files are renamed into
their places, those that join them last. Whoever stops that, a later command finishes it from the journal.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
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
"""Size, bytes, and time of change, ns."""


@dataclass(frozen=True, kw_only=True)
class Switch:
    """What the journal holds; all paths are within the folder.

    Attributes
    ----------
    command
        The command whose files they are.
    sources
        Place of each new file → where it lies ready.
    joining
        Those of the places whose files name the others: removed first, put in place last.
    obsolete
        Files that go.
    replaced
        Files at the new ones' places as they were when the switch was decided.
    """

    command: str
    sources: Mapping[str, str]
    joining: tuple[str, ...]
    obsolete: tuple[str, ...]
    replaced: Mapping[str, Stamp]


def carry_out(folder: Path, switch: Switch) -> None:
    """Carry out a switch that is decided; once it has begun, this process or a later one finishes it.

    Raises
    ------
    RunError
        When a folder cannot be written, which changes nothing, or a file cannot be put in its place: then the
        journal stays.
    """
    for parent in dict.fromkeys((folder / name).parent for name in [*switch.sources, *switch.obsolete]):
        _make_folder(parent)
    _write_journal(folder, switch)
    _move_all(folder, switch)


def finish_interrupted(folder: Path, *, overwrite: bool) -> bool:
    """Finish the switch that an earlier process had begun; returns whether there was one.

    Raises
    ------
    InputError
        When somebody has changed a file since that is to be replaced, unless `overwrite`.
    RunError
        When a file cannot be put in its place.
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
    """Name the files that a switch which has not ended has put in place, and that no list names yet."""
    switch = _read_journal(folder)
    if switch is None:
        return set()
    return {name for name, source in switch.sources.items() if not os.path.lexists(folder / source)}


def _move_all(folder: Path, switch: Switch) -> None:
    """Take every step that is not taken yet: each may have been taken before."""
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
    for name in switch.joining if complete else ():  # else somebody has removed what was ready
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
    """Return size and time of change of a file, or of a link itself; None where there is none."""
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
            f"{folder / name}: this file has changed since an interrupted command was about to replace it: "
            "move it away, or give --overwrite"
        )


def _move(source: Path, target: Path) -> None:
    """Rename a file; where a part of the folder lies on another file system, copy it and rename the copy."""
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
        f"{path}: cannot be replaced ({problem.strerror or problem}); the new files lie ready in "
        f"{STATE_FOLDER}/, and the next tomopolish command that writes into this folder puts them in place"
    )


def _make_folder(path: Path) -> None:
    """Make sure that there is a folder in which files can be replaced, before any is."""
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
        with contextlib.suppress(OSError):  # it holds something else
            parent.rmdir()


def _write_journal(folder: Path, switch: Switch) -> None:
    with atomic_write(folder / STATE_FOLDER / JOURNAL_NAME, durable=True) as stream:
        json.dump(
            {
                "command": switch.command,
                "sources": dict(switch.sources),
                "joining": list(switch.joining),
                "obsolete": list(switch.obsolete),
                "replaced": {name: list(stamp) for name, stamp in switch.replaced.items()},
            },
            stream,
        )


def _read_journal(folder: Path) -> Switch | None:
    """Read the journal; None where there is none, or where it is damaged or leads out of the folder."""
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
