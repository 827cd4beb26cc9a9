"""Runs started by mpirun: only rank 0 computes, with as many workers as there are ranks."""

from __future__ import annotations

from collections.abc import Mapping

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
