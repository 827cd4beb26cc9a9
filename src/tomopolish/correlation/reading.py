"""Tilt images, read while the one before is worked on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from typing import TypeVar

import numpy as np

from tomopolish.dataset.model import ReusesMemory, TiltSeries
from tomopolish.shapes import Float32

Array = np.ndarray
T = TypeVar("T")


def host_memory(shape: tuple[int, ...]) -> Float32[Array, "..."]:
    """Memory of the host, uninitialised."""
    return np.empty(shape, dtype=np.float32)


def whole_image(tilt: int) -> Sequence[slice]:
    """All rows, whichever the tilt image."""
    return (slice(None),)


def prefetch(
    series: TiltSeries,
    tilts: Array,
    reader: Executor,
    make: Callable[[int, Array], T],
    *,
    needed: Callable[[int], Sequence[slice]] = whole_image,
    memory: Callable[[tuple[int, ...]], Array] = host_memory,
) -> Iterator[tuple[int, T]]:
    """Yield each tilt image's index and what is made of it, while the next image is being read.

    An image holds until the next is asked for.

    Parameters
    ----------
    reader
        One thread, which reads.
    make
        Called by the reader with index and image; what it makes may refer to the image.
    needed
        Rows of each tilt image that must be read; what the others hold means nothing.
    memory
        Gives the memory that images are read into.
    """
    width, height = series.image_size_px
    images = series.images
    buffers = [memory((height, width)) for _ in range(min(2, len(tilts)))]

    def read(i: int) -> T:
        tilt = int(tilts[i])
        if not isinstance(images, ReusesMemory):
            return make(tilt, images.read(tilt))
        image = buffers[i % 2]
        for rows in needed(tilt):
            images.read_into(tilt, image[rows], rows.start or 0)
        return make(tilt, image)

    pending = None
    for i, tilt in enumerate(tilts):
        made = read(0) if pending is None else pending.result()
        pending = reader.submit(read, i + 1) if i + 1 < len(tilts) else None
        yield int(tilt), made


def image_alone(tilt: int, image: Array) -> Array:
    """Nothing but the image."""
    return image
