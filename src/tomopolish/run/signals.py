"""Orderly and prompt ends of processes that a user, the machine or a queue asks to end.

Python raises an exception in the main thread as soon as that thread runs Python code. Native code that does
not return, a library that swallows the exception, and threads that an ending process waits for can delay
that. So a separate thread reads the signals from a pipe, and ends a process that has not ended in time.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

SECONDS_TO_END = 5.0
"""Time that a process has to end in order, unless `ending_may_take` says otherwise."""

SECONDS_OF_ONE_REQUEST = 0.5
"""Signals within this time of the first belong to it: a terminal and a wrapper may both send it."""

SENTENCES = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "terminated",
    signal.SIGHUP: "ended, because its terminal was closed",
}
"""The signals that ask a process to end, with their words in error messages."""


class AskedToEnd(KeyboardInterrupt):
    """A signal asks the process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def status(self) -> int:
        """The exit status, as shells report it."""
        return 128 + self.number

    def __str__(self) -> str:
        """Return the words of an error message for this signal."""
        return SENTENCES[signal.Signals(self.number)]


LastAct = Callable[[AskedToEnd], None]

_INTERRUPTED: list[BaseException] = []
"""Errors with which requests ended commands; see `end_interrupted`."""

_acts_before_forced_end: list[Callable[[], None]] = []


class Ending:
    """The signals that come during `ending_in_order`, and the thread that watches over the end.

    Parameters
    ----------
    last_act
        Called, in the thread, before a process that did not end in order is ended.
    own_process
        Whether the process ends soon after the block: it is watched until then.

    Attributes
    ----------
    advice
        Advice to the user, for the message of a process that did not end in order.
    """

    def __init__(self, last_act: LastAct | None, own_process: bool) -> None:
        self.last_act = last_act
        self.request: AskedToEnd | None = None
        self.advice = ""
        self.seconds_to_end = SECONDS_TO_END
        self._own_process = own_process
        self._raises = self._raised = False
        self._since = 0.0
        self._before: dict[int, Any] = {}
        self._thread = threading.Thread(target=self._watch, name="signals", daemon=True)

    def start(self) -> None:
        """Handle the signals, except those that the caller ignores, as nohup does."""
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._wakeup_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._thread.start()
        for number in SENTENCES:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)

    def stop(self) -> None:
        """Restore the earlier handlers; if the process is the program's own, signals end it from now on."""
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if self._own_process else handler)
        signal.set_wakeup_fd(self._wakeup_before)
        if self.request is not None and self._own_process:
            return
        os.write(self._write, b"\0")
        self._thread.join()
        os.close(self._write)
        os.close(self._read)

    @contextlib.contextmanager
    def raising(self) -> Iterator[None]:
        """Raise `AskedToEnd` within the block; a signal that comes before or after it is only recorded."""
        self._raises = True
        try:
            self.raise_again()
            yield
        finally:
            self._raises = False

    @contextlib.contextmanager
    def not_raising(self) -> Iterator[None]:
        """Only record a signal that comes within the block."""
        before, self._raises = self._raises, False
        try:
            yield
        finally:
            self._raises = before

    def raise_again(self) -> None:
        """Raise `AskedToEnd` again if a library has swallowed it: a request to end is never ignored."""
        if self.request is not None and self._raises:
            raise AskedToEnd(self.request.number)

    def allow(self, seconds: float) -> None:
        """Allow `seconds` for an orderly end, from now or, if no signal has come, from the first signal."""
        self.seconds_to_end = seconds
        if self.request is not None:
            self._since = time.monotonic()
            self._set_alarm()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._note(number)
        if not self._raised:
            self._raised = True
            self.raise_again()

    def _note(self, number: int) -> None:
        if self.request is None:
            self._since = time.monotonic()
            self.request = AskedToEnd(number)
            self._set_alarm()

    def _set_alarm(self) -> None:
        """Have the system end the process during the interpreter's shutdown, when no thread can."""
        if self._own_process:
            left = self._since + self.seconds_to_end - time.monotonic()
            signal.alarm(max(1, math.ceil(left + 1)))

    def _watch(self) -> None:
        first_seen: float | None = None
        while True:
            left = None if self.request is None else self._since + self.seconds_to_end - time.monotonic()
            if left is not None and left <= 0:
                self._end(f"but its work did not stop within {self.seconds_to_end:.0f} s: ended at once")
            if not select.select([self._read], [], [], left)[0]:
                continue
            for number in os.read(self._read, 64):
                if number == 0:
                    return
                if number not in self._before:
                    continue
                self._note(number)
                if first_seen is None:
                    first_seen = time.monotonic()
                elif time.monotonic() - first_seen > SECONDS_OF_ONE_REQUEST:
                    self._end("and asked again: ended at once")

    def _end(self, how: str) -> None:
        request = self.request or AskedToEnd(signal.SIGTERM)
        if self._own_process:
            signal.alarm(1)
        with contextlib.suppress(Exception):
            os.write(2, f"tomopolish: {request}, {how}{self.advice}\n".encode())
        for act in reversed(_acts_before_forced_end):
            with contextlib.suppress(Exception):
                act()
        with contextlib.suppress(Exception):
            if self.last_act is not None:
                self.last_act(request)
        os._exit(request.status)


_endings: list[Ending] = []
"""The active watch; at most one, since an inner block uses that of the outer block."""


@contextlib.contextmanager
def ending_in_order(last_act: LastAct | None = None, *, own_process: bool = False) -> Iterator[Ending]:
    """Handle SIGINT, SIGTERM and SIGHUP within the block; see `Ending`.

    Outside the main thread, which alone receives signals, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield Ending(None, False)
        return
    if _endings:
        ending = _endings[0]
        outer, ending.last_act = ending.last_act, last_act or ending.last_act
        try:
            yield ending
        finally:
            ending.last_act = outer
        return
    ending = Ending(last_act, own_process)
    if own_process:
        sys.unraisablehook = _without_requests(sys.unraisablehook)
    ending.start()
    _endings.append(ending)
    try:
        yield ending
    finally:
        _endings.clear()
        ending.stop()


def _without_requests(show: Callable[[Any], object]) -> Callable[[Any], object]:
    """Return a hook that does not show the traceback of an `AskedToEnd` that native code swallows.

    The request has been recorded, and still ends the process.
    """

    def show_others(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, AskedToEnd):
            show(unraisable)

    return show_others


def requested_end() -> int | None:
    """Return the exit status of a process that a signal has asked to end; None where none has come."""
    return next((ending.request.status for ending in _endings if ending.request is not None), None)


def raise_if_asked_to_end() -> None:
    """Raise `AskedToEnd` if a signal has come, even if a library has swallowed the exception."""
    for ending in _endings:
        if threading.current_thread() is threading.main_thread():
            ending.raise_again()


@contextlib.contextmanager
def ending_may_take(seconds: float) -> Iterator[None]:
    """Allow a process that is asked to end within the block `seconds` for an orderly end."""
    before = [ending.seconds_to_end for ending in _endings]
    for ending in _endings:
        ending.allow(max(seconds, ending.seconds_to_end))
    try:
        yield
    finally:
        for ending, earlier in zip(_endings, before, strict=False):
            ending.allow(earlier)


@contextlib.contextmanager
def deferred_signals() -> Iterator[None]:
    """Handle signals that ask for the end only after the block, which is short; only in the main thread.

    A process that does not reach the end of the block in time is ended within it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    for ending in _endings:
        with ending.not_raising():
            yield
        ending.raise_again()
        return
    arrived: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, lambda number, _: arrived.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)
        if arrived:
            signal.raise_signal(signal.SIGINT)


@contextlib.contextmanager
def before_forced_end(act: Callable[[], None]) -> Iterator[None]:
    """Call `act`, from a thread, if the process is ended within the block without coming to its end.

    A second after the request the system ends the process: what takes longer belongs into another one.
    """
    _acts_before_forced_end.append(act)
    try:
        yield
    finally:
        _acts_before_forced_end.remove(act)


def say_at_the_end(sentence: str) -> None:
    """Set the sentence on the folder's contents in the message of a process that is asked to end."""
    for ending in _endings:
        ending.advice = f"; {sentence}"


def keep_interrupted(error: BaseException) -> None:
    """Keep the error with which a request ended a command, and so everything that it interrupted."""
    _INTERRUPTED.append(error)


def end_interrupted(status: int) -> None:
    """End the process at once where a request interrupted its command; otherwise return.

    What a library had half made when it was interrupted must not be taken apart: LLVM crashes on a module
    whose compilation did not end. The command has cleaned up by now, and only the interpreter has not.
    """
    if not _INTERRUPTED:
        return
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    logging.shutdown()
    os._exit(status)
