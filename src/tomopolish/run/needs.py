"""Memory and disk space: estimates of what a run needs, refusals of what cannot fit, memory of BLAS."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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
from tomopolish.solve.search import FEWEST_SEARCHED

PROGRAM_BYTES = 200_000_000
"""Memory of the interpreter, the libraries and the compiled kernels, as measured."""

SEARCH_COPIES = 2.1
"""Float32 copies of the windows of the particles that a search begins with, at its peak, as measured."""

MOTION_COPIES = 4
"""Matrices of particles × particles that motion's prior and solver need at their peak, as measured."""

NEIGHBOUR_BYTES = 1200
"""Bytes for each course of each particle that neighbours and solver need; 3,600 particles need some less."""

REPORT_BYTES = 6_000_000
"""Size of a report that includes the plotting library, as measured."""

STORED_PER_TOMOGRAM, STORED_PER_TILT, STORED_PER_PARTICLE = 45_000, 450, 100
"""Bytes of a stored result beside windows and trajectories, as measured: most are the report's image."""

TEXT_PER_OFFSET = 32
"""Bytes of a particle's offset in one tilt image, as text."""

MESH_PER_OFFSET = 250
"""Bytes of a particle's position in one tilt image in both meshes, as measured."""

PRODUCT_SIZE = 300
"""Edge of matrices whose product takes long enough that products of several threads overlap."""

_FLOAT, _PACKED = np.dtype(np.float32).itemsize, np.dtype(np.int16).itemsize
_DOUBLE = np.dtype(np.float64).itemsize


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
        needed += edge**3 * _FLOAT * (5 if "mask" in headers else 3)
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
    windows = tilts * particles * samples**2 * _PACKED
    image = width * height * _FLOAT
    motion = settings.motion
    covariance = 0 if motion is None or neighbours_predict(motion, particles) else particles**2
    return windows + image + covariance * _DOUBLE


def memory_bytes(series: TiltSeries, particles: int, settings: AlignSettings, boxes_px: Sequence[int]) -> int:
    """Return an estimate of the peak memory of one tomogram's refinement.

    It is the sum of the program, the references' transforms, the windows of all pairs in 16 bits, copies of
    those that are searched first, two tilt images, and the matrices of motion, which grow with the square of
    the number of particles unless neighbours predict it.
    """
    samples = len(window_samples(settings.windows.range_px, settings.windows.padding))
    width, height = series.image_size_px
    references = sum(2 * b * b * (b // 2 + 1) for b in boxes_px) * np.dtype(np.complex64).itemsize
    searched = SEARCH_COPIES * _FLOAT * min(particles, FEWEST_SEARCHED)
    windows = len(series) * samples**2 * (particles * _PACKED + searched)
    images = 2 * width * height * _FLOAT
    return int(
        PROGRAM_BYTES + references + windows + images + _motion_bytes(particles, len(series), settings)
    )


def _motion_bytes(particles: int, tilts: int, settings: AlignSettings) -> int:
    if settings.motion is None:
        return 0
    if neighbours_predict(settings.motion, particles):
        return NEIGHBOUR_BYTES * 3 * (tilts - 1) * particles
    modes = getattr(settings.motion, "max_deformations", None) or particles
    if modes >= particles:
        return MOTION_COPIES * particles**2 * _DOUBLE
    return (MOTION_COPIES // 2 * particles**2 + MOTION_COPIES * particles * modes) * _DOUBLE


def stored_bytes(series: TiltSeries, particles: int, settings: AlignSettings, boxes_px: Sequence[int]) -> int:
    """Return an estimate of the size of one tomogram's stored result, trajectories and meshes."""
    tilts, reach = len(series), settings.windows.range_px
    sums = 2 * tilts * (2 * reach) ** 2 * _FLOAT
    size = (
        STORED_PER_TOMOGRAM
        + sums
        + STORED_PER_TILT * tilts
        + STORED_PER_PARTICLE * particles
        + tilts * particles
    )
    if settings.motion is not None:
        size += tilts * particles * (3 * _DOUBLE + TEXT_PER_OFFSET + MESH_PER_OFFSET)
    if settings.run.diagnostics:
        sizes = [(2 * reach + 6) ** 2 + box * (box // 2 + 1) for box in boxes_px]
        size += tilts * sum(sizes) * _FLOAT
    return int(size)


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


def sets_bytes(project: Project) -> int:
    """Return an estimate of the refined sets' size: that of the input sets."""
    return sum(_size(path) for species in project.species for path in species.dataset.input_files())


def free_bytes(folder: Path) -> int | None:
    """Return the free space where a folder is, or would be; None where it is unknown."""
    for place in (folder.absolute(), *folder.absolute().parents):
        try:
            return shutil.disk_usage(place).free
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return None


def size_in_words(number: float) -> str:
    """Return a number of bytes in a suitable unit, for messages."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9)):
        if number >= factor:
            return f"{number / factor:.3g} {unit}"
    return f"{number / 1e6:.3g} MB" if number >= 1e7 else f"{number / 1e6:.1f} MB"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.suffix == ".star" else 0
    except OSError:
        return 0
