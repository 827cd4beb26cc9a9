"""Marks of test modules whose runs start Dask: `pytestmark = ON_WORKERS`."""

from __future__ import annotations

import pytest

ON_WORKERS = [
    pytest.mark.usefixtures("dask_leavings"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Dask leaves sockets to the collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
