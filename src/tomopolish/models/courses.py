"""What models of motion share: paths that courses of velocities lead to, and threads for their products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np

from tomopolish.shapes import Array, Float

PANEL = 256
"""Number of particles that a thread moves at a time."""


def paths(courses: Float[Array, "T Q"], step_scales: Float[Array, "steps"]) -> Float[Array, "T Q"]:
    """Return the offset in each later tilt image and component that each course of velocities leads to."""
    velocities = courses.reshape(len(step_scales), 3, -1) * step_scales[:, None, None]
    return np.asarray(np.cumsum(velocities, axis=0).reshape(courses.shape))


def parts(count: int, size: int) -> list[slice]:
    """Return consecutive parts of a range, which do not depend on the threads that work on them."""
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]


def on_threads(work: Callable[[slice], Any], chosen: Sequence[slice], threads: int) -> list[Any]:
    """Call `work` with each of several parts; returns what it returns, in order."""
    if threads == 1 or len(chosen) == 1:
        return [work(part) for part in chosen]
    return list(_pool(threads).map(work, chosen))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Return the threads of products, which run without Python's lock."""
    return ThreadPoolExecutor(threads)
