"""The output folder of a command: owned while it runs, guarded, and changed all at once at the end."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

from tomopolish.dataset.files import remove_leftovers, sync
from tomopolish.errors import InputError
from tomopolish.run.folder.guard import Guard
from tomopolish.run.folder.lock import refuse_if_owned, sole_owner
from tomopolish.run.folder.switch import JOURNAL_NAME, Switch, carry_out, finish_interrupted, stamp_of
from tomopolish.run.folder.written import STATE_FOLDER, WrittenFiles, read_written, write_written
from tomopolish.run.journal.recording import current
from tomopolish.run.signals import deferred_signals, say_at_the_end

READY_FOLDER = "new"
"""Folder of new files until all are complete, in the program's own folder."""


@dataclass(kw_only=True, eq=False)
class OutputFolder:
    """A folder that this process owns; see `own_folder`.

    Attributes
    ----------
    guard
        The rule which files may be replaced there.
    standing
        Returns a sentence on the folder's contents, for a process that is asked to end.
    was_completed
        Whether complete files of an interrupted command were put in place first.
    put_in_place
        Names of the files that this process has put in place.
    """

    guard: Guard
    standing: Callable[[], str] = field(init=False)
    was_completed: bool = field(default=False, init=False)
    put_in_place: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self.standing = self._standing

    def _standing(self) -> str:
        place = self.guard.place
        return f"its files are in {place}" if self.put_in_place else f"nothing has been changed in {place}"

    @property
    def folder(self) -> Path:
        """Absolute path of the folder."""
        return self.guard.folder.absolute()

    @property
    def written(self) -> WrittenFiles:
        """Files that this program is known to have written here."""
        return read_written(self.folder)

    def free_name(self, names: Sequence[str]) -> str:
        """Return the first name under which there is no file or a file of this command; else the last name.

        Other files keep their names even where they may be replaced.
        """
        guard = replace(self.guard, overwrite=False)
        for name in names[:-1]:
            with contextlib.suppress(InputError):
                guard.check([name])
                return name
        return names[-1]

    def claim(self, name: str, files: Iterable[str]) -> None:
        """Reserve a folder within this one for `files`, which the command writes while it runs.

        Raises InputError when it contains such files that this program did not write.
        """
        written = self.written
        if written.folders.get(name) != self.guard.command:
            self.guard.check(f"{name}/{file}" for file in files)
            write_written(
                self.folder, replace(written, folders={**written.folders, name: self.guard.command})
            )
        remove_leftovers(self.folder / name)

    @contextlib.contextmanager
    def new_files(
        self,
        *,
        joining: Sequence[str] = (),
        obsolete: Callable[[str], bool] | None = None,
        ready: Mapping[str, str] | None = None,
    ) -> Iterator[Path]:
        """Yield a folder for new files, laid out like this one; at the end of the block all are put in place.

        If the block fails, nothing is changed here.

        Parameters
        ----------
        joining
            Those files that name others, as an optimisation set does: a new and an old file of them never
            exist together with the others.
        obsolete
            Returns whether a file that this command wrote earlier, and does not write again, is removed.
        ready
            Further new files: final place → present place within this folder.

        Raises
        ------
        InputError
            When a file would replace a file that it must not.
        RunError
            When a file cannot be put in place.
        """
        new = self.folder / STATE_FOLDER / READY_FOLDER
        _clear(new)
        try:
            new.mkdir(parents=True)  # somebody may have removed the folder during a long run
            yield new
            found = sorted(path.relative_to(new).as_posix() for path in new.rglob("*") if not path.is_dir())
            sources = {name: f"{STATE_FOLDER}/{READY_FOLDER}/{name}" for name in found}
            self._put_in_place(sources | dict(ready or {}), joining, obsolete or (lambda _: False))
        finally:
            if not (self.folder / STATE_FOLDER / JOURNAL_NAME).exists():
                _clear(new)

    def _put_in_place(
        self, sources: Mapping[str, str], joining: Sequence[str], obsolete: Callable[[str], bool]
    ) -> None:
        self.guard.check(sources)
        for source in sources.values():
            sync(self.folder / source)
        gone = [name for name in self.guard.own_files() if name not in sources and obsolete(name)]
        replaced = {name: stamp_of(self.folder / name) for name in sources}
        joined = {PurePath(name).name for name in joining}  # others are removed first
        switch = Switch(
            command=self.guard.command,
            sources=sources,
            joining=tuple(name for name in joining if name in sources),
            obsolete=tuple(sorted(gone, key=lambda name: PurePath(name).name not in joined)),
            replaced={name: stamp for name, stamp in replaced.items() if stamp is not None},
        )
        # a process that has no time left for it leaves the rest to the next command
        say_at_the_end(f"the next command that writes into {self.guard.place} completes what is there")
        with deferred_signals():
            carry_out(self.folder, switch)
            self.put_in_place.update(sources)
            say_at_the_end(self.standing())


@contextlib.contextmanager
def own_folder(
    guard: Guard, command_line: Sequence[str], planned: Iterable[str] = ()
) -> Iterator[OutputFolder]:
    """Own a folder within the block; it is created where there is none.

    Complete files of an interrupted command are put in place first.

    Parameters
    ----------
    guard
        The folder, and the rule which files may be replaced there.
    command_line
        Command line, for messages to other processes that want to use the folder.
    planned
        Names of files that will be written: a folder in which they may not be written is not changed.

    Raises
    ------
    FolderInUseError
        When another process owns the folder.
    InputError
        When the folder cannot be written, or the files may not be replaced.
    """
    planned = list(planned)
    guard.check(planned)
    out = OutputFolder(guard=guard)
    with contextlib.ExitStack() as stack:
        state = _state_folder(guard)
        try:
            stack.enter_context(sole_owner(state, command_line, guard.shown))
        except OSError as problem:
            raise _unusable(guard, problem) from problem
        with deferred_signals():
            out.was_completed = finish_interrupted(out.folder, overwrite=guard.overwrite)
        _clear(state / READY_FOLDER)
        remove_leftovers(state)
        guard.check(planned)
        say_at_the_end(out.standing())
        recorded = current()
        if recorded is not None:
            recorded.enter(out.folder, command_line, guard.inputs.sets, guard.inputs.images)
        yield out


def check_folder(guard: Guard) -> None:
    """Refuse a folder that cannot be written or is part of another output, or is in use; writes nothing.

    Raises InputError, and FolderInUseError where it is in use.
    """
    guard.check_place()
    folder = guard.folder.absolute()
    place = next((place for place in (folder, *folder.parents) if place.exists()), folder)
    if not place.is_dir():
        raise _unusable(guard, NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(place)))
    if not os.access(place, os.W_OK | os.X_OK):
        raise _unusable(guard, PermissionError(errno.EACCES, "not writable", str(place)))
    refuse_if_owned(folder / STATE_FOLDER, guard.shown)


def _state_folder(guard: Guard) -> Path:
    """Create the program's own folder and return it; raises InputError when that fails."""
    state = guard.folder.absolute() / STATE_FOLDER
    if state.is_symlink():
        raise InputError(f"{state}: this is a link, but the program stores its own files there: remove it")
    try:
        state.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise _unusable(guard, problem) from problem
    return state


def _unusable(guard: Guard, problem: OSError) -> InputError:
    place = problem.filename or guard.folder
    return InputError(
        f"{guard.shown} cannot be used ({place}: {problem.strerror or problem}); give another folder"
    )


def _clear(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
