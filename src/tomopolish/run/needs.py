"""Estimates of the memory and disk space that a run needs."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tomopolish.dataset.model import TiltSeries
from tomopolish.dataset.species import Project
from tomopolish.imaging.windows import window_samples
from tomopolish.models.motion import neighbours_predict
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

_FLOAT, _PACKED = np.dtype(np.float32).itemsize, np.dtype(np.int16).itemsize
_DOUBLE = np.dtype(np.float64).itemsize


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
