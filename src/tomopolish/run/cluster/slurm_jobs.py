"""Dask workers as Slurm jobs. Imported only for runs with --slurm, since it needs dask-jobqueue."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import secrets
import shlex
import subprocess
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from dask_jobqueue import SLURMCluster
from dask_jobqueue.slurm import SLURMJob
from distributed.core import Status
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.security import Security

from tomopolish.run.cluster.waiting import SECONDS_BETWEEN_QUESTIONS
from tomopolish.run.reporter import Reporter
from tomopolish.run.signals import before_forced_end

SECONDS_FOR_QUEUE = 10
"""Maximum time that Slurm needs to list the jobs in its queue."""

_WAITS = ("0", "2", "8", "30")
_CANCEL = """
waits=$0 name=$1
shift
for seconds in $waits; do
    sleep "$seconds"
    scancel --name="$name"
    [ $# -eq 0 ] || scancel "$@"
done
"""
"""Cancels jobs by name and by number, after each wait."""


class Job(SLURMJob):  # type: ignore[misc]
    """A Slurm job, which remembers why it was refused.

    An error raised while Dask starts it would be printed by Dask's event loop, would have the job submitted
    twice more, and would leave jobs that are being submitted beside it uncancelled.
    """

    refusal: Exception | None = None

    def __init__(self, *arguments: Any, security: Security | None = None, **options: Any) -> None:
        super().__init__(*arguments, security=None if security is None else _quoted(security), **options)

    async def start(self) -> None:
        """Submit the job."""
        try:
            await super().start()
        except (RuntimeError, OSError, ValueError) as error:
            self.refusal = error
            self.status = Status.running  # Dask accepts no other

    async def close(self) -> None:
        """Cancel the job."""
        try:
            await super().close()
        finally:
            self.status = Status.closed  # Dask checks the status, which dask-jobqueue does not change


def _quoted(security: Security) -> Security:
    """Return a copy with paths quoted for a shell: dask-jobqueue puts them into a script unquoted."""
    quoted = copy.copy(security)
    for name in ("tls_ca_file", "tls_worker_cert", "tls_worker_key"):
        setattr(quoted, name, shlex.quote(getattr(security, name)))
    return quoted


class Jobs(SLURMCluster):  # type: ignore[misc]
    """The Slurm jobs of a run, and their fate.

    Attributes
    ----------
    had_workers
        Names of the jobs whose workers have connected since they were submitted.
    """

    job_cls = Job

    def __init__(self, **options: Any) -> None:
        self.had_workers: set[str] = set()
        super().__init__(**options)
        self.scheduler.add_plugin(_Arrivals(self))

    def job_of(self, worker: str) -> str:
        """Return the name of a worker's job; the workers of a job with several GPUs are JOB-0, JOB-1 etc."""
        return worker if worker in self.worker_spec else worker.rpartition("-")[0]

    @property
    def numbers(self) -> list[str]:
        """Numbers of the jobs that Slurm has taken."""
        return [str(job.job_id) for job in list(self.workers.values()) if job.job_id is not None]

    @property
    def has_unknown_jobs(self) -> bool:
        """Return whether jobs have been submitted to Slurm whose numbers are not known yet."""
        return any(job.job_id is None for job in list(self.workers.values()))

    def lost(self) -> str | None:
        """Return a sentence on why no job can still start a worker; None where some may.

        If Slurm does not answer, some may.
        """
        numbers = self.numbers
        if not numbers or self.in_queue(numbers) != set():
            return None
        return (
            f"the Slurm jobs ({', '.join(numbers)}) ended before one of their workers connected: their "
            "output (workers/slurm-NUMBER.out in the output folder) says why"
        )

    def in_queue(self, numbers: Collection[str]) -> set[str] | None:
        """Return which jobs wait or run; None if Slurm does not answer."""
        command = ["squeue", "--noheader", "--format=%i", f"--jobs={','.join(numbers)}"]
        try:
            asked = subprocess.run(
                command, capture_output=True, text=True, timeout=SECONDS_FOR_QUEUE, check=False
            )
        except (OSError, subprocess.SubprocessError):
            return None
        unknown = "Invalid job id" in asked.stderr  # Slurm's message on jobs that ended some time ago
        if asked.returncode and not unknown:
            return None
        return set(numbers) & set(asked.stdout.split())

    def connected(self) -> set[str]:
        """Return the names of the jobs that have a worker now."""
        return {self.job_of(str(worker.name)) for worker in list(self.scheduler.workers.values())}

    def ended(self, names: Collection[str]) -> set[str]:
        """Return which of the named jobs have ended; none of those that Slurm does not answer about."""
        jobs = dict(self.workers)  # Dask has removed jobs whose worker has been away for a while
        numbers = {name: str(jobs[name].job_id) for name in names if name in jobs and jobs[name].job_id}
        queued = self.in_queue(list(numbers.values())) if numbers else set()
        if queued is None:
            return set()
        return {name for name in names if numbers.get(name) not in queued}

    def submit_again(self, names: Collection[str]) -> list[Exception]:
        """Submit jobs again that have ended; returns the refusals."""
        self.had_workers -= set(names)  # before, since a new job's worker may connect at once
        refusals: list[Exception] = self.sync(_submitted_again, self, names)
        if refusals:
            self.had_workers |= set(names)
        return refusals


class _Arrivals(SchedulerPlugin):  # type: ignore[misc]
    """Notes which jobs' workers connect to the scheduler."""

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs

    def add_worker(self, scheduler: Any, worker: str, **_: Any) -> None:
        """Note the job of a worker, which is given by its address."""
        self.jobs.had_workers.add(self.jobs.job_of(str(scheduler.workers[worker].name)))


@dataclass(kw_only=True, eq=False)
class Renewal:
    """Submits jobs again that ended after their worker had connected: most had reached their time limit.

    A job that ends before its worker connects is not submitted again, since it would end again.
    """

    jobs: Jobs
    reporter: Reporter
    _next_look: float = field(default=0.0, init=False)
    _has_warned: bool = field(default=False, init=False)

    def look(self) -> None:
        """Renew jobs if it is time; call this about twice a second."""
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + SECONDS_BETWEEN_QUESTIONS
            self.renew()

    def lost(self) -> str | None:
        """Renew jobs, and return a sentence on why no job can start a worker; None where some may."""
        self.renew()
        return self.jobs.lost()

    def renew(self) -> None:
        """Submit jobs again that have ended; jobs that Slurm refuses are submitted again at the next call."""
        ended = self.jobs.ended(self.jobs.had_workers - self.jobs.connected())
        if not ended:
            return
        if not self._has_warned:
            are = "1 Slurm job has" if len(ended) == 1 else f"{len(ended)} Slurm jobs have"
            it = "it is" if len(ended) == 1 else "they are"
            self.reporter.say(f"{are} ended, as at the time limit (--slurm_walltime): {it} submitted again")
        refusals = self.jobs.submit_again(ended)
        if refusals and not self._has_warned:
            self.reporter.warn(
                f"Slurm refuses to replace jobs that have ended ({_said(refusals[0])}): the run tries again "
                f"every {SECONDS_BETWEEN_QUESTIONS:.0f} s"
            )
        self._has_warned = bool(refusals)


@contextlib.contextmanager
def jobs_of_slurm(number: int, options: dict[str, Any], seconds_to_cancel: float) -> Iterator[Jobs]:
    """Give a cluster whose jobs are all submitted, and cancel them at the end, however that comes.

    Parameters
    ----------
    options
        Options of `dask_jobqueue.SLURMCluster`; the run's number is added to the job's name.
    seconds_to_cancel
        Maximum time to wait for Slurm to cancel jobs.

    Raises
    ------
    RuntimeError
        When Slurm refuses a job, with Slurm's message; the jobs that it accepted are cancelled.
    """
    name = f"{options.get('job_name', 'dask')}-{secrets.token_hex(4)}"
    cluster = Jobs(**{**options, "job_name": name})
    with before_forced_end(lambda: _cancel_from_outside(name, cluster)):
        try:
            cluster.scale(jobs=number)
            refusals = cluster.sync(_submitted, cluster)
            if refusals:
                raise RuntimeError(
                    f"Slurm refused {len(refusals)} of {number} jobs ({_said(refusals[0])}); see the options "
                    "that begin with --slurm_"
                )
            yield cluster
        finally:
            has_unknown = cluster.has_unknown_jobs
            with contextlib.suppress(Exception):  # an error of the block tells more; its results are stored
                cluster.close(timeout=seconds_to_cancel)
            if has_unknown:  # sbatch was interrupted, and may have submitted a job all the same
                with contextlib.suppress(OSError, subprocess.SubprocessError):
                    subprocess.run(
                        ["scancel", f"--name={name}"],
                        stdin=subprocess.DEVNULL,
                        capture_output=True,
                        timeout=SECONDS_FOR_QUEUE,
                        check=False,
                    )


def _cancel_from_outside(name: str, cluster: Jobs) -> None:
    """Cancel the jobs from a process that lasts longer than this one, which is about to be ended.

    A job that is being submitted has no number yet, and is cancelled by its name once Slurm has it.
    """
    waits = _WAITS if cluster.has_unknown_jobs else _WAITS[:1]
    subprocess.Popen(
        ["sh", "-c", _CANCEL, " ".join(waits), name, *cluster.numbers],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


async def _submitted(cluster: Jobs) -> list[Exception]:
    """Wait until each job is submitted or refused, and return the refusals.

    A run that is stopped meanwhile stops waiting, but submission continues: a job whose number is unknown
    could not be cancelled.
    """

    async def all_jobs() -> list[Any]:
        await cluster
        return list(await asyncio.gather(*cluster.workers.values()))

    jobs = await asyncio.shield(asyncio.ensure_future(all_jobs()))
    return [job.refusal for job in jobs if job.refusal is not None]


async def _submitted_again(cluster: Jobs, names: Collection[str]) -> list[Exception]:
    """Submit jobs again, and return the refusals."""
    ended = [cluster.workers.pop(name) for name in names if name in cluster.workers]
    await asyncio.gather(*(job.close() for job in ended))
    return await _submitted(cluster)


def _said(refusal: Exception) -> str:
    """Return the message of a Slurm command that failed, in one line."""
    _, _, complaint = str(refusal).rpartition("stderr:")
    return " ".join(complaint.split()) or type(refusal).__name__
