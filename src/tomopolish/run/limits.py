"""Limits of this process's memory, and the memory that libraries and threads need.

Native libraries do not report that memory is exhausted: under a limit of address space (`ulimit -v`) they
abort, crash or loop forever. Therefore their needs are compared with the limit before they are
imported, and this module imports none of them.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import NamedTuple

from tomopolish.errors import InputError

LIBRARY_BYTES = 1_100_000_000
"""Address space of the libraries, of compiling kernels and of the threads that every run has, as measured."""

THREAD_BYTES = 145_000_000
"""Address space of each thread of `--j`, as measured: its stack, heap and buffers for matrix products."""

CGROUPS = Path("/proc/self/cgroup")
CGROUP_FOLDER = Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60


class MemoryLimit(NamedTuple):
    """A limit that this process cannot exceed: the memory that one tomogram may use, and its name."""

    room_bytes: int
    name: str


def check_address_space() -> None:
    """Refuse to continue where the libraries do not fit into the address space; call it before their import.

    Where address space is limited, BLAS is kept from starting a thread for each of the machine's cores.
    Raises InputError when the address space is too small; the message says how much is needed.
    """
    limit = address_space()
    if limit is None:
        return
    if limit < LIBRARY_BYTES + THREAD_BYTES:
        raise InputError(
            f"the limit of address space (ulimit -v) is {gigabytes(limit)}, and the libraries alone take "
            f"{gigabytes(LIBRARY_BYTES + THREAD_BYTES)}: raise it, for example by 'ulimit -v unlimited'"
        )
    if "numpy" not in sys.modules:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def threads_that_fit(threads: int) -> int:
    """Return how many of `threads` threads fit into the address space; at least one."""
    limit = address_space()
    if limit is None:
        return threads
    return max(1, min(threads, (limit - LIBRARY_BYTES) // THREAD_BYTES))


def address_space() -> int | None:
    """Return the limit of address space in bytes; None: there is none."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def memory_limits(threads: int) -> list[MemoryLimit]:
    """Return the limits of the memory for a tomogram that so many threads refine, the lowest limit first."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = [MemoryLimit(room_bytes=machine, name="the memory of this machine")]
    group = cgroup_bytes()
    if group is not None:
        name = "the memory limit of this job or container (cgroup)"
        limits.append(MemoryLimit(room_bytes=group, name=name))
    space = address_space()
    if space is not None:
        room = max(0, space - LIBRARY_BYTES - threads * THREAD_BYTES)
        name = f"what the limit of address space (ulimit -v, {gigabytes(space)}) leaves"
        limits.append(MemoryLimit(room_bytes=room, name=name))
    return sorted(limits)


def cgroup_bytes(groups: Path = CGROUPS, folder: Path = CGROUP_FOLDER) -> int | None:
    """Return the lowest memory limit of the control groups that this process is in; None: there is none.

    `groups` is Linux's list of the process's groups, which are mounted in `folder` (versions 1 and 2).
    """
    try:
        lines = groups.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    limits = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "memory" not in controllers.split(","):
            continue
        root, name = (folder / "memory", "memory.limit_in_bytes") if controllers else (folder, "memory.max")
        own = root / path.lstrip("/")
        for group in (own, *own.parents):
            limits.append(_number(group / name))
            if group == root:
                break
    return min((limit for limit in limits if limit is not None), default=None)


def gigabytes(number: float) -> str:
    """Return a number of bytes in GB, for messages."""
    return f"{number / 1e9:.3g} GB"


def _number(path: Path) -> int | None:
    try:
        number = int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):  # no such group within this container, or "max"
        return None
    return number if number < _UNLIMITED else None
