"""Where the workers come from: this machine, a Dask cluster that is running, or Slurm."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tomopolish.errors import InputError
from tomopolish.run.reporter import Reporter
from tomopolish.run.signals import SECONDS_TO_END, ending_may_take
from tomopolish.settings.cluster import ClusterSettings, SlurmSettings

if TYPE_CHECKING:
    from distributed import Client

SECONDS_TO_ANSWER = 10
SECONDS_TO_CANCEL = 60
"""What a busy Slurm may take to cancel all jobs."""

CONFIGURATION = {
    "distributed.scheduler.allowed-failures": 2,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    "distributed.scheduler.worker-saturation": 1.0,
}
"""A tomogram's memory cannot be spilt: a worker that has too little is ended, and twice replaced."""


def check_installed(settings: ClusterSettings) -> None:
    """Refuse, before any work, what needs packages or commands that are missing; raises InputError."""
    try:
        import distributed  # noqa: F401, PLC0415

        if settings.slurm is not None:
            import dask_jobqueue  # noqa: F401, PLC0415
    except ImportError as error:
        raise InputError(
            f"--workers, --scheduler and --slurm need Dask, and {error.name} is missing: "
            "pip install 'tomopolish[cluster]'"
        ) from error
    if settings.slurm is not None and shutil.which("sbatch") is None:
        raise InputError(
            "--slurm: the command sbatch is not there; start tomopolish where Slurm takes jobs, "
            "or drop --slurm"
        )


@contextlib.contextmanager
def open_cluster(settings: ClusterSettings, threads: int, reporter: Reporter) -> Iterator[Client]:
    """Give a client of the cluster that the settings describe; what was started for it ends with the block.

    Parameters
    ----------
    threads
        Of each worker.

    Raises
    ------
    InputError
        When Dask is missing, no scheduler answers, or jobs cannot be submitted.
    """
    check_installed(settings)
    import dask  # noqa: PLC0415  only runs on a cluster have it
    from distributed import Client  # noqa: PLC0415

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with dask.config.set(CONFIGURATION), contextlib.ExitStack() as stack:
        address: Any = settings.scheduler
        if address is None:
            address = stack.enter_context(_started(settings, threads))
        try:
            client = stack.enter_context(Client(address, timeout=SECONDS_TO_ANSWER, set_as_default=False))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                f"--scheduler {settings.scheduler}: no Dask scheduler answers there; start one with "
                "'dask scheduler' and give the address it prints"
            ) from error
        reporter.say(f"Dask dashboard: {client.dashboard_link}")
        yield client


@contextlib.contextmanager
def _started(settings: ClusterSettings, threads: int) -> Iterator[Any]:
    make = _local_cluster if settings.slurm is None else _slurm_cluster
    seconds_to_close = 5 if settings.slurm is None else SECONDS_TO_CANCEL
    with ending_may_take(seconds_to_close + SECONDS_TO_END):
        try:
            cluster = make(settings, threads)
        except (RuntimeError, OSError, ValueError) as error:
            raise InputError(f"the workers cannot be started: {' '.join(str(error).split())}") from error
        try:
            yield cluster
        finally:
            # The workers' results are stored: trouble with their end is no reason to lose them.
            with contextlib.suppress(Exception):
                cluster.close(timeout=seconds_to_close)


def _local_cluster(settings: ClusterSettings, threads: int) -> Any:
    from distributed import LocalCluster  # noqa: PLC0415

    return LocalCluster(
        n_workers=settings.workers,
        threads_per_worker=1,
        processes=True,
        memory_limit=settings.worker_memory or "auto",
        dashboard_address=":0",
        silence_logs=logging.CRITICAL,
    )


def slurm_options(slurm: SlurmSettings, threads: int) -> dict[str, Any]:
    """Return the options of dask-jobqueue's SLURMCluster: each job has a worker, or one for each of its GPUs.

    Parameters
    ----------
    threads
        Of each worker, which refines one tomogram at a time.
    """
    workers = max(1, slurm.gpus)
    gpus = [f"--gres=gpu:{slurm.gpus}"] if slurm.gpus else []
    options = {
        "queue": slurm.partition,
        "walltime": slurm.walltime,
        "memory": slurm.memory,
        "cores": workers,
        "processes": workers,
        "job_cpu": threads * workers,
        "job_name": "tomopolish",
        "job_extra_directives": [*gpus, *slurm.directives],
        "job_script_prologue": list(slurm.prologue),
        "scheduler_options": {"dashboard_address": ":0"},
    }
    return {name: value for name, value in options.items() if value is not None}


def _slurm_cluster(settings: ClusterSettings, threads: int) -> Any:
    from tomopolish.run.cluster.slurm_jobs import start_jobs  # noqa: PLC0415

    assert settings.slurm is not None and settings.workers is not None
    return start_jobs(settings.workers, slurm_options(settings.slurm, threads), SECONDS_TO_CANCEL)


def threads_of_worker(settings: ClusterSettings, threads: int) -> int:
    """Threads of each worker: those of one machine, or of one Slurm job, share `--j`."""
    if settings.is_local and settings.workers is not None:
        return max(1, threads // settings.workers)
    if settings.slurm is not None:
        return max(1, threads // max(1, settings.slurm.gpus))
    return threads
