"""Workers on this machine, of a running Dask cluster, or as Slurm jobs."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomopolish.errors import InputError
from tomopolish.run.cluster.security import (
    own_security,
    scratch_folder,
    security_with,
    shared_security,
)
from tomopolish.run.cluster.waiting import Patience, wait_for_scheduler
from tomopolish.run.folder.written import STATE_FOLDER
from tomopolish.run.reporter import Reporter
from tomopolish.run.signals import SECONDS_TO_END, deferred_signals, ending_may_take
from tomopolish.settings.alignment import RunSettings
from tomopolish.settings.cluster import ClusterSettings, SlurmSettings

if TYPE_CHECKING:
    from distributed import Client
    from distributed.security import Security

    from tomopolish.run.cluster.slurm_jobs import Renewal

LOGS_FOLDER = "workers"
"""Folder of the output of Slurm's jobs, in the output folder."""

LOG_OF_JOB = "slurm-NUMBER.out"

SECONDS_TO_ANSWER = 30
SECONDS_TO_CLOSE = 5
SECONDS_TO_CANCEL = 60
"""Maximum time that a busy Slurm needs to cancel all jobs."""

LEAST_WORKER_BYTES = 200_000_000
"""Memory of a worker that has imported the program and is idle, as measured."""

DIED_REPEATEDLY = (
    "died repeatedly: killed, out of memory, or at the time limit of its job; give workers more memory "
    "(--worker_memory, --slurm_memory) or time (--slurm_walltime), or start fewer"
)
"""Fate of a worker that was replaced as often as is allowed."""

CONFIGURATION = {
    "distributed.scheduler.allowed-failures": 2,
    "distributed.worker.http.routes": [],
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    "distributed.scheduler.worker-saturation": 1.0,
}
"""A tomogram's memory cannot be spilt: a worker with too little is ended, and replaced up to twice.

Dask's servers always open a port for a browser; without routes nothing is served there.
"""

DASHBOARD_ROUTES = ["distributed.http.scheduler.info", "distributed.http.statics"]
DASHBOARD_ADDRESS = "127.0.0.1:0"
"""The dashboard has no password; it is served to this machine alone, at a free port."""

NO_ROUTES = "export DASK_DISTRIBUTED__WORKER__HTTP__ROUTES='[]'"
"""The setting without routes for workers of Slurm jobs, which do not see this process's configuration."""

SAFE_PATH = "export PYTHONSAFEPATH=1"
"""Python 3.11 and newer then import nothing from the working directory, which may hold files of others."""

SCRATCH = (
    'export DASK_TEMPORARY_DIRECTORY="$(mktemp -d)" || exit 1',
    """trap 'rm -rf "$DASK_TEMPORARY_DIRECTORY"' EXIT""",
)
"""A scratch folder of the job's own: see `scratch_folder`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Cluster:
    """A connection to the scheduler, and through it to present and future workers.

    Attributes
    ----------
    workers, answer
        Limits of the waits for a first worker, and for a scheduler that no longer answers.
    renew
        Called about twice a second while workers compute; replaces Slurm jobs that have reached their time
        limit.
    """

    client: Client
    workers: Patience
    answer: Patience
    renew: Callable[[], None] = lambda: None


def check_installed(settings: ClusterSettings) -> None:
    """Raise InputError, before any work, when packages, commands or memory for the settings are missing."""
    needed = ["distributed"]
    if settings.scheduler is None:
        needed.append("cryptography")
    if settings.slurm is not None:
        needed.append("dask_jobqueue")
    if settings.dashboard and settings.scheduler is None:
        needed.append("bokeh")
    for name in needed:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise InputError(
                f"--workers, --scheduler and --slurm need Dask, and {error.name} is missing: "
                "pip install 'tomopolish[cluster]'"
            ) from error
    if settings.slurm is not None and shutil.which("sbatch") is None:
        raise InputError(
            "--slurm: command not found: sbatch; start tomopolish where Slurm accepts jobs, or drop --slurm"
        )
    if settings.worker_memory is not None:
        _check_memory(settings.worker_memory)


def _check_memory(text: str) -> None:
    from dask.utils import parse_bytes

    try:
        limit = parse_bytes(text)
    except ValueError as error:
        raise InputError(
            f"--worker_memory {text} is not a valid size: give a number and a unit, such as 16GB"
        ) from error
    if limit < LEAST_WORKER_BYTES:
        raise InputError(
            f"--worker_memory {text} is less than an idle worker needs: give "
            f"{LEAST_WORKER_BYTES // 10**6}MB or more"
        )


@contextlib.contextmanager
def cluster_of_run(
    run: RunSettings, reporter: Reporter, look: Callable[[], None] = lambda: None
) -> Iterator[Cluster | None]:
    """Open the cluster that a run's settings describe, for all within the block; None where there is none.

    Parameters
    ----------
    run
        Settings, with an output folder that Slurm's jobs can read.
    look
        As in `open_cluster`.
    """
    if run.cluster is None:
        yield None
        return
    threads, folder = threads_of_worker(run.cluster, run.threads), run.output_folder / STATE_FOLDER
    with open_cluster(run.cluster, threads, reporter, shared_folder=folder, look=look) as cluster:
        yield cluster


@contextlib.contextmanager
def open_cluster(
    settings: ClusterSettings,
    threads: int,
    reporter: Reporter,
    *,
    shared_folder: Path,
    look: Callable[[], None] = lambda: None,
) -> Iterator[Cluster]:
    """Connect to the cluster that the settings describe; workers that were started end with the block.

    Parameters
    ----------
    threads
        Number of threads of each worker.
    shared_folder
        Folder that Slurm's jobs can read.
    look
        Called about twice a second during waits; it raises an error to end the run.

    Raises
    ------
    InputError
        When Dask is missing, no scheduler answers, or jobs cannot be submitted.
    """
    check_installed(settings)
    import dask
    from distributed import Client

    for library in ("distributed", "asyncio", "tornado.application"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    answer = Patience(
        awaited=f"the Dask scheduler {settings.scheduler or 'of this run'} to answer",
        remedy="check that it runs and that this machine can reach it",
        seconds=settings.patience_s,
        reporter=reporter,
    )
    routes = DASHBOARD_ROUTES if settings.dashboard else []
    configuration = {**CONFIGURATION, "distributed.scheduler.http.routes": routes}
    with contextlib.ExitStack() as stack:
        if settings.scheduler is None:
            configuration["temporary-directory"] = str(stack.enter_context(scratch_folder(shared_folder)))
            os.environ.setdefault("PYTHONSAFEPATH", "1")  # workers import nothing from the working directory
        stack.enter_context(dask.config.set(configuration))
        options: dict[str, Any] = {}
        renewal: Renewal | None = None
        if settings.scheduler is not None:
            options["security"] = security_with(settings, reporter.warn)
            wait_for_scheduler(settings.scheduler, options["security"], answer, look)
            source: Any = settings.scheduler
        else:
            source = stack.enter_context(_started(settings, threads, shared_folder))
            if settings.slurm is not None:
                from tomopolish.run.cluster.slurm_jobs import Renewal

                renewal = Renewal(jobs=source, reporter=reporter)
        try:
            client = Client(source, timeout=SECONDS_TO_ANSWER, set_as_default=False, **options)
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"the workers cannot be reached: {' '.join(str(error).split())}") from error
        stack.callback(_close, client)
        if settings.dashboard:
            reporter.say(f"Dask dashboard: {_dashboard(client, settings)}")
        elif settings.scheduler is None:
            reporter.say(
                "Workers are reached over TLS, with certificates of this run (--dashboard: watch them)"
            )
        patience = _patience(settings, reporter)
        if renewal is None:
            yield Cluster(client=client, workers=patience, answer=answer)
        else:
            patience = replace(patience, lost=renewal.lost)
            yield Cluster(client=client, workers=patience, answer=answer, renew=renewal.look)


def _close(client_or_cluster: Any) -> None:
    # The workers' results are stored: an error at the end of a connection must not lose them.
    with contextlib.suppress(Exception):
        client_or_cluster.close(timeout=SECONDS_TO_CLOSE)


def _dashboard(client: Client, settings: ClusterSettings) -> str:
    if settings.scheduler is not None:
        return str(client.dashboard_link)
    return f"http://127.0.0.1:{client.scheduler_info()['services']['dashboard']}/status"


def _patience(settings: ClusterSettings, reporter: Reporter) -> Patience:
    if settings.scheduler is not None:
        awaited = f"a worker of the Dask scheduler {settings.scheduler}"
        remedy = f"start workers with 'dask worker {settings.scheduler}'"
    elif settings.slurm is not None:
        awaited = "the worker of a Slurm job"
        remedy = f"'squeue --me' lists the jobs, and {LOGS_FOLDER}/{LOG_OF_JOB} contains their output"
    else:
        awaited = "a worker process that does not end"
        remedy = "give workers more memory (--worker_memory), or start fewer (--workers)"
    return Patience(awaited=awaited, remedy=remedy, seconds=settings.patience_s, reporter=reporter)


@contextlib.contextmanager
def _started(settings: ClusterSettings, threads: int, shared_folder: Path) -> Iterator[Any]:
    """Start workers on this machine or as Slurm jobs; they end with the block."""
    seconds_to_close = SECONDS_TO_CLOSE if settings.slurm is None else SECONDS_TO_CANCEL
    with ending_may_take(seconds_to_close + SECONDS_TO_END), contextlib.ExitStack() as stack:
        try:
            if settings.slurm is None:
                with deferred_signals():  # Dask cannot close a cluster that has started in part
                    cluster = _local_cluster(settings)
                    stack.callback(_close, cluster)
            else:
                security = stack.enter_context(shared_security(shared_folder))
                logs = shared_folder.parent.absolute() / LOGS_FOLDER
                logs.mkdir(exist_ok=True)
                cluster = stack.enter_context(_slurm_cluster(settings, threads, security, logs))
        except (RuntimeError, OSError, ValueError) as error:
            raise InputError(f"the workers cannot be started: {' '.join(str(error).split())}") from error
        yield cluster


def _scheduler_options(settings: ClusterSettings) -> dict[str, Any]:
    return {"dashboard": settings.dashboard, "dashboard_address": DASHBOARD_ADDRESS}


def _local_cluster(settings: ClusterSettings) -> Any:
    from distributed import LocalCluster

    return LocalCluster(
        n_workers=settings.workers,
        threads_per_worker=1,
        processes=True,
        memory_limit=settings.worker_memory or "auto",
        security=own_security(),
        scheduler_kwargs=_scheduler_options(settings),
        silence_logs=logging.CRITICAL,
    )


def slurm_options(slurm: SlurmSettings, threads: int, logs: Path | None = None) -> dict[str, Any]:
    """Return the options of dask-jobqueue's SLURMCluster: a job has one worker, or one for each of its GPUs.

    Parameters
    ----------
    threads
        Number of threads of each worker, which refines one tomogram at a time.
    logs
        Folder of the jobs' output; None: Slurm decides.
    """
    workers = max(1, slurm.gpus)
    lines = [f"--gres=gpu:{slurm.gpus}"] if slurm.gpus else []
    lines += [f"--qos={slurm.qos}"] if slurm.qos else []
    if logs is not None:  # Slurm replaces %j by the job's number
        log = f"{logs}/".replace("%", "%%") + LOG_OF_JOB.replace("NUMBER", "%j")
        lines.append(f"--output={shlex.quote(log)}")
    options = {
        "queue": slurm.partition,
        "account": slurm.account,
        "walltime": slurm.walltime,
        "memory": slurm.memory,
        "cores": workers,
        "processes": workers,
        "job_cpu": threads * workers,
        "job_name": "tomopolish",
        "job_extra_directives": [*lines, *slurm.directives],
        "job_script_prologue": [NO_ROUTES, SAFE_PATH, *slurm.prologue, *SCRATCH],
        "worker_extra_args": ["--no-dashboard"],
    }
    return {name: value for name, value in options.items() if value is not None}


def _slurm_cluster(settings: ClusterSettings, threads: int, security: Security, logs: Path) -> Any:
    from tomopolish.run.cluster.slurm_jobs import jobs_of_slurm

    assert settings.slurm is not None and settings.workers is not None
    options = {
        **slurm_options(settings.slurm, threads, logs),
        "security": security,
        "scheduler_options": _scheduler_options(settings),
    }
    return jobs_of_slurm(settings.workers, options, SECONDS_TO_CANCEL)


def job_script(settings: ClusterSettings, threads: int, output_folder: Path) -> str:
    """Return the script of each Slurm job of a run, with words in place of what is known when it starts.

    Parameters
    ----------
    threads
        Number of threads of the run.
    """
    from distributed.security import Security

    from tomopolish.run.cluster.slurm_jobs import Job

    assert settings.slurm is not None
    logs = output_folder.absolute() / LOGS_FOLDER
    files = {f"tls_{name}": f"{name.upper()}.pem" for name in ("ca_file", "worker_cert", "worker_key")}
    options = slurm_options(settings.slurm, threads_of_worker(settings, threads), logs)
    script = Job(
        "tls://HOST:PORT", name="NAME", security=Security(require_encryption=True, **files), **options
    )
    return str(script.job_script()).rstrip()


def threads_of_worker(settings: ClusterSettings, threads: int) -> int:
    """Return the number of threads of each worker: those of one machine, or of one Slurm job, share `--j`."""
    if settings.is_local and settings.workers is not None:
        return max(1, threads // settings.workers)
    if settings.slurm is not None:
        return max(1, threads // max(1, settings.slurm.gpus))
    return threads
