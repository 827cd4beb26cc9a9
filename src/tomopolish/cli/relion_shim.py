"""`tomopolish relion-shim`: executables by which RELION's own job runs tomopolish."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from tomopolish.cli.grouped import FILE, Section, command
from tomopolish.dataset.files import atomic_write
from tomopolish.errors import InputError

NAMES = ("relion_tomo_align", "relion_tomo_align_mpi")
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
MODULES, MODULE = "modulefiles", "relion-tomopolish"
TEMPLATE_VARIABLE = "RELION_QSUB_TEMPLATE"
"""Variable with the path of the script from which RELION makes jobs of a queue."""
_LOADS_RELION = re.compile(r"\s*(module|ml|source|\.)\s.*relion", re.IGNORECASE)


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
    paths = [folder / name for name in NAMES]
    for path in paths:
        if (path.exists() or path.is_symlink()) and not is_shim(path):
            raise InputError(
                f"{path}: tomopolish relion-shim did not write this file and does not replace it; "
                "give another folder"
            )
    for path in paths:
        ranks = " --mpi" if path.name.endswith("_mpi") else ""
        with atomic_write(path) as stream:
            stream.write(
                f"#!/bin/sh\n{MARK}: RELION's Bayesian polishing runs tomopolish\n"
                f'exec {shlex.quote(sys.executable)} -c {shlex.quote(_START)} relion-align{ranks} "$@"\n'
            )
        path.chmod(0o755)
    return paths


def write_modules(folder: Path) -> list[Path]:
    """Write files for Environment Modules and Lmod that put the folder in front of RELION's programs.

    Returns their paths; raises InputError for files that this command did not write.
    """
    place = str(folder.absolute())
    described = "RELION's Bayesian polishing runs tomopolish"
    texts = {
        MODULE: (
            f"#%Module1.0\n{MARK}: load this module after relion\n"
            f'module-whatis {{{described}}}\nprepend-path PATH "{place}"\n'
        ),
        f"{MODULE}.lua": (
            f"{MARK.replace('#', '--')}: PATH's priority keeps it in front, whichever module is loaded last\n"
            f'whatis("{described}")\nprepend_path{{"PATH", "{place}", priority=100}}\n'
        ),
    }
    written = []
    for name, text in texts.items():
        path = folder / MODULES / name
        if path.exists() and MARK[2:] not in path.read_text(encoding="utf-8", errors="replace"):
            raise InputError(f"{path}: tomopolish relion-shim did not write this file; give another folder")
        with atomic_write(path) as stream:
            stream.write(text)
        written.append(path)
    return written


def warnings_of(folder: Path, environment: Mapping[str, str]) -> list[str]:
    """Return why RELION's jobs may not run the wrappers: the PATH, and the queue's submission template."""
    wrapper = folder.absolute() / NAMES[0]
    warnings = []
    first = shutil.which(wrapper.name, path=environment.get("PATH", ""))
    if first is None or not Path(first).absolute().samefile(wrapper):
        instead = "none" if first is None else first
        warnings.append(
            f"{wrapper.name} on PATH is {instead}, not {wrapper}: put {folder.absolute()} in front of PATH"
        )
    return [*warnings, *template_warnings(folder, environment)]


def template_warnings(folder: Path, environment: Mapping[str, str]) -> list[str]:
    """Return a warning where the queue's template loads RELION after, or without, the wrappers."""
    template = environment.get(TEMPLATE_VARIABLE, "")
    if not template or not Path(template).is_file():
        return []
    lines = Path(template).read_text(encoding="utf-8", errors="replace").splitlines()
    loading = [number for number, line in enumerate(lines) if _LOADS_RELION.match(line)]
    loading = [number for number in loading if MODULE not in lines[number]]
    later = lines[loading[-1] + 1 :] if loading else []
    if not loading or any(name in line for line in later for name in (str(folder.absolute()), MODULE)):
        return []
    return [
        f"{template}, line {loading[-1] + 1} loads RELION, whose own programs then come first: add this line "
        f"after it: {_export_line(folder)}"
    ]


def _export_line(folder: Path) -> str:
    return f"export PATH={shlex.quote(str(folder.absolute()))}:$PATH"


def _relion_shim(folder: Path, check: bool) -> int:
    if not check:
        for path in [*write_shims(folder), *write_modules(folder)]:
            click.echo(f"wrote {path}")
        click.echo(f"Before RELION starts, and after module load relion in its jobs: {_export_line(folder)}")
        click.echo(f"With modules: module use {folder.absolute() / MODULES}; module load relion {MODULE}")
        for sentence in template_warnings(folder, os.environ):
            click.echo(f"warning: {sentence}", err=True)
        return 0
    if not is_shim(folder / NAMES[0]):
        raise InputError(f"{folder} has no wrappers: write them with tomopolish relion-shim {folder}")
    warnings = warnings_of(folder, os.environ)
    for sentence in warnings:
        click.echo(f"warning: {sentence}", err=True)
    if not warnings:
        click.echo(f"RELION's jobs started here run {folder.absolute() / NAMES[0]}")
    return 1 if warnings else 0


def _sections() -> list[Section]:
    section = Section("Check")
    section.flag(
        "--check", "Write nothing: warn, with exit status 1, if RELION's own program would run instead."
    )
    return [section]


COMMAND = command(
    "relion-shim",
    _relion_shim,
    _sections(),
    text="Write relion_tomo_align and relion_tomo_align_mpi into FOLDER, and module files into "
    "FOLDER/modulefiles. With that folder first on PATH, the "
    "GUI's Bayesian polishing job and Schemes run tomopolish; otherwise they run RELION's own program.",
)
COMMAND.params.insert(0, click.Argument(["folder"], type=FILE))
