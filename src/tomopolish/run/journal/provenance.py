"""``run.yaml``: how a command was run, on what, and how it ended; `--config` repeats it."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import platform
import shlex
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tomopolish.dataset.files import atomic_write
from tomopolish.dataset.opening import read_small
from tomopolish.plain_text import safe_to_show
from tomopolish.run.journal.log_file import has_title

TITLE = "# How tomopolish was run"

LIBRARIES = ("numpy", "scipy", "numba", "llvmlite", "mrcfile")
IF_IMPORTED = {
    "matplotlib": "matplotlib",
    "plotly": "plotly",
    "distributed": "distributed",
    "dask_jobqueue": "dask-jobqueue",
    "cupy": "cupy-cuda12x",
}
"""Module → package, whose version is recorded if the run has imported it."""

MOST_BYTES = 1 << 24
SECONDS_FOR_GIT = 5
GIT = ("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def file_name(folder: Path, command: str) -> str | None:
    """Return the name of a command's file in a folder; None where others have files of both names.

    A second command in the same folder has a file of its own, so that it does not replace the first one's.
    """
    for name in ("run.yaml", f"run_{command}.yaml"):
        path = folder / name
        if not os.path.lexists(path) or (has_title(path, TITLE) and _command_of(path) in (command, None)):
            return name
    return None


def _command_of(path: Path) -> str | None:
    """Return the command in a file of this program; None where it is damaged."""
    with contextlib.suppress(OSError):
        for line in read_small(path, MOST_BYTES).decode("utf-8", "replace").splitlines():
            if line.startswith("command: "):
                return line.removeprefix("command: ").strip()
    return None


def environment() -> dict[str, Any]:
    """Return versions, commit, host and working directory of this process."""
    versions = {"python": platform.python_version()}
    names = [*LIBRARIES, *(package for module, package in IF_IMPORTED.items() if module in sys.modules)]
    versions |= {name: version for name in names if (version := _version(name)) is not None}
    return {
        "commit": _own_commit(),
        "versions": versions,
        "host": socket.gethostname(),
        "system": platform.platform(),
        "working_directory": str(Path.cwd()),
    }


@functools.cache
def _version(package: str) -> str | None:
    """Return the version of an installed package; None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit(package: Path = Path(__file__).parents[2]) -> str | None:
    """Return the commit of the source tree that a package is in; None where it is installed without one."""
    root = package.parents[1]
    if not (root / ".git").exists() or not (root / "pyproject.toml").exists():
        return None
    try:
        answer = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(root), *GIT],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS_FOR_GIT,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None


_own_commit = functools.cache(commit)
"""Returns the commit of this program, whose code a process loads once."""


def write_provenance(path: Path, text: str) -> None:
    """Write YAML into a file atomically, below the title; raises RunError when that fails."""
    with atomic_write(path) as stream:
        stream.write(f"{TITLE}; 'tomopolish COMMAND --config FILE' repeats it\n")
        stream.write(text)


def in_words(command_line: Sequence[str]) -> str:
    """Return a command line as a shell would read it, without control characters."""
    return safe_to_show(shlex.join(command_line))
