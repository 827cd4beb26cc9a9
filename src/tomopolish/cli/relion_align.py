"""`tomopolish relion-align`, which the wrappers call with the command line that RELION's GUI builds."""

from __future__ import annotations

import os
from collections.abc import Sequence

import click

from tomopolish.cli.grouped import command, invocation
from tomopolish.run.ranks import rank_and_size


def workers_of(ranks: int) -> list[str]:
    """Return the options of a run that replaces `ranks` MPI ranks, each with `--j` threads."""
    return ["--workers", str(ranks)] if ranks > 1 else []


def with_workers(arguments: Sequence[str], ranks: int) -> list[str]:
    """Return arguments with workers added; `--j`, in RELION for each rank, becomes their total."""
    words = list(arguments)
    if ranks < 2 or "--workers" in words or "--scheduler" in words:
        return words
    for i, argument in enumerate(words[:-1]):
        if argument in ("--j", "--threads") and words[i + 1].isdigit():
            words[i + 1] = str(int(words[i + 1]) * ranks)
            return [*words, *workers_of(ranks)]
    return [*words, "--j", str(ranks), *workers_of(ranks)]


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
