"""Opening of regular files only, which end, and respond at once."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

from tomopolish.errors import InputError

_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_FLAGS = os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC


def open_regular(path: Path, *, buffering: int = -1) -> Any:
    """Open a regular file, or a link to one, as a stream of bytes.

    Opening a named pipe would wait for its writer, reading a device might never end, and opening some devices
    moves them: therefore the kind of file is checked before and again after opening.

    Raises OSError when it cannot be opened, or is not a regular file (``strerror`` says what it is), and
    ValueError when the name contains a NUL.
    """
    _check_kind(os.stat(path), path)  # noqa: PTH116  the same call as below
    descriptor = os.open(path, _FLAGS)
    try:
        _check_kind(os.fstat(descriptor), path)
        return os.fdopen(descriptor, "rb", buffering=buffering)
    except BaseException:
        os.close(descriptor)
        raise


def read_small(path: Path, most_bytes: int) -> bytes:
    """Return a regular file of at most `most_bytes` bytes; raises OSError as `open_regular`, or if larger."""
    with open_regular(path) as handle:
        content: bytes = handle.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {most_bytes} bytes", str(path))
    return content


def read_json(path: Path) -> Any:
    """Return the content of a regular JSON file; raises OSError as `open_regular`.

    Raises ValueError when it is not JSON, or nested too deeply for Python.
    """
    with open_regular(path) as handle:
        content: bytes = handle.read()
    try:
        return json.loads(content.decode("utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def unreadable(shown: str, problem: OSError | ValueError) -> InputError:
    """Return the error for a file that cannot be opened or read; `shown` is its name in messages."""
    if isinstance(problem, FileNotFoundError):
        return InputError(f"{shown}: file not found; correct the path")
    reason = getattr(problem, "strerror", None) or problem
    return InputError(f"{shown}: cannot be read ({reason}); check the path")


def _check_kind(state: os.stat_result, path: Path) -> None:
    if stat.S_ISREG(state.st_mode):
        return
    if stat.S_ISDIR(state.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
    kind = next((word for is_kind, word in _KINDS if is_kind(state.st_mode)), "of another kind")
    raise OSError(errno.EINVAL, f"it is {kind}, and only regular files are read", str(path))
