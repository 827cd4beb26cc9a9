"""Marks of test modules whose runs start Dask: `pytestmark = ON_WORKERS`, or ON_FORKED_WORKERS.

Modules about what workers do, and not about their start and end, have them forked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

ON_WORKERS = [
    pytest.mark.usefixtures("dask_leavings"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Dask leaves sockets to the collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

ON_FORKED_WORKERS = [*ON_WORKERS, pytest.mark.usefixtures("forked_workers")]


def on_forked_workers(test: Callable[..., None]) -> Callable[..., None]:
    """Mark one test of a module whose others start no workers."""
    for mark in ON_FORKED_WORKERS:
        test = mark(test)
    return test


@contextmanager
def forking_workers() -> Iterator[None]:
    """Have Dask fork its local workers from a server that has imported the program, not start each anew.

    A new worker takes four seconds of processor time for its imports, a forked one next to none. The
    environment of workers is that of the first test of the process that starts any.
    """
    dask = pytest.importorskip("dask")
    utils = pytest.importorskip("distributed.utils")
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        context = utils.get_mp_context()  # makes a list of modules of its own, once
        context.set_forkserver_preload(["distributed", "tomopolish.run.align"])
        yield
