"""`note.txt`: the command, version and time that produced a folder's results."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from tomopolish.dataset.files import atomic_write
from tomopolish.plain_text import one_line
from tomopolish.version import program_version

NOTE_NAMES = ("note.txt", "note_tomopolish.txt")
"""Names of the note; the second is used where another program, as RELION, has a file of the first name."""


def note_lines(command: Sequence[str], started: datetime, lines: Sequence[str] = ()) -> list[str]:
    """Return the lines of a note: command line, version of the program, start time, and further lines."""
    return [
        f"command: {shlex.join(command)}",
        f"program: tomopolish {program_version()}",
        f"started: {started.astimezone().isoformat(timespec='seconds')}",
        *lines,
    ]


def write_note(path: Path, lines: Sequence[str]) -> None:
    """Write the lines of a note; raises RunError when the file cannot be written."""
    with atomic_write(path) as stream:
        stream.writelines(f"{one_line(line)}\n" for line in lines)
