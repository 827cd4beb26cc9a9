"""The folder where numba keeps the machine code of kernels between runs; only the caller can write to it.

Numba loads kept code with `pickle`: a user who can write to the folder can run code as the caller. Where a
folder is not safe, or cannot be written, nothing is kept and each run compiles its kernels.
"""

from __future__ import annotations

import contextlib
import functools
import grp
import hashlib
import logging
import os
import pwd
import re
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock
import numba

DAYS_UNUSED = 30
"""After that the folder of another version is removed."""

SECONDS_UNTIL_WORDS = 10
LONGEST_WAIT_S = 60
"""A process waits no longer for another one that compiles a kernel, which may have been stopped."""

_log = logging.getLogger(__name__)
_has_spoken, _waits_no_more = threading.Event(), threading.Event()


@functools.cache
def folder() -> tuple[Path | None, str]:
    """Return where kernels are kept, or None and the reason why they are not."""
    base: Path | None = None
    try:
        base = chosen_folder()
        for path in reversed([base, *base.parents]):
            if not path.exists():
                path.mkdir(mode=0o700, exist_ok=True)
        kept = base / f"kernels-{digest_of_sources()}"
        fault = fault_of(base)
        if not fault and not kept.exists():
            kept.mkdir(mode=0o700, exist_ok=True)
            _tidy(kept)
        fault = fault or _fault_within(kept, kept.lstat())
        if not fault and kept.stat().st_mode & 0o077:  # what numba makes within may be open to the group
            fault = f"other users can enter {kept} (chmod 700 changes that)"
        if fault:
            return None, fault
        tempfile.TemporaryFile(dir=kept).close()
        os.utime(kept)
    except (OSError, RuntimeError) as error:  # RuntimeError: some users have no home folder
        return None, f"{base or 'the cache folder'} cannot be written ({error})"
    return kept, ""


def chosen_folder() -> Path:
    """Return the folder that the user has chosen for kernels, or else a part of the user's cache folder."""
    own, numbas = os.environ.get("TOMOPOLISH_CACHE_DIR"), str(numba.config.CACHE_DIR)
    if own:
        return Path(own).absolute()
    if numbas:
        return Path(numbas).absolute() / "tomopolish"
    caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return caches.absolute() / "tomopolish"


def digest_of_sources() -> str:
    """Return what changes with the source of any kernel, or of what is inlined into kernels."""
    package = Path(__file__).parent
    content = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        if "kernels" in str(path.relative_to(package)):
            content.update(path.read_bytes())
    return content.hexdigest()[:16]


def fault_of(path: Path) -> str:
    """Return why users other than the caller could put files into a folder; nothing where they cannot."""
    return _fault_within(path, path.stat()) or _fault_above(path)


def _fault_within(path: Path, status: os.stat_result) -> str:
    if not stat.S_ISDIR(status.st_mode):
        return f"{path} is not a folder"
    if status.st_uid != os.geteuid():
        return f"{path} belongs to another user"
    if status.st_mode & 0o022:
        return f"other users can write to {path} (chmod go-w changes that)"
    return ""


def _fault_above(path: Path) -> str:
    """Return why others could put another folder in the place of this one, which takes a folder above it."""
    trusted = {0, os.geteuid(), Path("/").stat().st_uid}  # in a container, root's files may be nobody's
    for above in (*path.parents, *path.resolve().parents):
        status = above.stat()
        if status.st_uid not in trusted:
            return f"{above}, where the cache folder is, belongs to another user"
        by_group = status.st_mode & 0o020 and not _is_private(status.st_gid)
        if (by_group or status.st_mode & 0o002) and not status.st_mode & stat.S_ISVTX:
            return f"other users can write to {above}, where the cache folder is"
    return ""


def compiled(decorator: Callable[..., Any], options: dict[str, Any]) -> Callable[..., Any]:
    """Return one of numba's decorators with options, which keeps what it compiles where that is safe.

    Parameters
    ----------
    decorator
        `numba.njit`, or another that has the option ``cache``.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        path, _ = folder()
        if path is None:
            return decorator(**options)(function)
        before = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = str(path)
        try:
            return decorator(cache=True, **options)(function)
        except RuntimeError:  # there is no source file
            return decorator(**options)(function)
        finally:
            numba.config.CACHE_DIR = before

    return decorate


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Let one process at a time compile or load a kernel; others wait, and find it there."""
    path, _ = folder()
    with contextlib.ExitStack() as stack:
        if path is not None and not _waits_no_more.is_set():
            with contextlib.suppress(OSError, NotImplementedError):  # a lock that times out is an OSError
                stack.enter_context(_taken(filelock.FileLock(path / "lock")))
        yield


def _taken(lock: filelock.BaseFileLock) -> contextlib.AbstractContextManager[Any]:
    """Take a lock; raises Timeout, an OSError, where another process has it for too long."""
    with contextlib.suppress(filelock.Timeout):
        return lock.acquire(timeout=SECONDS_UNTIL_WORDS)
    if not _has_spoken.is_set():
        _has_spoken.set()
        _log.info("Waiting for another process that compiles kernels, for up to %d s", LONGEST_WAIT_S)
    try:
        return lock.acquire(timeout=LONGEST_WAIT_S - SECONDS_UNTIL_WORDS)
    except filelock.Timeout:
        _waits_no_more.set()
        raise


def forget() -> None:
    """Remove what is kept, because it is damaged."""
    path, _ = folder()
    if path is not None:
        shutil.rmtree(path, ignore_errors=True)


def _tidy(kept: Path) -> None:
    """Remove folders of other versions that no run has used for long."""
    oldest = time.time() - DAYS_UNUSED * 86400
    for path in kept.parent.iterdir():
        if re.fullmatch(r"kernels-[0-9a-f]{16}", path.name) and path != kept:
            status = path.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and status.st_mtime < oldest:
                shutil.rmtree(path, ignore_errors=True)


def _is_private(group: int) -> bool:
    """Whether a group has no member but the caller, as the groups that many systems make for each user."""
    try:
        members, name = grp.getgrgid(group).gr_mem, grp.getgrgid(group).gr_name
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return False
    return name == user and not set(members) - {user}
