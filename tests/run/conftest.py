"""A small project to run in, and an end to what runs on workers leave behind."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from relion_project import project

__all__ = ["project"]


@pytest.fixture(scope="module")
def dask_leavings() -> Iterator[None]:
    """Collect what Dask left open while the module's filters hold: in a later test it would be an error."""
    yield
    gc.collect()
