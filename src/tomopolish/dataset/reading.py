"""Reading of tilt images while the previous image is processed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from tomopolish.dataset.model import ReusesMemory, TiltSeries
from tomopolish.errors import UnusableImageError
from tomopolish.shapes import Array, Float32

T = TypeVar("T")

COMPUTING_PER_READING = 4
BAND_SAMPLES = 2**19


def host_memory(shape: tuple[int, ...]) -> Float32[Array, "..."]:
    """Return uninitialised memory of the host."""
    return np.empty(shape, dtype=np.float32)


def whole_image(tilt: int) -> Sequence[slice]:
    """Return all rows of any tilt image."""
    return (slice(None),)


def prefetch(
    series: TiltSeries,
    tilts: Array,
    make: Callable[[int, Array], T],
    *,
    threads: int = 1,
    needed: Callable[[int], Sequence[slice]] = whole_image,
    memory: Callable[[tuple[int, ...]], Array] = host_memory,
    holds: int = 1,
) -> Iterator[tuple[int, T]]:
    """Yield each tilt image's index and the results of `make`, while the next image is being read.

    Returned images stay valid until `holds` more have been requested. Images that cannot be used are skipped:
    their source records them (`tomopolish.dataset.screening`).

    Parameters
    ----------
    make
        Called by the reading thread with index and image; its results may refer to the image.
    threads
        Number of computing threads; there is a reading thread for each `COMPUTING_PER_READING` of them.
    needed
        Rows of each tilt image that must be read; others have meaningless values.
    memory
        Returns the memory that images are read into.
    holds
        Number of images that are valid at a time, besides the one that is being read.
    """
    width, height = series.image_size_px
    images = series.images
    buffers = [memory((height, width)) for _ in range(min(holds + 1, len(tilts)))]
    helpers = max(1, threads // COMPUTING_PER_READING)

    def read(i: int) -> tuple[T, ...]:
        tilt = int(tilts[i])
        try:
            if not isinstance(images, ReusesMemory):
                return (make(tilt, images.read(tilt)),)
            image, into = buffers[i % len(buffers)], images.read_into
            bands = [band for rows in needed(tilt) for band in _bands(rows, height, width)]
            for _ in bander.map(lambda band: into(tilt, image[band], band.start), bands):
                pass
            return (make(tilt, image),)
        except UnusableImageError:
            return ()

    pending = None
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(helpers) as bander:
        for i, tilt in enumerate(tilts):
            made = read(0) if pending is None else pending.result()
            pending = reader.submit(read, i + 1) if i + 1 < len(tilts) else None
            for result in made:
                yield int(tilt), result


def overlap(images: Iterable[tuple[int, T]], work: Callable[[int, T], None], at_once: int) -> Iterator[int]:
    """Call `work` with every image of `prefetch`, for up to `at_once` images at a time.

    Yields the index of each finished image, in order; another image is requested only after that.

    Parameters
    ----------
    at_once
        Number of images that are processed at a time; as many must stay valid.
    """
    pending: deque[tuple[int, Future[None]]] = deque()
    with ThreadPoolExecutor(at_once) as callers:
        for tilt, made in images:
            pending.append((tilt, callers.submit(work, tilt, made)))
            if len(pending) == at_once:
                yield _finished(pending)
        while pending:
            yield _finished(pending)


def _finished(pending: deque[tuple[int, Future[None]]]) -> int:
    tilt, done = pending.popleft()
    done.result()
    return tilt


def _bands(rows: slice, height: int, width: int) -> list[slice]:
    """Return parts of rows of an image, small enough for their pixels to stay in the processor's cache."""
    first, last, _ = rows.indices(height)
    step = max(1, BAND_SAMPLES // width)
    return [slice(top, min(top + step, last)) for top in range(first, last, step)]


def image_alone(tilt: int, image: Array) -> Array:
    """Return the image alone."""
    return image
