"""Dask workers that are jobs of Slurm. Imported only where a run asks for them: it needs dask-jobqueue."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from dask_jobqueue import SLURMCluster
from dask_jobqueue.slurm import SLURMJob
from distributed.core import Status


class Job(SLURMJob):  # type: ignore[misc]
    """A job of Slurm, which remembers why it was refused.

    An error raised while Dask starts it would be printed by Dask's event loop, would have the job submitted
    twice more, and would leave jobs that are being submitted beside it uncancelled.
    """

    refusal: Exception | None = None

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


def start_jobs(number: int, options: dict[str, Any], seconds_to_cancel: float) -> SLURMCluster:
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
    cluster = SLURMCluster(job_cls=Job, **options)
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


async def _submitted(cluster: SLURMCluster) -> list[Exception]:
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
