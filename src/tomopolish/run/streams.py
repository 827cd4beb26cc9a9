"""Streams that never end a run: writes that fail are counted, and the work continues."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TextIO

from tomopolish.plain_text import safe_to_show

Stream = TextIO | io.TextIOBase

CLOSED = "it is closed"


@dataclass(kw_only=True)
class Losses:
    """Writes that a stream could not show.

    Attributes
    ----------
    name
        Name of the stream, for messages.
    reason
        Reason why the first write failed; None where none did.
    is_reader_gone
        Whether the reader has gone, as after ``| head``.
    """

    name: str
    reason: str | None = None
    is_reader_gone: bool = False

    def count(self, problem: Exception) -> None:
        """Count a write that failed."""
        if self.reason is None:
            self.is_reader_gone = getattr(problem, "errno", None) == errno.EPIPE
            self.reason = str(getattr(problem, "strerror", None) or CLOSED)

    @property
    def sentence(self) -> str | None:
        """Return a sentence about the lost messages; None where there are none."""
        if self.reason is None:
            return None
        return f"not all messages could be written to {self.name} ({self.reason}); the run was not affected"


class ForgivingStream(io.TextIOBase):
    """A text stream whose writes never fail, and contain no control characters for a terminal.

    Parameters
    ----------
    stream
        Stream that the text is written to; None, which Python uses for a closed standard stream: none.
    losses
        Counter of failed writes.
    takes_escapes
        Whether text is written unchanged, for a library that draws on a terminal.
    """

    def __init__(self, stream: Stream | None, losses: Losses, *, takes_escapes: bool = False) -> None:
        self._stream = stream
        self.losses = losses
        self._takes_escapes = takes_escapes

    def taking_escapes(self) -> ForgivingStream:
        """Return the same stream for a library that draws on a terminal."""
        return ForgivingStream(self._stream, self.losses, takes_escapes=True)

    def write(self, text: str) -> int:
        """Write a text, or count that it could not be written."""
        shown = text if self._takes_escapes else safe_to_show(text)
        try:
            self._written(shown)
        except (OSError, ValueError) as problem:
            self.losses.count(problem)
        return len(text)

    def _written(self, text: str) -> None:
        if self._stream is None:
            raise ValueError(CLOSED)
        try:
            self._stream.write(text)
        except UnicodeEncodeError:  # an Å on a stream of ASCII
            encoding = self.encoding
            self._stream.write(text.encode(encoding, "replace").decode(encoding))

    def flush(self) -> None:
        """Write buffered text, or count that it could not be written."""
        try:
            if self._stream is not None:
                self._stream.flush()
        except (OSError, ValueError) as problem:
            self.losses.count(problem)

    def writable(self) -> bool:
        """Return whether text may be written: always."""
        return True

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        try:
            return self._stream is not None and self._stream.isatty()
        except ValueError:
            return False

    def fileno(self) -> int:
        """Return the number of the stream's file; raises OSError where it has none."""
        if self._stream is None:
            raise OSError(errno.EBADF, CLOSED)
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Return the encoding of the stream."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        """Return how characters that the encoding lacks are treated."""
        return "replace"


def forgiving(stream: Stream | None, name: str = "the output") -> ForgivingStream:
    """Return a wrapper of a stream that never fails."""
    return stream if isinstance(stream, ForgivingStream) else ForgivingStream(stream, Losses(name=name))


@contextlib.contextmanager
def forgiving_standard_streams() -> Iterator[Losses]:
    """Let stdout and stderr never fail until the process ends; says at the end of the block what was lost.

    For the program's own process: closed standard streams are opened on nothing, so that no file of the run
    takes their numbers, and buffered text that cannot be written is dropped, so that Python does not
    complain at its exit. Yields the losses of stdout.
    """
    _fill_closed_numbers()
    out = forgiving(sys.stdout, "stdout")
    err = forgiving(sys.stderr, "stderr")
    before = sys.stdout, sys.stderr
    for stream in before:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Å shows a question mark
    sys.stdout, sys.stderr = out, err
    try:
        yield out.losses
    finally:
        out.flush()
        for losses, other in ((out.losses, err), (err.losses, out)):
            if losses.sentence is not None:
                print(f"tomopolish: {losses.sentence}", file=other, flush=True)
        for original, losses in zip(before, (out.losses, err.losses), strict=True):
            if losses.reason is not None and original is not None:
                _drop_waiting(original)


def lost_messages() -> list[str]:
    """Return sentences on the standard streams that could not show all messages so far."""
    streams = (sys.stdout, sys.stderr)
    found = [stream.losses.sentence for stream in streams if isinstance(stream, ForgivingStream)]
    return [sentence for sentence in found if sentence is not None]


def _fill_closed_numbers() -> None:
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one


def _drop_waiting(stream: TextIO) -> None:
    with contextlib.suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)
        stream.flush()
