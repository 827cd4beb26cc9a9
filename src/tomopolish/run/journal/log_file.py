"""``run.log``: all messages of the commands that wrote into a folder; never a reason to end a run."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from datetime import datetime
from pathlib import Path

from tomopolish.dataset.opening import open_regular
from tomopolish.plain_text import safe_to_show

LOG_NAMES = ("run.log", "run_tomopolish.log")
"""Names of the log; the second is used where another program has a file of the first name."""

TITLE = "# Log of tomopolish; every command that writes into this folder adds to it"

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class LogFile:
    """A log that a process adds lines to; writes that fail are counted, and the work continues."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self.path = path
        self.lost = 0
        self.reason = ""

    def write(self, record: logging.LogRecord) -> None:
        """Add a message with its time and level; a message of several lines has several lines here."""
        time = datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="seconds")
        start = f"{time} {record.levelname:<7} "
        text = safe_to_show(record.getMessage())
        following = f"\n{'':{len(start)}}"  # a name with a line end cannot look like a message
        self.add(f"{start}{text}".replace("\n", following))

    def add(self, line: str) -> None:
        """Add a line, or count that it could not be written."""
        content = f"{line}\n".encode("utf-8", "backslashreplace")
        try:
            if os.write(self._descriptor, content) < len(content):
                raise OSError(0, "no space is left")
        except OSError as problem:
            self.lost += 1
            self.reason = self.reason or problem.strerror or str(problem)

    def close(self) -> None:
        """Close the file, after a line that says how many messages it lacks."""
        if self.lost:
            lost = self.lost
            self.add(f"# {lost} messages could not be written here ({self.reason})")
        with contextlib.suppress(OSError):
            os.close(self._descriptor)


def open_log(folder: Path) -> LogFile | str:
    """Open the log of a folder to add to it; returns why there is none where that is impossible."""
    reason = "other programs have files of its names"
    for name in LOG_NAMES:
        path = folder / name
        try:
            descriptor = os.open(path, _FLAGS, 0o666)
        except OSError as problem:
            reason = f"{path}: {problem.strerror or problem}"
            continue
        log = LogFile(descriptor, path)
        state = os.fstat(descriptor)
        if stat.S_ISREG(state.st_mode) and state.st_size == 0:
            log.add(TITLE)
            return log
        if has_title(path, TITLE):
            return log
        os.close(descriptor)
    return reason


def has_title(path: Path, title: str) -> bool:
    """Return whether a file begins with a title by which the program recognises its own."""
    try:
        if path.is_symlink():
            return False
        with open_regular(path) as stream:
            return bool(stream.read(len(title)) == title.encode())
    except OSError:
        return False
