"""The recording of a command: its messages and how it was run, from its start until its end.

Messages go to the package's logger. A recording keeps them until the command owns its output folder, and
adds them to ``run.log`` there from then on.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tomopolish.errors import RunError
from tomopolish.output.yaml_text import in_yaml, plain
from tomopolish.plain_text import one_line
from tomopolish.run.journal.checksums import image_checksums, table_checksums
from tomopolish.run.journal.log_file import TITLE as LOG_TITLE
from tomopolish.run.journal.log_file import LogFile, has_title, open_log
from tomopolish.run.journal.provenance import (
    TITLE,
    environment,
    file_name,
    in_words,
    write_provenance,
)
from tomopolish.run.signals import before_forced_end, requested_end
from tomopolish.version import program_version

LOG = logging.getLogger("tomopolish")
"""The package's logger, which receives all that commands and functions say."""

SHOWN = {"shown": True}
"""Extra of a message that a reporter has shown, so that no other handler shows it again."""

MOST_WARNINGS = 10_000
"""Maximum number of different warnings that are kept as data."""

_current: ContextVar[Recording | None] = ContextVar("recording", default=None)
_lock = threading.Lock()
_open: list[Recording] = []
_before: list[tuple[bool, int, int]] = []
"""The logger before the first recording: whether it passed messages on, from which level, its own level."""


@dataclass(kw_only=True, eq=False)
class Recording:
    """Messages and facts of a running command.

    Attributes
    ----------
    command, command_line
        Name of the command, and how it was called.
    options
        Option or argument → its value, defaults included.
    from_python
        Whether a function was called, and not the program.
    writes_provenance
        Whether the command has a ``run.yaml``.
    facts
        Further entries of ``run.yaml``, such as the device.
    warnings
        Each warning once, in order, and whether a reporter has shown it.
    """

    command: str
    command_line: Sequence[str]
    options: Mapping[str, Any]
    from_python: bool = False
    writes_provenance: bool = True
    facts: dict[str, Any] = field(default_factory=dict)
    warnings: dict[str, bool] = field(default_factory=dict)
    started: datetime = field(default_factory=lambda: datetime.now().astimezone())
    status: int | None = None
    _waiting: list[logging.LogRecord] = field(default_factory=list)
    _log: LogFile | None = None
    _path: Path | None = None
    _inputs: str = ""
    _environment: Mapping[str, Any] = field(default_factory=dict)
    _written: str = ""
    _end: datetime | None = None
    _is_faulty: bool = False

    def receive(self, record: logging.LogRecord) -> None:
        """Add a message to the log, or keep it until there is one."""
        if record.levelno == logging.WARNING and len(self.warnings) < MOST_WARNINGS:
            self.warnings.setdefault(one_line(record.getMessage()), getattr(record, "shown", False))
        if self._log is None:
            self._waiting.append(record)
            return
        self._log.write(record)
        if self._log.lost and not self._is_faulty:
            self._is_faulty = True
            LOG.warning(
                "%s: messages cannot be written (%s); the run goes on", self._log.path, self._log.reason
            )

    def enter(
        self,
        folder: Path,
        command_line: Sequence[str],
        tables: Callable[[], Iterable[Path]],
        images: Callable[[], Iterable[Path]],
    ) -> None:
        """Begin ``run.log`` and ``run.yaml`` in a folder that this process owns; later folders get none.

        Parameters
        ----------
        command_line
            How the command was called, if the recording does not know it.
        tables, images
            Return the input files: sets, tables and maps, and tilt images.
        """
        if self._log is not None or self._is_faulty:
            return
        self.command_line = self.command_line or command_line
        opened = open_log(folder)
        if isinstance(opened, str):
            self._is_faulty = True
            LOG.warning("%s: run.log cannot be written (%s); the run goes on", folder, opened)
        else:
            self._log = opened
            waiting, self._waiting = self._waiting, []
            line = f"tomopolish {program_version()}: {in_words(self.command_line)}"
            self._log.write(_message(line, self.started))
            for record in waiting:
                self._log.write(record)
        name = file_name(folder, self.command) if self.writes_provenance else None
        if name is None:
            return
        here = Path.cwd()
        inputs = {
            "tables_and_maps": table_checksums(tables(), here),
            "images": image_checksums(images(), here),
        }
        self._inputs = in_yaml({"inputs": inputs})
        self._environment = environment()
        self._path = folder / name
        self._write()

    def end(self, status: int | None) -> None:
        """Write how the command ended, and close the log."""
        self.status, self._end = status, datetime.now().astimezone()
        if self._path is not None and self._is_mine(self._path):
            self._write()
        if self._log is not None:
            seconds = (self._end - self.started).total_seconds()
            line = f"ended with exit status {status} after {seconds:.1f} s"
            self._log.write(_message(line, self._end))
            self._log.close()
            self._log = None
            self._is_faulty = True  # nothing more is written

    def _is_mine(self, path: Path) -> bool:
        """Return whether no later command has written the file: the folder is not owned any more."""
        with contextlib.suppress(OSError):
            return path.read_text(encoding="utf-8", errors="surrogateescape").endswith(self._written)
        return False

    def _write(self) -> None:
        assert self._path is not None
        content = {
            "program": f"tomopolish {program_version()}",
            "command": self.command,
            "call" if self.from_python else "command_line": in_words(self.command_line),
            "start": self.started.isoformat(timespec="seconds"),
            "end": None if self._end is None else self._end.isoformat(timespec="seconds"),
            "exit_status": self.status,
            "arguments" if self.from_python else "options": dict(self.options),
            **self._environment,
            **self.facts,
            "warnings": list(self.warnings),
        }
        text = in_yaml(content) + self._inputs
        try:
            write_provenance(self._path, text)
            self._written = text
        except RunError as problem:
            self._path = None
            LOG.warning("%s; the run goes on", problem)


class _Receiver(logging.Handler):
    """Passes messages to the open recordings, and on to the handlers of a program that calls functions."""

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a message on; an error of a recording never ends the run."""
        for recording in list(_open):
            with contextlib.suppress(Exception):
                recording.receive(record)
        parent = LOG.parent
        passes, level, _ = _before[0] if _before and _open[0].from_python else (False, 0, 0)
        if passes and parent is not None and record.levelno >= level:
            if getattr(record, "shown", False) and not parent.hasHandlers():
                return  # Python would write it to stderr where no handler is installed
            parent.callHandlers(record)


_receiver = _Receiver()


def current() -> Recording | None:
    """Return the recording of the running command; None where nothing is recorded."""
    return _current.get()


def add_fact(name: str, value: Any) -> None:
    """Add an entry to the ``run.yaml`` of the running command."""
    recording = _current.get()
    if recording is not None:
        recording.facts[name] = plain(value)


def warnings_beside_reports() -> list[str]:
    """Return the warnings of the running command that no reporter has shown, such as those of its options."""
    recording = _current.get()
    return [] if recording is None else [text for text, shown in recording.warnings.items() if not shown]


@contextlib.contextmanager
def recording(begun: Recording) -> Iterator[None]:
    """Record a command within the block, which sets the exit status of a command that returns one."""
    token = _current.set(begun)
    _attach(begun)
    try:
        with before_forced_end(lambda: begun.end(requested_end())):
            yield
    except BaseException as error:
        request = requested_end()
        begun.end(request if request is not None else _status_of(error))
        raise
    else:
        begun.end(begun.status or 0)
    finally:
        _detach(begun)
        _current.reset(token)


def _status_of(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return 130
    return int(getattr(error, "exit_code", 1))


def _attach(begun: Recording) -> None:
    with _lock:
        if not _open:
            _before.append((LOG.propagate, LOG.getEffectiveLevel(), LOG.level))
            LOG.propagate = False
            LOG.setLevel(logging.DEBUG)
            LOG.addHandler(_receiver)
        _open.append(begun)


def _detach(begun: Recording) -> None:
    with _lock:
        _open.remove(begun)
        if not _open:
            LOG.removeHandler(_receiver)
            LOG.propagate, _, level = _before.pop()
            LOG.setLevel(level)


def is_record(path: Path) -> bool:
    """Return whether a file is a log or a ``run.yaml`` that this program wrote."""
    return has_title(path, LOG_TITLE) or has_title(path, TITLE)


def _message(text: str, time: datetime) -> logging.LogRecord:
    record = logging.LogRecord(LOG.name, logging.INFO, "", 0, text, None, None)
    record.created = time.timestamp()
    return record
