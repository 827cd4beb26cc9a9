"""Dask workers as Slurm jobs. Imported only for runs with --slurm, since it needs dask-jobqueue."""

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
"""Maximum time that Slurm needs to list the jobs in its queue."""


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
    """The Slurm jobs of a run, and their fate."""

    job_cls = Job

    def lost(self) -> str | None:
        """Return a sentence on why no job can still start a worker; None where some may.

        If Slurm does not answer, some may.
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
        unknown = "Invalid job id" in asked.stderr  # Slurm's message on jobs that ended some time ago
        if asked.stdout.strip() or (asked.returncode and not unknown):
            return None
        return (
            f"the Slurm jobs ({', '.join(numbers)}) ended before one of their workers connected: their "
            "output (slurm-NUMBER.out) says why"
        )


def start_jobs(number: int, options: dict[str, Any], seconds_to_cancel: float) -> Jobs:
    """Return a cluster whose jobs are all submitted.

    Parameters
    ----------
    options
        Options of `dask_jobqueue.SLURMCluster`.
    seconds_to_cancel
        Maximum time to wait for Slurm to cancel jobs.

    Raises
    ------
    RuntimeError
        When Slurm refuses a job, with Slurm's message; the jobs that it accepted are cancelled.
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
        with contextlib.suppress(Exception):  # the first error says more
            cluster.close(timeout=seconds_to_cancel)
        raise
    return cluster


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


def _said(refusal: Exception) -> str:
    """Return the message of a Slurm command that failed, in one line."""
    _, _, complaint = str(refusal).rpartition("stderr:")
    return " ".join(complaint.split()) or type(refusal).__name__
