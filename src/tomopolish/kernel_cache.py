"""The folder where numba caches the machine code of kernels between runs; only the caller can write to it.

Numba loads cached code with `pickle`: a user who can write to the folder can run code as the caller. Where a
folder is not safe, or cannot be written, nothing is cached and each run compiles its kernels.
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
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock
import numba

DAYS_UNUSED = 30
"""Days after which the unused folder of another version is removed."""

SECONDS_UNTIL_WORDS = 10
"""Time after which a process says that it waits."""

LONGEST_WAIT_S = 60
"""Longest time that a process waits for another process that compiles a kernel, which may be suspended."""

_log = logging.getLogger(__name__)
_has_spoken, _waits_no_more = threading.Event(), threading.Event()


@functools.cache
def folder() -> tuple[Path | None, str]:
    """Return the folder of cached kernels and "", or None and the reason why kernels are not cached."""
    base: Path | None = None
    try:
        base = chosen_folder()
        for path in reversed([base, *base.parents]):
            if not path.exists():
                path.mkdir(mode=0o700, exist_ok=True)
        cache = base / f"kernels-{digest_of_sources()}"
        fault = fault_of(base)
        if not fault and not cache.exists():
            cache.mkdir(mode=0o700, exist_ok=True)
            _tidy(cache)
        fault = fault or _fault_within(cache, cache.lstat())
        if not fault and cache.stat().st_mode & 0o077:  # numba's files within may be open to the group
            fault = f"other users can enter {cache} (chmod 700 changes that)"
        if fault:
            return None, fault
        tempfile.TemporaryFile(dir=cache).close()
        os.utime(cache)
    except (OSError, RuntimeError) as error:  # RuntimeError: some users have no home folder
        return None, f"{base or 'the cache folder'} cannot be written ({error})"
    return cache, ""


def chosen_folder() -> Path:
    """Return the folder that the user has chosen for kernels, else a subfolder of the user's cache folder."""
    chosen, numba_folder = os.environ.get("TOMOPOLISH_CACHE_DIR"), str(numba.config.CACHE_DIR)
    if chosen:
        return Path(chosen).absolute()
    if numba_folder:
        return Path(numba_folder).absolute() / "tomopolish"
    caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return caches.absolute() / "tomopolish"


def digest_of_sources() -> str:
    """Return a digest of the sources of all kernels and of the functions inlined into them."""
    package = Path(__file__).parent
    content = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        if "kernels" in str(path.relative_to(package)):
            content.update(path.read_bytes())
    return content.hexdigest()[:16]


def fault_of(path: Path) -> str:
    """Return why users other than the caller could put files into a folder; "" where they cannot."""
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
    """Return why other users could replace this folder, through a folder above it; "" where they cannot."""
    trusted = {0, os.geteuid(), Path("/").stat().st_uid}  # in a container, "nobody" may own root's files
    for above in (*path.parents, *path.resolve().parents):
        status = above.stat()
        if status.st_uid not in trusted:
            return f"{above}, which contains {path}, belongs to another user"
        by_group = status.st_mode & 0o020 and not _is_private(status.st_gid)
        if (by_group or status.st_mode & 0o002) and not status.st_mode & stat.S_ISVTX:
            return f"other users can write to {above}, which contains {path}"
    return ""


def compiled(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    """Return a function with `numba.njit` and its options; compiled code is cached where that is safe."""
    path, _ = folder()
    if path is None:
        return numba.njit(**options)(function)
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(path)
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # there is no source file
        return numba.njit(**options)(function)
    finally:
        numba.config.CACHE_DIR = before


def has(kernel: str) -> bool:
    """Return whether a process like this one has cached a kernel, which is named with its types."""
    path, _ = folder()
    return path is not None and _mark(path, kernel).exists()


def remember(kernel: str) -> None:
    """Have later processes know that a kernel is cached."""
    path, _ = folder()
    if path is not None:
        with contextlib.suppress(OSError):  # they then wait for their turn
            mark = _mark(path, kernel)
            mark.parent.mkdir(mode=0o700, exist_ok=True)
            mark.touch()


def _mark(path: Path, kernel: str) -> Path:
    """Return the empty file that says that a kernel is cached, for this Python and numba.

    Where processors differ, several processes may compile a kernel at the same time, which does no harm.
    """
    like_this = repr((kernel, sys.version, numba.__version__))
    return path / "compiled" / hashlib.sha256(like_this.encode()).hexdigest()[:32]


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Let one process at a time compile a kernel; waiting processes then load it."""
    path, _ = folder()
    with contextlib.ExitStack() as stack:
        if path is not None and not _waits_no_more.is_set():
            with contextlib.suppress(OSError, NotImplementedError):  # a lock that times out is an OSError
                stack.enter_context(_taken(filelock.FileLock(path / "lock")))
        yield


def _taken(lock: filelock.BaseFileLock) -> contextlib.AbstractContextManager[Any]:
    """Acquire a lock; raises Timeout, an OSError, when another process has it for too long."""
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
    """Remove the cached kernels, because they are damaged."""
    path, _ = folder()
    if path is not None:
        shutil.rmtree(path, ignore_errors=True)


def _tidy(cache: Path) -> None:
    """Remove folders of other versions that no run has used for `DAYS_UNUSED` days."""
    oldest = time.time() - DAYS_UNUSED * 86400
    for path in cache.parent.iterdir():
        if re.fullmatch(r"kernels-[0-9a-f]{16}", path.name) and path != cache:
            status = path.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and status.st_mtime < oldest:
                shutil.rmtree(path, ignore_errors=True)


def _is_private(group: int) -> bool:
    """Return whether a group has no member but the caller, as groups that many systems make for each user."""
    try:
        members, name = grp.getgrgid(group).gr_mem, grp.getgrgid(group).gr_name
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return False
    return name == user and not set(members) - {user}
