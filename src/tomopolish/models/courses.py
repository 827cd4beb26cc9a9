"""What models of motion share: paths that courses of velocities lead to, and threads for their products."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np

from tomopolish.shapes import Float

Array = np.ndarray


def paths(courses: Float[Array, "T Q"], step_scales: Float[Array, "steps"]) -> Float[Array, "T Q"]:
    """Return the offset in each later tilt image and component that each course of velocities leads to."""
    velocities = courses.reshape(len(step_scales), 3, -1) * step_scales[:, None, None]
    return np.asarray(np.cumsum(velocities, axis=0).reshape(courses.shape))


@cache
def pool(threads: int) -> ThreadPoolExecutor:
    """Return the threads of products, which run without Python's lock."""
    return ThreadPoolExecutor(threads)
