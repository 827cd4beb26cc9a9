"""Many tomograms at a time: Dask sends them to workers, which write their results to the store."""

from __future__ import annotations

import asyncio
import atexit
import gc
import threading
import time
import traceback
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from tomopolish.errors import RunError
from tomopolish.progress import SilentProgress
from tomopolish.results.tomogram import TomogramResult
from tomopolish.run.cluster.launch import DIED_REPEATEDLY, Cluster, cluster_of_run, threads_of_worker
from tomopolish.run.cluster.waiting import SECONDS_BETWEEN_LOOKS, scheduler_lost
from tomopolish.run.cluster.worker_device import DeviceClaim, claim_device
from tomopolish.run.failures import Failure, forget
from tomopolish.run.limits import threads_that_fit
from tomopolish.run.reporter import Pace, Reporter
from tomopolish.run.work import Work, report_failure, report_warnings

if TYPE_CHECKING:
    from distributed import Future

SECONDS_TO_ANSWER = 3
"""Time after which the scheduler is asked again for its number of workers."""

SECONDS_TO_SEND = 10
TRIES_TO_SEND = 6
"""Time in which a worker's message must arrive, and how often it is asked for, before the run ends."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """A worker's message on one tomogram; the result itself is in the store.

    Attributes
    ----------
    failure
        Reason why there is no result; None where there is a result.
    details
        Details of an internal error, for a file.
    """

    seconds: float
    warnings: tuple[str, ...] = ()
    failure: str | None = None
    details: str | None = None

    @classmethod
    def failed(cls, seconds: float, error: BaseException) -> Done:
        """Return the message of a failure."""
        failure = Failure.of(error)
        return cls(seconds=seconds, failure=failure.sentence, details=failure.details)

    def recorded(self, folder: Path, name: str) -> Done:
        """Write the details of an internal error to the output folder; returns a message with their path."""
        if self.failure is None:
            forget(folder, name)
            return self
        failure = Failure(sentence=self.failure, details=self.details).recorded(folder, name)
        return replace(self, failure=failure, details=None)


def refine_in_worker(token: str, work: Work[Any], name: str, debug: bool) -> Done:
    """Refine one tomogram in this process; data that all tomograms of a run share is prepared once."""
    start = time.perf_counter()
    try:
        held = _held(token, work)
        result = held.work.compute(name, held.prepared, SilentProgress())
    except Exception as error:
        if debug:
            traceback.print_exc()
        return Done.failed(time.perf_counter() - start, error)
    return Done(seconds=time.perf_counter() - start, warnings=tuple(result.statistics.warnings))


@dataclass(frozen=True, kw_only=True)
class _Held:
    work: Work[Any]
    prepared: Any
    claim: DeviceClaim


_held_by_token: dict[str, _Held] = {}
_lock = threading.Lock()


def _held(token: str, work: Work[Any]) -> _Held:
    """Return a run's data set and references; a process caches those of the latest run."""
    with _lock:
        if token not in _held_by_token:
            for earlier in _held_by_token.values():
                earlier.claim.release()
            _held_by_token.clear()
            atexit.register(gc.freeze)  # else Python looks for garbage as the worker ends, for half a second
            claim = claim_device(work.settings.run.device)
            run = replace(
                work.settings.run, threads=threads_here(work.settings.run.threads), device=claim.device
            )
            mine = replace(work, settings=replace(work.settings, run=run))
            try:
                _held_by_token[token] = _Held(work=mine, prepared=mine.prepare(in_worker=True), claim=claim)
            except BaseException:
                claim.release()
                raise
        return _held_by_token[token]


def threads_here(threads: int) -> int:
    """Return the share of a worker's threads that each of the tasks has that it runs at a time."""
    from distributed import get_worker

    return threads_that_fit(max(1, threads // int(get_worker().state.nthreads)))


def run_on_cluster(
    work: Work[Any],
    names: Sequence[str],
    reporter: Reporter,
    *,
    look: Callable[[], None],
    debug: bool = False,
) -> tuple[dict[str, TomogramResult], dict[str, str]]:
    """Refine tomograms on the cluster of the run's settings; see `refine_on_cluster`."""
    if not names:
        return {}, {}
    with cluster_of_run(work.settings.run, reporter, look) as cluster:
        assert cluster is not None, "the settings describe a cluster"
        return refine_on_cluster(cluster, work, names, reporter, look=look, debug=debug)


def refine_on_cluster(
    cluster: Cluster,
    work: Work[Any],
    names: Sequence[str],
    reporter: Reporter,
    *,
    look: Callable[[], None],
    debug: bool = False,
) -> tuple[dict[str, TomogramResult], dict[str, str]]:
    """Refine tomograms on a cluster's workers; returns no results (they are in the store), and the failures.

    Each worker gets no more tomograms than it refines at once, so that few are lost when a worker dies.

    Parameters
    ----------
    look
        Called about twice a second; it raises an error to end the run.

    Raises
    ------
    RunError
        When the scheduler is gone, no worker connects, and with `strict` settings when a tomogram fails.
    """
    assert work.store is not None, "workers write their results to a store"
    work = _for_workers(work)
    fleet = _Fleet(cluster=cluster, work=work, debug=debug)
    pace = Pace(total=len(names))
    waiting = deque(names)
    failures: dict[str, str] = {}
    try:
        while waiting or fleet.running:
            look()
            capacity = fleet.capacity()
            while waiting and fleet.running < capacity:
                fleet.submit(waiting.popleft())
            for name, outcome in fleet.finished():
                done = outcome.recorded(work.settings.run.output_folder, name)
                _tell(name, done, pace, reporter, work)
                if done.failure is not None:
                    failures[name] = done.failure
    except OSError as error:
        raise scheduler_lost(error) from error
    finally:
        fleet.cancel()
    return {}, failures


def _for_workers(work: Work[Any]) -> Work[Any]:
    """Return the work with the settings of a worker, which has its share of the threads."""
    run = work.settings.run
    if run.cluster is None:
        return work
    run = replace(run, threads=threads_of_worker(run.cluster, run.threads), cluster=None)
    return replace(work, settings=replace(work.settings, run=run))


def _tell(name: str, done: Done, pace: Pace, reporter: Reporter, work: Work[Any]) -> None:
    time_left = pace.left()
    left = f"{time_left} left" if time_left else "none left"
    if done.failure is not None:
        reporter.passed(name, f"failed; {left}")
        report_failure(name, done.failure, work.settings, reporter)
        return
    reporter.passed(name, f"refined, {done.seconds:.1f} s; {left}")
    report_warnings(name, done.warnings, reporter)


class _Fleet:
    """Tomograms that have been sent to workers."""

    def __init__(self, *, cluster: Cluster, work: Work[Any], debug: bool) -> None:
        self._cluster = cluster
        self._client = cluster.client
        self._work = work
        self._debug = debug
        self._token = uuid.uuid4().hex
        self._ended: SimpleQueue[Future] = SimpleQueue()
        self._futures: dict[str, tuple[str, Future]] = {}
        self._without_message: dict[str, int] = {}
        self._submitted = 0

    @property
    def running(self) -> int:
        return len(self._futures)

    def capacity(self) -> int:
        """Return how many tomograms the workers can refine at once; at least one, which waits for workers.

        Raises RunError when there has been no worker, or no answer of the scheduler, for too long.
        """
        client = self._client
        try:
            threads = client.sync(client.scheduler.ncores, callback_timeout=SECONDS_TO_ANSWER)
        except (TimeoutError, asyncio.TimeoutError):  # the same from Python 3.11 on
            self._cluster.answer.look(arrived=False)
            return self.running
        self._cluster.answer.look(arrived=True)
        self._cluster.renew()
        self._cluster.workers.look(arrived=bool(threads))
        return max(1, sum(threads.values()))

    def submit(self, name: str) -> None:
        # A key must be UTF-8, which a name need not be; converted names may be equal, so a number follows.
        text = name.encode("ascii", "backslashreplace").decode("ascii")
        self._submitted += 1
        key = f"tomogram-{self._token[:8]}-{text}-{self._submitted}"
        future = self._client.submit(
            refine_in_worker, self._token, self._work, name, self._debug, key=key, pure=False
        )
        self._futures[future.key] = (name, future)
        future.add_done_callback(self._ended.put)

    def finished(self) -> list[tuple[str, Done]]:
        """Return the tomograms that have ended since the last call, after waiting a moment for the first.

        A worker that dies may take its message along: the scheduler then has its tomogram refined again.
        """
        ended = [self._futures[key][1] for key in self._without_message]
        try:
            ended.append(self._ended.get(timeout=SECONDS_BETWEEN_LOOKS))
            while True:
                ended.append(self._ended.get_nowait())
        except Empty:
            pass
        outcomes = {future.key: self._outcome(future) for future in ended}
        return [
            (self._futures.pop(key)[0], outcome) for key, outcome in outcomes.items() if outcome is not None
        ]

    def _outcome(self, future: Future) -> Done | None:
        """Return a worker's message; None where it was lost or is late, to be asked for again."""
        tries = self._without_message.pop(future.key, 0)
        if future.status in ("lost", "pending"):
            self._without_message[future.key] = 0
            return None
        outcome = _outcome(future)
        if outcome is None:
            self._without_message[future.key] = tries + 1
            if tries + 1 == TRIES_TO_SEND:
                seconds = TRIES_TO_SEND * SECONDS_TO_SEND
                raise RunError(f"the cluster did not deliver a worker's message within {seconds} s")
        return outcome

    def cancel(self) -> None:
        """Cancel the tomograms that are still with workers."""
        futures = [future for _, future in self._futures.values()]
        if futures and self._client.status == "running":
            self._client.cancel(futures, force=True)


def _outcome(future: Future) -> Done | None:
    """Return the message of a worker whose task has ended; None where it does not arrive in time."""
    from distributed.scheduler import KilledWorker

    if future.status == "cancelled":
        raise scheduler_lost()
    try:
        done: Done = future.result(timeout=SECONDS_TO_SEND)
        return done
    except (TimeoutError, asyncio.TimeoutError):
        return None
    except (
        Exception
    ) as problem:  # an error of this tomogram, or of its worker's message: other tomograms are not affected
        if future.status == "finished" and isinstance(problem, OSError):
            raise
        error = problem
    if isinstance(error, KilledWorker):
        return Done(seconds=0.0, failure=f"its worker {DIED_REPEATEDLY}")
    return Done.failed(0.0, error)
