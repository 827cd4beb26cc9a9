"""Dask workers that are jobs of Slurm. Imported only where a run asks for them: it needs dask-jobqueue."""

from __future__ import annotations

import asyncio
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
        await super().close()
        self.status = Status.closed  # what Dask looks for, and dask-jobqueue leaves as it was


def start_jobs(number: int, options: dict[str, Any]) -> SLURMCluster:
    """Return a cluster whose jobs are all submitted.

    Parameters
    ----------
    options
        Of `dask_jobqueue.SLURMCluster`.

    Raises
    ------
    RuntimeError, OSError, ValueError
        When Slurm refuses a job; those that it took are cancelled.
    """
    cluster = SLURMCluster(job_cls=Job, **options)
    try:
        cluster.scale(jobs=number)
        cluster.sync(_submitted, cluster)
    except BaseException:
        cluster.close(timeout=5)
        raise
    return cluster


async def _submitted(cluster: SLURMCluster) -> None:
    """Wait until each job is submitted or refused; raises what the first that was refused did."""
    await cluster
    for job in await asyncio.gather(*cluster.workers.values()):
        if job.refusal is not None:
            raise job.refusal
