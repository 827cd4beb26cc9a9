"""Memory of one tomogram's refinement, and of matrix products in several threads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.linalg.blas
from threadpoolctl import threadpool_limits

from tomopolish.dataset.model import TiltSeries
from tomopolish.dataset.references import check_headers
from tomopolish.dataset.species import Project
from tomopolish.errors import InputError, RunError
from tomopolish.imaging.windows import window_samples
from tomopolish.models.motion import neighbours_predict
from tomopolish.pipeline import frames_taking_part
from tomopolish.run.limits import address_space, gigabytes, memory_limits
from tomopolish.settings.alignment import AlignSettings

PRODUCT_SIZE = 300
"""Edge of matrices whose product takes long enough that products of several threads overlap."""


def refuse_beyond_memory(series: TiltSeries, particles: int, settings: AlignSettings) -> None:
    """Raise RunError where a tomogram with so many particles needs more memory than this process may use.

    A process that exceeds the limit of its control group is killed without a message.
    """
    least = least_bytes(series, particles, settings)
    limit = memory_limits(settings.run.threads)[0]
    if least > limit.room_bytes:
        motion = "without --motion or " if settings.motion is not None else ""
        raise RunError(
            f"it needs at least {gigabytes(least)} of memory, and {limit.name} is "
            f"{gigabytes(limit.room_bytes)}: refine it with a smaller --r, {motion}with fewer particles, or "
            "where there is more memory"
        )


def refuse_maps_beyond_memory(project: Project, threads: int) -> None:
    """Raise InputError where the maps, which are read as a whole, need more memory than there is.

    Files can be sparse: their headers alone say how much memory they need. Headers that cannot be read are
    left to the checks.
    """
    needed, largest = 0, (0, "")
    for species in project.species:
        try:
            headers, _ = check_headers(species.dataset.files, species.dataset.pixel_size_angstrom)
        except InputError:
            continue
        edge = headers["half map 1"].shape[0]
        needed += edge**3 * np.dtype(np.float32).itemsize * (5 if "mask" in headers else 3)
        largest = max(largest, (edge, species.dataset.files.shown("half map 1")))
    limit = memory_limits(threads)[0]
    if needed > limit.room_bytes:
        edge, shown = largest
        raise InputError(
            f"{shown}: reading maps of {edge}^3 px takes {gigabytes(needed)} of memory, and {limit.name} is "
            f"{gigabytes(limit.room_bytes)}; crop the maps and the mask, or run where there is more memory"
        )


def least_bytes(series: TiltSeries, particles: int, settings: AlignSettings) -> int:
    """Return the minimum memory: windows of all pairs, one tilt image, the covariance of motion."""
    samples = len(window_samples(settings.windows.range_px, settings.windows.padding))
    width, height = series.image_size_px
    tilts = int(np.count_nonzero(frames_taking_part(series, settings)))
    windows = tilts * particles * samples**2 * np.dtype(np.int16).itemsize
    image = width * height * np.dtype(np.float32).itemsize
    motion = settings.motion
    covariance = 0 if motion is None or neighbours_predict(motion, particles) else particles**2
    return windows + image + covariance * np.dtype(np.float64).itemsize


def take_memory_of_products(threads: int) -> None:
    """Have BLAS reserve the memory for simultaneous products in `threads` threads while memory is available.

    BLAS reserves memory for each product that begins while others run, keeps it, and loops forever or aborts
    where there is none. This does nothing where address space is not limited.
    """
    if address_space() is None:
        return
    matrix = np.ones((PRODUCT_SIZE, PRODUCT_SIZE))
    together = threading.Barrier(threads)

    def multiply() -> None:
        together.wait()
        matrix @ matrix
        scipy.linalg.blas.dgemm(1.0, matrix, matrix)  # SciPy has a BLAS of its own

    with threadpool_limits(1), ThreadPoolExecutor(threads) as pool:
        for product in [pool.submit(multiply) for _ in range(threads)]:
            product.result()
