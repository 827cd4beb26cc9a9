"""Options of runs that refine several tomograms at a time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tomopolish.settings.refuse import refuse, refuse_above


@dataclass(frozen=True, kw_only=True)
class SlurmSettings:
    """Resources and settings of each Slurm job.

    Attributes
    ----------
    partition, account, qos, walltime, memory
        `--slurm_partition`, `--slurm_account`, `--slurm_qos`, `--slurm_walltime`, `--slurm_memory`.
    gpus
        `--slurm_gpus`: GPUs of each job.
    directives
        `--slurm_directive`: further lines after #SBATCH.
    prologue
        `--slurm_prologue`: lines that a job runs first, such as ``module load``.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    walltime: str | None = None
    memory: str = "8GB"
    gpus: int = 0
    directives: tuple[str, ...] = ()
    prologue: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        refuse(self.gpus < 0, f"--slurm_gpus {self.gpus} is negative: give 0 or more")
        refuse_above("--slurm_gpus", self.gpus, 64, "no machine has more")
        single = (self.partition, self.account, self.qos, self.walltime)
        texts = (*(text or "" for text in single), self.memory, *self.directives)
        refuse(
            any("\n" in text or "\r" in text for text in texts),
            "an option for Slurm spans several lines: give one --slurm_directive for each line",
        )


@dataclass(frozen=True, kw_only=True)
class TlsFiles:
    """PEM files with which a run and a running Dask scheduler authenticate each other.

    Attributes
    ----------
    ca_file
        `--tls_ca_file`: certificate of the authority that signed those of scheduler, workers and run.
    cert, key
        `--tls_cert`, `--tls_key`: certificate and key of the run; None: the certificate's file has the key.
    """

    ca_file: Path
    cert: Path
    key: Path | None = None


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """Processes that refine several tomograms at a time.

    Attributes
    ----------
    workers
        `--workers`: number of processes on this machine, or of Slurm jobs.
    scheduler
        `--scheduler`: address of a running Dask scheduler.
    slurm
        `--slurm` and the options with this prefix; None: no Slurm.
    worker_memory
        `--worker_memory`: a process on this machine that exceeds this limit is stopped and replaced.
    tls
        Certificates for `scheduler`; None: Dask's own configuration applies. Workers that a run starts have
        certificates of the run.
    dashboard
        `--dashboard`: whether to serve Dask's dashboard, which all users of this machine can open.
    connect_timeout_s
        `--connect_timeout`: time without a scheduler, or without any worker, after which a run fails; None:
        see `patience_s`.
    """

    workers: int | None = None
    scheduler: str | None = None
    slurm: SlurmSettings | None = None
    worker_memory: str | None = None
    tls: TlsFiles | None = None
    dashboard: bool = False
    connect_timeout_s: float | None = None

    @property
    def patience_s(self) -> float:
        """Time to wait for a scheduler and a first worker; half a minute, but a day with Slurm's queue."""
        usual = 30.0 if self.slurm is None else 86400.0
        return usual if self.connect_timeout_s is None else self.connect_timeout_s

    @property
    def is_local(self) -> bool:
        """Whether the workers are processes on this machine."""
        return self.scheduler is None and self.slurm is None

    def __post_init__(self) -> None:
        refuse(
            self.workers is not None and self.workers < 1,
            f"--workers {self.workers} is not a valid number of workers: give 1 or more",
        )
        refuse_above("--workers", self.workers, 10_000, "a worker needs cores and memory of its own")
        refuse(
            self.scheduler is not None and self.slurm is not None,
            "--scheduler and --slurm exclude each other: the running cluster has its workers already",
        )
        refuse(
            self.scheduler is not None and self.workers is not None,
            "--scheduler and --workers exclude each other: the running cluster has its workers already",
        )
        refuse(
            self.scheduler is None and self.workers is None,
            "--slurm needs --workers: how many jobs to start",
        )
        refuse(
            self.worker_memory is not None and self.slurm is not None,
            "--worker_memory is for workers on this machine: with --slurm, give --slurm_memory",
        )
        refuse(
            self.worker_memory is not None and self.scheduler is not None,
            "--worker_memory is for workers on this machine: those of a running cluster have their own",
        )
        refuse(
            self.tls is not None and self.scheduler is None,
            "--tls_ca_file, --tls_cert and --tls_key are for --scheduler: workers that this run starts get "
            "certificates of the run; leave them out",
        )
        refuse(
            self.tls is not None and not (self.scheduler or "").startswith("tls://"),
            f"--tls_ca_file and --tls_cert need an address that begins with tls://, not --scheduler "
            f"{self.scheduler}",
        )
        refuse(
            self.connect_timeout_s is not None and not self.connect_timeout_s > 0,
            "--connect_timeout must be above 0 seconds",
        )
        refuse_above("--connect_timeout", self.connect_timeout_s, 1e7, "that is four months")
