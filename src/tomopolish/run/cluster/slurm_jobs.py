"""Dask workers that are jobs of Slurm. Imported only where a run asks for them: it needs dask-jobqueue."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import shlex
import subprocess
from typing import Any

from dask_jobqueue import SLURMCluster
from dask_jobqueue.slurm import SLURMJob
from distributed.core import Status
from distributed.security import Security

SECONDS_FOR_QUEUE = 10
"""What Slurm may take to tell which jobs are in its queue."""


class Job(SLURMJob):  # type: ignore[misc]
    """A job of Slurm, which remembers why it was refused.

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
            self.status = Status.closed  # what Dask looks for, and dask-jobqueue leaves as it was


def _quoted(security: Security) -> Security:
    """Return the same with paths as a shell reads them: dask-jobqueue puts them into a script as they are."""
    quoted = copy.copy(security)
    for name in ("tls_ca_file", "tls_worker_cert", "tls_worker_key"):
        setattr(quoted, name, shlex.quote(getattr(security, name)))
    return quoted


class Jobs(SLURMCluster):  # type: ignore[misc]
    """Slurm's jobs, and what became of them."""

    job_cls = Job

    def lost(self) -> str | None:
        """Return, in a sentence, why no job can bring a worker any more; None where some may.

        Where Slurm does not answer, some may.
        """
        numbers = [str(job.job_id) for job in self.workers.values() if job.job_id is not None]
        if not numbers:
            return None
        command = ["squeue", "--noheader", "--format=%i", f"--jobs={','.join(numbers)}"]
        try:
            asked = subprocess.run(
                command, capture_output=True, text=True, timeout=SECONDS_FOR_QUEUE, check=False
            )
        except (OSError, subprocess.SubprocessError):
            return None
        unknown = "Invalid job id" in asked.stderr  # what Slurm says of jobs that ended some time ago
        if asked.stdout.strip() or (asked.returncode and not unknown):
            return None
        return (
            f"the Slurm jobs ({', '.join(numbers)}) have ended before a worker of theirs connected: their "
            "output (slurm-NUMBER.out) says why"
        )


def start_jobs(number: int, options: dict[str, Any], seconds_to_cancel: float) -> Jobs:
    """Return a cluster whose jobs are all submitted.

    Parameters
    ----------
    options
        Of `dask_jobqueue.SLURMCluster`.
    seconds_to_cancel
        How long to wait for Slurm to cancel jobs.

    Raises
    ------
    RuntimeError
        When Slurm refuses a job, with what it said; those that it took are cancelled.
    """
    cluster = Jobs(**options)
    try:
        cluster.scale(jobs=number)
        refusals = cluster.sync(_submitted, cluster)
        if refusals:
            raise RuntimeError(
                f"Slurm refused {len(refusals)} of {number} jobs ({_said(refusals[0])}); see the options "
                "that begin with --slurm_"
            )
    except BaseException:
        with contextlib.suppress(Exception):  # the first error tells more
            cluster.close(timeout=seconds_to_cancel)
        raise
    return cluster


async def _submitted(cluster: Jobs) -> list[Exception]:
    """Wait until each job is submitted or refused, and return the refusals.

    A run that is stopped meanwhile stops waiting, but submission goes on: a job whose number is not known
    could not be cancelled.
    """

    async def all_jobs() -> list[Any]:
        await cluster
        return list(await asyncio.gather(*cluster.workers.values()))

    jobs = await asyncio.shield(asyncio.ensure_future(all_jobs()))
    return [job.refusal for job in jobs if job.refusal is not None]


def _said(refusal: Exception) -> str:
    """Tell what a command of Slurm complained of, in one line."""
    _, _, complaint = str(refusal).rpartition("stderr:")
    return " ".join(complaint.split()) or type(refusal).__name__
