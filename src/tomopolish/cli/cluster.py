"""Options that distribute tomograms over processes and machines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from reprlib import repr as brief
from typing import Any

import click

from tomopolish.cli.grouped import FILE, NUMBER, GroupedOption, Section
from tomopolish.cli.yaml_files import read_yaml
from tomopolish.errors import InputError
from tomopolish.settings.cluster import ClusterSettings, SlurmSettings, TlsFiles
from tomopolish.settings.wording import ARGUMENTS


def cluster_section() -> Section:
    """Return the section with these options."""
    section = Section("Several tomograms at a time")
    section.value(
        "--workers", "N", "Number of processes that share --j on this machine, or of Slurm jobs.", type=int
    )
    section.value("--scheduler", "ADDRESS", "Address of a running Dask cluster: tls://host:8786.", type=str)
    section.value("--tls_ca_file", "PEM", "With --scheduler tls://…: certificate of the authority.", type=str)
    section.value("--tls_cert", "PEM", "With --scheduler tls://…: certificate of this run.", type=str)
    section.value("--tls_key", "PEM", "Private key of --tls_cert, if it is in another file.", type=str)
    section.value(
        "--worker_memory", "SIZE", "Memory of each process on this machine, such as 16GB.", type=str
    )
    section.value(
        "--connect_timeout", "SECONDS",
        "Time without any worker until the run ends.  [default: 30; a day with --slurm]", type=NUMBER,
    )  # fmt: skip
    section.flag("--dashboard", "Show Dask's dashboard, at a port that all users of this machine can read.")
    section.flag("--slurm", "Start the workers as Slurm jobs with --j threads each.")
    section.value("--slurm_partition", "NAME", "Partition of the jobs.", type=str)
    section.value("--slurm_account", "NAME", "Account that the jobs are charged to.", type=str)
    section.value("--slurm_qos", "NAME", "Quality of service of the jobs.", type=str)
    section.value("--slurm_walltime", "TIME", "Time limit of each job, such as 12:00:00.", type=str)
    section.value("--slurm_memory", "SIZE", "Memory of each job.  [default: 8GB]", type=str)
    section.value("--slurm_gpus", "N", "GPUs of each job, with a worker for each.  [default: none]", type=int)
    section.value(
        "--slurm_directive", "TEXT", "Additional #SBATCH line; repeatable.", type=str, multiple=True
    )
    section.value(
        "--slurm_prologue", "LINE", "Command that each job runs first; repeatable.", type=str, multiple=True
    )
    section.value("--cluster_profile", "YAML", "File that sets options of this group.", type=FILE)
    return section


def _profile_kind(option: GroupedOption) -> type[Any]:
    if option.is_flag or option.multiple:
        return bool if option.is_flag else list
    return int if option.type is click.INT else float if option.type is NUMBER else str


PROFILE_KEYS = {
    str(option.name): _profile_kind(option)
    for option in cluster_section().options
    if option.name != "cluster_profile"
}
"""Options that a profile may set → kind of their values in the file."""


def cluster_from(values: Mapping[str, Any]) -> ClusterSettings | None:
    """Return parsed options as settings; options override the profile, and its lists come first.

    Raises InputError on an invalid combination, or when the profile is malformed.
    """
    path = values["cluster_profile"]
    options = dict.fromkeys(PROFILE_KEYS) if path is None else read_profile(path)
    for name in PROFILE_KEYS:
        value = values[name]
        if isinstance(value, tuple):
            options[name] = (*(options[name] or ()), *value)
        elif value is not None and value is not False:
            options[name] = value
    slurm = None
    companions = {
        ARGUMENTS[name]: value
        for name, value in options.items()
        if name.startswith("slurm_") and value not in (None, (), [])
    }
    if options["slurm"]:
        slurm = SlurmSettings(**companions)
    elif companions:
        raise InputError("options for Slurm jobs do nothing without --slurm: add it, or remove them")
    if options["workers"] is None and options["scheduler"] is None and slurm is None:
        for name in ("worker_memory", "connect_timeout", "dashboard", "tls_ca_file", "tls_cert", "tls_key"):
            if options[name] not in (None, False):
                raise InputError(
                    f"--{name} does nothing without --workers or --scheduler: add one, or remove it"
                )
        return None
    return ClusterSettings(
        workers=options["workers"],
        scheduler=options["scheduler"],
        slurm=slurm,
        worker_memory=options["worker_memory"],
        tls=_tls_files(options),
        dashboard=bool(options["dashboard"]),
        connect_timeout_s=options["connect_timeout"],
    )


def _tls_files(options: Mapping[str, Any]) -> TlsFiles | None:
    paths = {name: options[f"tls_{name}"] for name in ("ca_file", "cert", "key")}
    if not any(paths.values()):
        return None
    for name in ("ca_file", "cert"):
        if not paths[name]:
            raise InputError(f"--tls_ca_file and --tls_cert only work together: add --tls_{name}")
    return TlsFiles(**{name: Path(path) for name, path in paths.items() if path})


def read_profile(path: Path) -> dict[str, Any]:
    """Return the options of a YAML file; raises InputError when it is missing, malformed, or sets others."""
    content = read_yaml(path, f"--cluster_profile {path}")
    if not isinstance(content, dict):
        raise InputError(
            f"--cluster_profile {path}: the file contains no options; write for example 'workers: 4'"
        )
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
