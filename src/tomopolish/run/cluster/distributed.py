"""Many tomograms at a time: Dask hands them to workers, which leave their results in the store."""

from __future__ import annotations

import threading
import time
import traceback
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from tomopolish.errors import RunError
from tomopolish.progress import SilentProgress
from tomopolish.results.tomogram import TomogramResult
from tomopolish.run.cluster.launch import open_cluster, threads_of_worker
from tomopolish.run.cluster.worker_device import DeviceClaim, claim_device
from tomopolish.run.failures import Failure, forget
from tomopolish.run.reporter import Reporter
from tomopolish.run.work import Work, report_failure, report_warnings
from tomopolish.settings.alignment import RunSettings
from tomopolish.settings.cluster import ClusterSettings

if TYPE_CHECKING:
    from distributed import Client, Future

SECONDS_BETWEEN_LOOKS = 0.5


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a worker says of one tomogram; the result itself is in the store.

    Attributes
    ----------
    failure
        The reason, where there is no result.
    details
        What of an internal error goes to a file.
    """

    seconds: float
    warnings: tuple[str, ...] = ()
    failure: str | None = None
    details: str | None = None

    @classmethod
    def failed(cls, seconds: float, error: BaseException) -> Done:
        """Describe a failure."""
        failure = Failure.of(error)
        return cls(seconds=seconds, failure=failure.sentence, details=failure.details)

    def recorded(self, folder: Path, name: str) -> Done:
        """Keep the details of an internal error in the output folder, and name their file in the reason."""
        if self.failure is None:
            forget(folder, name)
            return self
        failure = Failure(sentence=self.failure, details=self.details).recorded(folder, name)
        return replace(self, failure=failure, details=None)


def refine_in_worker(token: str, work: Work[Any], name: str, debug: bool) -> Done:
    """Refine one tomogram in this process; what all tomograms of a run share is made ready once."""
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
    """Return a run's data set and references, of which a process keeps the latest run's."""
    with _lock:
        if token not in _held_by_token:
            for earlier in _held_by_token.values():
                earlier.claim.release()
            _held_by_token.clear()
            claim = claim_device(work.settings.run.device)
            run = replace(work.settings.run, threads=_threads(work.settings.run), device=claim.device)
            mine = replace(work, settings=replace(work.settings, run=run))
            try:
                _held_by_token[token] = _Held(work=mine, prepared=mine.prepare(), claim=claim)
            except BaseException:
                claim.release()
                raise
        return _held_by_token[token]


def _threads(run: RunSettings) -> int:
    """Threads of one of the tomograms that this worker, one of several, refines at a time."""
    from distributed import get_worker  # noqa: PLC0415  only runs on a cluster have it

    return max(1, run.threads // int(get_worker().state.nthreads))


def run_on_cluster(
    work: Work[Any],
    names: Sequence[str],
    reporter: Reporter,
    *,
    cluster: ClusterSettings,
    look: Callable[[], None],
    debug: bool = False,
) -> tuple[dict[str, TomogramResult], dict[str, str]]:
    """Refine tomograms on a cluster of its own or one that is running; see `refine_on_cluster`."""
    if not names:
        return {}, {}
    threads = threads_of_worker(cluster, work.settings.run.threads)
    run = replace(work.settings.run, threads=threads, cluster=None)
    work = replace(work, settings=replace(work.settings, run=run))
    with open_cluster(cluster, threads, reporter) as client:
        return refine_on_cluster(client, work, names, reporter, look=look, debug=debug)


def refine_on_cluster(
    client: Client,
    work: Work[Any],
    names: Sequence[str],
    reporter: Reporter,
    *,
    look: Callable[[], None],
    debug: bool = False,
) -> tuple[dict[str, TomogramResult], dict[str, str]]:
    """Refine tomograms on a cluster's workers; returns no results (the store has them), and the failures.

    Each worker is given no more than it can do at once, so that one that dies takes no others down.

    Parameters
    ----------
    look
        Called about twice a second; raises to end the run.

    Raises
    ------
    RunError
        When the scheduler is gone, and with `strict` settings when a tomogram fails.
    """
    assert work.store is not None, "workers leave their results in a store"
    fleet = _Fleet(client=client, work=work, debug=debug)
    pace = _Pace(total=len(names))
    waiting = deque(names)
    failures: dict[str, str] = {}
    try:
        while waiting or fleet.running:
            look()
            while waiting and fleet.running < fleet.capacity():
                fleet.submit(waiting.popleft())
            for name, outcome in fleet.finished():
                done = outcome.recorded(work.settings.run.output_folder, name)
                _tell(name, done, pace, reporter, work)
                if done.failure is not None:
                    failures[name] = done.failure
    except OSError as error:
        raise RunError(
            f"the connection to the cluster is lost ({error}); --only_do_unfinished goes on from the "
            "tomograms that were finished"
        ) from error
    finally:
        fleet.cancel()
    return {}, failures


def _tell(name: str, done: Done, pace: _Pace, reporter: Reporter, work: Work[Any]) -> None:
    left = pace.left()
    if done.failure is not None:
        reporter.passed(name, f"failed; {left}")
        report_failure(name, done.failure, work.settings, reporter)
        return
    reporter.passed(name, f"refined, {done.seconds:.1f} s; {left}")
    report_warnings(name, done.warnings, reporter)


@dataclass(kw_only=True)
class _Pace:
    """How long the rest takes if it goes on like this."""

    total: int
    _done: int = 0
    _start: float = field(default_factory=time.monotonic)

    def left(self) -> str:
        """Count one tomogram, and say how long the others take."""
        self._done += 1
        rest = self.total - self._done
        if not rest:
            return "none left"
        seconds = (time.monotonic() - self._start) / self._done * rest
        text = f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
        return f"{rest} left, about {text if seconds < 5400 else f'{seconds / 3600:.1f} h'}"


class _Fleet:
    """The tomograms that are with workers."""

    def __init__(self, *, client: Client, work: Work[Any], debug: bool) -> None:
        self._client = client
        self._work = work
        self._debug = debug
        self._token = uuid.uuid4().hex
        self._ended: SimpleQueue[Future] = SimpleQueue()
        self._futures: dict[str, tuple[str, Future]] = {}

    @property
    def running(self) -> int:
        return len(self._futures)

    def capacity(self) -> int:
        """Tomograms that the workers of this moment can refine at once."""
        return max(1, sum(self._client.nthreads().values()))

    def submit(self, name: str) -> None:
        key = f"tomogram-{self._token[:8]}-{name}"
        future = self._client.submit(
            refine_in_worker, self._token, self._work, name, self._debug, key=key, pure=False
        )
        self._futures[future.key] = (name, future)
        future.add_done_callback(self._ended.put)

    def finished(self) -> list[tuple[str, Done]]:
        """Return the tomograms that ended since, waiting a moment for the first."""
        ended = []
        try:
            ended.append(self._ended.get(timeout=SECONDS_BETWEEN_LOOKS))
            while True:
                ended.append(self._ended.get_nowait())
        except Empty:
            pass
        return [(self._futures.pop(future.key)[0], _outcome(future)) for future in ended]

    def cancel(self) -> None:
        """Give up what is still with workers."""
        futures = [future for _, future in self._futures.values()]
        if futures and self._client.status == "running":
            self._client.cancel(futures, force=True)


def _outcome(future: Future) -> Done:
    from distributed.scheduler import KilledWorker  # noqa: PLC0415  only runs on a cluster have it

    if future.status == "finished":
        done: Done = future.result()
        return done
    if future.status != "error":
        raise RunError(
            "the cluster's scheduler is gone; --only_do_unfinished goes on from the tomograms that were "
            "finished"
        )
    error = future.exception()
    if isinstance(error, KilledWorker):
        sentence = (
            "its worker died again and again: killed, or out of memory; give workers more memory "
            "(--worker_memory, --slurm_memory), or start fewer"
        )
        return Done(seconds=0.0, failure=sentence)
    return Done.failed(0.0, error)
