"""Waits for schedulers and workers, with messages and time limits."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tomopolish.errors import InputError, RunError
from tomopolish.run.reporter import Reporter

if TYPE_CHECKING:
    from distributed.security import Security

SECONDS_UNTIL_WORDS = 10.0
WORDS_GROW = 6.0
"""Factor by which a wait must have grown since its last message before the next is shown."""

SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_BETWEEN_QUESTIONS = 30.0
"""Time between two questions to the queue whether the awaited job is still in it."""


@dataclass(kw_only=True)
class Patience:
    """A wait with a time limit.

    Attributes
    ----------
    awaited
        Description of what the run waits for.
    remedy
        Advice to the user who waits.
    seconds
        Time after which the wait is given up.
    lost
        Called from time to time; returns why the wait is in vain, or None.
    """

    awaited: str
    remedy: str
    seconds: float
    reporter: Reporter
    lost: Callable[[], str | None] = lambda: None
    _since: float | None = field(default=None, init=False)
    _next_words: float = field(default=0.0, init=False)
    _next_question: float = field(default=0.0, init=False)

    def look(self, *, arrived: bool) -> None:
        """Continue the wait, or end it if `arrived`; call this about once a second.

        Raises
        ------
        RunError
            When the wait has lasted `seconds`, or is in vain.
        """
        now = time.monotonic()
        if arrived:
            self._since = None
            return
        if self._since is None:
            self._since = now
            self._next_words = self._next_question = SECONDS_UNTIL_WORDS
        waited = now - self._since
        if waited >= self._next_question:
            self._next_question = waited + SECONDS_BETWEEN_QUESTIONS
            reason = self.lost()
            if reason is not None:
                raise RunError(reason)
        if waited >= self.seconds:
            raise RunError(
                f"waited {duration(self.seconds)} in vain for {self.awaited}: {self.remedy}, or wait longer "
                "(--connect_timeout)"
            )
        if waited >= self._next_words:
            self._next_words *= WORDS_GROW
            self.reporter.say(
                f"Waiting for {self.awaited}: {self.remedy}. The run gives up after {duration(self.seconds)} "
                "(--connect_timeout)."
            )


def duration(seconds: float) -> str:
    """Return a duration in words, in a suitable unit."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"


def wait_for_scheduler(
    address: str, security: Security, patience: Patience, look: Callable[[], None]
) -> None:
    """Wait until a scheduler answers at an address.

    Dask's own client waits forever for a server that accepts the connection and does not answer.

    Parameters
    ----------
    look
        Called about twice a second; it raises an error to end the run.

    Raises
    ------
    InputError
        When no scheduler answers in time, or it does not accept the certificates.
    """
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        try:
            answer = pool.submit(asyncio.run, _answer(address, security, patience.seconds, stop))
            while not _done(answer):
                look()
                patience.look(arrived=False)
            answer.result()
        except (OSError, ValueError, TypeError, RuntimeError, RunError) as error:
            text = f"no answer within {duration(patience.seconds)}"
            if not isinstance(error, RunError):
                text = " ".join(str(_root(error)).split()) or type(_root(error)).__name__
            protected = "" if address.startswith("tls://") else ", which begins with tls:// where it uses TLS"
            raise InputError(
                f"--scheduler {address}: no Dask scheduler answers there ({text}); start one with 'dask "
                f"scheduler' and give the address it prints{protected}"
            ) from error
        finally:
            stop.set()


def _root(error: BaseException) -> BaseException:
    """Return the first error of a chain."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _done(future: Future[None]) -> bool:
    """Wait a moment for a future; returns whether it is done."""
    return bool(wait([future], timeout=SECONDS_BETWEEN_LOOKS).done)


async def _answer(address: str, security: Security, seconds: float, stop: threading.Event) -> None:
    """Ask a scheduler for its identity until it answers or refuses, or `stop` is set."""
    from distributed import rpc

    async def ask() -> None:
        arguments = security.get_connection_args("client")
        async with rpc(address, timeout=seconds, connection_args=arguments) as scheduler:
            await scheduler.identity()

    asked = asyncio.ensure_future(ask())
    while not asked.done():
        await asyncio.wait({asked}, timeout=SECONDS_BETWEEN_LOOKS)
        if stop.is_set():
            asked.cancel()
            return
    asked.result()


def scheduler_lost(error: OSError | None = None) -> RunError:
    """Return the error of a run whose scheduler is gone, or whose connection to it failed with an error."""
    reason = "the cluster's scheduler is gone"
    if error is not None:
        reason = f"the connection to the cluster is lost ({error})"
    return RunError(f"{reason}; --only_do_unfinished resumes after the finished tomograms")
