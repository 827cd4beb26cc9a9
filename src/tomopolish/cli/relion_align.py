"""`tomopolish relion-align`, which the wrappers call with the command line that RELION's GUI builds."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import click

from tomopolish.cli.grouped import command, invocation
from tomopolish.errors import InputError

RANKS = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("PMIX_RANK", "SLURM_NTASKS"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
)
"""Variables in which launchers state a process's rank and the number of ranks."""


def rank_and_size(environment: Mapping[str, str]) -> tuple[int, int]:
    """Return this process's rank and the number of ranks; 0 and 1 without a launcher.

    Raises InputError when the variables are not numbers.
    """
    for rank, size in RANKS:
        if rank in environment:
            try:
                return int(environment[rank]), max(1, int(environment.get(size, "1")))
            except ValueError as error:
                raise InputError(f"{rank} and {size} are set, but not to numbers: unset them") from error
    return 0, 1


def with_workers(arguments: Sequence[str], ranks: int) -> list[str]:
    """Return arguments with workers added; `--j`, in RELION for each rank, becomes their total."""
    words = list(arguments)
    if ranks < 2 or "--workers" in words or "--scheduler" in words:
        return words
    for i, argument in enumerate(words[:-1]):
        if argument in ("--j", "--threads") and words[i + 1].isdigit():
            words[i + 1] = str(int(words[i + 1]) * ranks)
            return [*words, "--workers", str(ranks)]
    return [*words, "--j", str(ranks), "--workers", str(ranks)]


def _relion_align(mpi: bool, arguments: tuple[str, ...]) -> int:
    from tomopolish.cli import run

    rank, ranks = rank_and_size(os.environ) if mpi else (0, 1)
    if rank:
        return 0
    return run(["align", *with_workers(arguments, ranks), *(["--debug"] if invocation().debug else [])])


COMMAND = command(
    "relion-align",
    _relion_align,
    [],
    text="Run 'tomopolish align' like the wrappers for RELION: under mpirun (--mpi) only rank 0 computes, "
    "with as many workers as there are ranks.",
)
COMMAND.params[:0] = [
    click.Option(["--mpi"], is_flag=True, help="Count the ranks of mpirun."),
    click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED),
]
COMMAND.context_settings = {**COMMAND.context_settings, "ignore_unknown_options": True}
