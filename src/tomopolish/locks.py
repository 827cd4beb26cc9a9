"""Locks that processes of one machine settle things by: a process's go with it, however it ends."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path


def folder() -> Path:
    """Return where this user's locks lie: in the machine's folder for temporary files."""
    return Path(tempfile.gettempdir()) / f"tomopolish-{os.getuid()}"


def take(path: Path) -> int | None:
    """Take a lock, which lasts until the descriptor that is returned is closed; None where another has it.

    Raises
    ------
    OSError
        When nothing can be locked there.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return descriptor
