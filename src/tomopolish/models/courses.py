"""What models of motion share: paths that courses of velocities lead to, and threads for their products."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np

from tomopolish.shapes import Float

Array = np.ndarray

PANEL = 256
"""Number of particles that a thread moves at a time."""


def paths(courses: Float[Array, "T Q"], step_scales: Float[Array, "steps"]) -> Float[Array, "T Q"]:
    """Return the offset in each later tilt image and component that each course of velocities leads to."""
    velocities = courses.reshape(len(step_scales), 3, -1) * step_scales[:, None, None]
    return np.asarray(np.cumsum(velocities, axis=0).reshape(courses.shape))


def over_panels(work: Callable[[slice], None], count: int, threads: int) -> None:
    """Call `work` with panels of particles, which do not depend on the threads."""
    panels = [slice(first, min(first + PANEL, count)) for first in range(0, count, PANEL)]
    if threads == 1 or len(panels) == 1:
        for panel in panels:
            work(panel)
        return
    for _ in pool(threads).map(work, panels):
        pass


@cache
def pool(threads: int) -> ThreadPoolExecutor:
    """Return the threads of products, which run without Python's lock."""
    return ThreadPoolExecutor(threads)
