"""Exclusive ownership of a folder: a lock of the operating system, and a record of its owner.

The lock ends with its process, however that ends. On file systems where such locks work within one machine
only, the record informs other machines: its modification time is renewed while the owner runs. Where
there are no locks, only the record counts, and on its own machine a process that has ended is recognised.
"""

from __future__ import annotations

import contextlib
import errno
import getpass
import json
import os
import shlex
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from tomopolish.dataset.opening import read_json
from tomopolish.errors import InputError

LOCK_NAME, OWNER_NAME = "lock", "owner.json"

BEAT_SECONDS = 15.0
"""Time between two renewals of the record."""

QUIET_SECONDS = 150.0
"""Age of the record at which an owner on another machine counts as ended.

Clients of network file systems may see changes a minute late.
"""


_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)
"""Errors by which file systems without locks refuse them."""


class FolderInUseError(InputError):
    """Another process writes into the folder."""


@dataclass(frozen=True, kw_only=True)
class Owner:
    """The process that writes into a folder.

    Attributes
    ----------
    host, machine
        Name of the machine, and an identifier of its last start, which distinguishes it from others of the
        same name.
    process, process_start
        Number of the process, and its start, which distinguishes it from later processes of the same number;
        "" where unknown.
    started
        Start of the process, ISO 8601.
    """

    host: str
    machine: str
    process: int
    process_start: str
    user: str
    started: str
    command: str

    def __str__(self) -> str:
        whose = f"process {self.process} of {self.user} on {self.host}"
        return f"{whose}, which began at {self.started} ({self.command})"

    def lives_here(self) -> bool:
        """Return whether the process still runs, on this machine."""
        try:
            os.kill(self.process, 0)
        except (ProcessLookupError, OverflowError):
            return False
        except PermissionError:  # the process belongs to another user
            pass
        return _process_start(self.process) == self.process_start


def this_process(command: Sequence[str]) -> Owner:
    """Return the record of this process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a user number without a name
        user = f"user {os.getuid()}"
    host = socket.gethostname()
    return Owner(
        host=host,
        machine=_machine() or host,
        process=os.getpid(),
        process_start=_process_start(os.getpid()),
        user=user,
        started=datetime.now().astimezone().isoformat(timespec="seconds"),
        command=shlex.join(command),
    )


def _machine() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:  # not Linux
        return ""


def _process_start(process: int) -> str:
    """Return the start of a process in clock ticks of its machine; "" where it is unknown."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
        return stat.rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def is_own(state_folder: Path) -> bool:
    """Return whether this process owns a folder."""
    owner = read_owner(state_folder)
    return owner is not None and replace(owner, command="", started="") == replace(
        this_process([]), command="", started=""
    )


def refuse_if_owned(state_folder: Path, shown: str) -> None:
    """Raise FolderInUseError where another process has the lock of a folder; does not take it."""
    if not (state_folder / LOCK_NAME).exists():
        return
    lock = FileLock(state_folder / LOCK_NAME, timeout=0, mode=0o666)
    try:
        lock.acquire()
    except Timeout:
        raise _refusal(state_folder, shown) from None
    except (NotImplementedError, OSError):  # a run itself reports the error
        return
    lock.release()


@contextlib.contextmanager
def sole_owner(state_folder: Path, command: Sequence[str], shown: str) -> Iterator[None]:
    """Own a folder within the block.

    The program has an existing folder in it, `state_folder`; messages to other processes have the `command`
    line, and name the folder as `shown`. Raises FolderInUseError when another process owns it, and OSError
    when nothing can be written there.
    """
    lock = FileLock(state_folder / LOCK_NAME, timeout=0, mode=0o666)
    try:
        lock.acquire()
    except Timeout:
        raise _refusal(state_folder, shown) from None
    except (NotImplementedError, OSError) as problem:
        if isinstance(problem, OSError) and problem.errno not in _NO_LOCKS:
            raise
    try:
        with _recorded(state_folder, this_process(command), shown, is_locked=lock.is_locked):
            yield
    finally:
        lock.release()


def _refusal(state_folder: Path, shown: str) -> FolderInUseError:
    owner = read_owner(state_folder)
    if owner is None:
        return FolderInUseError(
            f"{shown} is in use by another tomopolish command: wait for its end, or give another folder"
        )
    return FolderInUseError(f"{shown} is in use by {owner}: wait for its end, or give another folder")


def read_owner(state_folder: Path) -> Owner | None:
    """Return the recorded owner; None where there is none, or the record is damaged."""
    try:
        content = read_json(state_folder / OWNER_NAME)
        return Owner(**{**content, "process": int(content["process"])})
    except (OSError, ValueError, TypeError, KeyError, OverflowError):
        return None


@contextlib.contextmanager
def _recorded(state_folder: Path, owner: Owner, shown: str, *, is_locked: bool) -> Iterator[None]:
    """Write a record within the block, and renew its modification time."""
    path = state_folder / OWNER_NAME
    _take_over(state_folder, owner, shown, is_locked=is_locked)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:  # a process on another machine was faster
        raise _refusal(state_folder, shown) from None
    ended = threading.Event()
    beats = threading.Thread(target=_beat, args=(descriptor, ended), daemon=True)
    try:
        os.write(descriptor, json.dumps(asdict(owner)).encode("utf-8", "surrogateescape"))
        beats.start()
        yield
    finally:
        ended.set()
        if beats.is_alive():
            beats.join()
        if read_owner(state_folder) == owner:
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _take_over(state_folder: Path, owner: Owner, shown: str, *, is_locked: bool) -> None:
    """Remove the record of an owner that has ended; raises FolderInUseError for one that may still run.

    If this process has the lock, an owner on this machine has ended.
    """
    path = state_folder / OWNER_NAME
    earlier = read_owner(state_folder)
    if earlier is not None and earlier.machine == owner.machine:
        if not is_locked and earlier.lives_here():
            raise _refusal(state_folder, shown)
    elif earlier is not None:
        quiet = _seconds_since_beat(state_folder)
        if quiet < QUIET_SECONDS:
            raise FolderInUseError(
                f"{shown} is in use by {earlier}; it was last seen {max(quiet, 0):.0f} s ago. "
                "Wait for its end, or give another folder; if it has ended, remove "
                f"{path}, or wait {QUIET_SECONDS:.0f} s"
            )
    path.unlink(missing_ok=True)


def _seconds_since_beat(state_folder: Path) -> float:
    """Return the age of the record by the clock of its file system, which may not be this machine's."""
    clock = state_folder / LOCK_NAME
    clock.touch()
    try:
        return clock.stat().st_mtime - (state_folder / OWNER_NAME).stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def _beat(descriptor: int, ended: threading.Event) -> None:
    while not ended.wait(BEAT_SECONDS):
        with contextlib.suppress(OSError):  # a disk that is full or gone: the run itself reports it
            os.utime(descriptor)
