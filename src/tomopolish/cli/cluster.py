"""Options that spread tomograms over processes and machines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from tomopolish.cli.grouped import FILE, NUMBER, Section
from tomopolish.cli.yaml_files import read_yaml
from tomopolish.errors import InputError
from tomopolish.settings.cluster import ClusterSettings, SlurmSettings, TlsFiles

PROFILE_KEYS: dict[str, type[Any]] = {
    "workers": int,
    "scheduler": str,
    "worker_memory": str,
    "connect_timeout": float,
    "dashboard": bool,
    "tls_ca_file": str,
    "tls_cert": str,
    "tls_key": str,
    "slurm": bool,
    "slurm_partition": str,
    "slurm_walltime": str,
    "slurm_memory": str,
    "slurm_gpus": int,
    "slurm_directive": list,
    "slurm_prologue": list,
}
"""What a profile may set: the options, under their own names."""


def cluster_section() -> Section:
    """Declare the options."""
    section = Section("Several tomograms at a time")
    section.value("--workers", "N", "Processes that share --j on this machine, or Slurm jobs.", type=int)
    section.value("--scheduler", "ADDRESS", "Use a Dask cluster that is running: tls://host:8786.", type=str)
    section.value("--tls_ca_file", "PEM", "With --scheduler tls://…: the certificates' authority.", type=str)
    section.value("--tls_cert", "PEM", "With --scheduler tls://…: the certificate of this run.", type=str)
    section.value("--tls_key", "PEM", "Its private key, where --tls_cert does not hold it.", type=str)
    section.value("--worker_memory", "SIZE", "Memory of each process on this machine, as 16GB.", type=str)
    section.value(
        "--connect_timeout", "SECONDS",
        "Give up after so long without any worker; 60, or with --slurm a day, unless given.", type=NUMBER,
    )  # fmt: skip
    section.flag("--dashboard", "Show Dask's dashboard at a port that all users of this machine can read.")
    section.flag("--slurm", "Start the workers as jobs of Slurm; --j threads each.")
    section.value("--slurm_partition", "NAME", "Partition of the jobs.", type=str)
    section.value("--slurm_walltime", "TIME", "Time limit of each job, as 12:00:00.", type=str)
    section.value("--slurm_memory", "SIZE", "Memory of each job; 8GB unless given.", type=str)
    section.value("--slurm_gpus", "N", "GPUs of each job, a worker for each; none unless given.", type=int)
    section.value("--slurm_directive", "TEXT", "Another #SBATCH line; repeatable.", type=str, multiple=True)
    section.value(
        "--slurm_prologue", "LINE", "Line that a job runs first; repeatable.", type=str, multiple=True
    )
    section.value("--cluster_profile", "YAML", "File that sets options of this group.", type=FILE)
    return section


def cluster_from(values: Mapping[str, Any]) -> ClusterSettings | None:
    """Turn parsed options into settings; options win over the profile, whose lists come first.

    Raises InputError when they cannot work together, or the profile is malformed.
    """
    path = values["cluster_profile"]
    found = dict.fromkeys(PROFILE_KEYS) if path is None else read_profile(path)
    for name in PROFILE_KEYS:
        value = values[name]
        if isinstance(value, tuple):
            found[name] = (*(found[name] or ()), *value)
        elif value is not None and value is not False:
            found[name] = value
    slurm = None
    companions = {
        "partition": found["slurm_partition"],
        "walltime": found["slurm_walltime"],
        "memory": found["slurm_memory"],
        "gpus": found["slurm_gpus"],
        "directives": found["slurm_directive"] or None,
        "prologue": found["slurm_prologue"] or None,
    }
    given = {name: value for name, value in companions.items() if value is not None}
    if found["slurm"]:
        slurm = SlurmSettings(**given)
    elif given:
        raise InputError("options for Slurm jobs do nothing without --slurm: add it, or drop them")
    if found["workers"] is None and found["scheduler"] is None and slurm is None:
        for name in ("worker_memory", "connect_timeout", "dashboard", "tls_ca_file", "tls_cert", "tls_key"):
            if found[name] not in (None, False):
                raise InputError(
                    f"--{name} does nothing without --workers or --scheduler: add it, or drop it"
                )
        return None
    return ClusterSettings(
        workers=found["workers"],
        scheduler=found["scheduler"],
        slurm=slurm,
        worker_memory=found["worker_memory"],
        tls=_tls_files(found),
        dashboard=bool(found["dashboard"]),
        connect_timeout_s=found["connect_timeout"],
    )


def _tls_files(found: Mapping[str, Any]) -> TlsFiles | None:
    paths = {name: found[f"tls_{name}"] for name in ("ca_file", "cert", "key")}
    if not any(paths.values()):
        return None
    for name in ("ca_file", "cert"):
        if not paths[name]:
            raise InputError(f"--tls_ca_file and --tls_cert belong together: add --tls_{name}")
    return TlsFiles(**{name: Path(path) for name, path in paths.items() if path})


def read_profile(path: Path) -> dict[str, Any]:
    """Read a YAML file of options; raises InputError when it is missing, malformed, or sets others."""
    content = read_yaml(path, f"--cluster_profile {path}")
    if not isinstance(content, dict):
        raise InputError(f"--cluster_profile {path}: there are no options in it; write 'workers: 4'")
    for name, value in content.items():
        kind = PROFILE_KEYS.get(name) if isinstance(name, str) else None
        if kind is None:
            known = ", ".join(PROFILE_KEYS)
            raise InputError(f"--cluster_profile {path}: {brief(name)} is unknown; it may set {known}")
        _check_kind(path, name, value, kind)
    lists = {name: tuple(value) for name, value in content.items() if isinstance(value, list)}
    return {**dict.fromkeys(PROFILE_KEYS), **content, **lists}


def _check_kind(path: Path, name: str, value: Any, kind: type[Any]) -> None:
    words = {
        int: "a number",
        float: "a number",
        str: "text (in quotes)",
        bool: "true or false",
        list: "a list of texts",
    }
    kinds = (float, int) if kind is float else (kind,)
    sound = type(value) in kinds and (kind is not list or all(isinstance(item, str) for item in value))
    if not sound:
        raise InputError(f"--cluster_profile {path}: {name} is {brief(value)}, but must be {words[kind]}")
