"""Marks of test modules whose runs start Dask: `pytestmark = ON_WORKERS`, or ON_FORKED_WORKERS.

Modules about what workers do, and not about their start and end, have them forked.
"""

from __future__ import annotations

from collections.abc import Callable

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
