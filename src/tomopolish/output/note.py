"""`note.txt`: how a folder's results came about."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from tomopolish.dataset.files import atomic_write
from tomopolish.version import __version__

NOTE_NAME = "note.txt"


def write_note(folder: Path, *, command: Sequence[str], started: datetime, lines: Sequence[str] = ()) -> None:
    """Write command line, program's version and start time, and further lines, into `folder`/note.txt.

    Raises RunError when that is impossible.
    """
    with atomic_write(folder / NOTE_NAME) as stream:
        stream.write(
            f"command: {shlex.join(command)}\n"
            f"program: tomopolish {__version__}\n"
            f"started: {started.astimezone().isoformat(timespec='seconds')}\n"
        )
        stream.writelines(f"{line}\n" for line in lines)
