"""`tomopolish relion-shim`: executables by which RELION's own job runs tomopolish."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import click

from tomopolish.cli.grouped import FILE, command
from tomopolish.dataset.files import atomic_write
from tomopolish.errors import InputError

NAMES = {"relion_tomo_align": "align", "relion_tomo_align_mpi": "align-mpi"}
MARK = "# written by tomopolish relion-shim"
_WRITTEN = re.compile(
    rf"#!/bin/sh\n{re.escape(MARK)}: [^\n]*\nexec [^\n]+ "
    r"(?:-m tomopolish|-c '[^'\n]*') relion-align[^\n]*\n"
)
_START = (
    "import sys; sys.path = [place for place in sys.path if place]; from tomopolish.cli import main; main()"
)
"""Starts the program without the working directory among the places of modules: it is a project's folder."""

_LARGEST_BYTES = 10_000


def is_shim(path: Path) -> bool:
    """Return whether a file is, in every byte, a wrapper that this command wrote."""
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > _LARGEST_BYTES:
            return False
        return _WRITTEN.fullmatch(path.read_bytes().decode("utf-8", "replace")) is not None
    except OSError:
        return False


def write_shims(folder: Path) -> list[Path]:
    """Write the wrappers into a folder and return their paths; raises InputError for others' files."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: this is a file, where a folder is needed; give another folder")
    paths = []
    for name in NAMES:
        path = folder / name
        if (path.exists() or path.is_symlink()) and not is_shim(path):
            raise InputError(
                f"{path}: tomopolish relion-shim did not write this file and does not replace it; "
                "give another folder"
            )
    for name in NAMES:
        path = folder / name
        ranks = " --mpi" if name.endswith("_mpi") else ""
        with atomic_write(path) as stream:
            stream.write(
                f"#!/bin/sh\n{MARK}: RELION's Bayesian polishing runs tomopolish\n"
                f'exec {shlex.quote(sys.executable)} -c {shlex.quote(_START)} relion-align{ranks} "$@"\n'
            )
        path.chmod(0o755)
        paths.append(path)
    return paths


def _relion_shim(folder: Path) -> int:
    paths = write_shims(folder)
    for path in paths:
        click.echo(f"wrote {path}")
    click.echo(f"Before RELION starts: export PATH={shlex.quote(str(folder.absolute()))}:$PATH")
    return 0


COMMAND = command(
    "relion-shim",
    _relion_shim,
    [],
    text="Write relion_tomo_align and relion_tomo_align_mpi into FOLDER. With that folder first on PATH, the "
    "GUI's Bayesian polishing job and Schemes run tomopolish; otherwise they run RELION's own program.",
)
COMMAND.params.insert(0, click.Argument(["folder"], type=FILE))
