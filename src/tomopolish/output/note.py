"""`note.txt`: how a folder's results came about."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from tomopolish.dataset.files import atomic_write
from tomopolish.plain_text import one_line
from tomopolish.version import __version__

NOTE_NAME = "note.txt"


def write_note(folder: Path, *, command: Sequence[str], started: datetime, lines: Sequence[str] = ()) -> None:
    """Write command line, program's version and start time, and further lines, into `folder`/note.txt.

    Raises RunError when that is impossible.
    """
    with atomic_write(folder / NOTE_NAME) as stream:
        stream.write(
            f"command: {one_line(shlex.join(command))}\n"
            f"program: tomopolish {__version__}\n"
            f"started: {started.astimezone().isoformat(timespec='seconds')}\n"
        )
        stream.writelines(f"{one_line(line)}\n" for line in lines)


def add_to_note(folder: Path, lines: Sequence[str]) -> None:
    """Append lines to `folder`/note.txt; raises RunError when that is impossible."""
    try:
        before = (folder / NOTE_NAME).read_text(encoding="utf-8", errors="replace")
    except OSError:
        before = ""
    with atomic_write(folder / NOTE_NAME) as stream:
        stream.write(before)
        stream.writelines(f"{one_line(line)}\n" for line in lines)
