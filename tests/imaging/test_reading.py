"""Images are read ahead of the work on them, into memory that no work is still using."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from small_project import make_series
from tomopolish.dataset.reading import image_alone, overlap, prefetch

TILTS = np.array([4, 0, 2, 7, 5, 1])


class Numbered:
    """Each image is filled with its index."""

    size_px = (30, 20)

    def __len__(self) -> int:
        return 8

    def read(self, tilt: int) -> np.ndarray:
        raise AssertionError("there is memory to write to")

    def read_into(self, tilt: int, image: np.ndarray, row: int = 0) -> None:
        image[:] = tilt


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_an_image_stays_while_work_on_it_goes_on(at_once: int) -> None:
    series = replace(
        make_series(np.random.default_rng(0), np.zeros((8, 20, 30), np.float32)), images=Numbered()
    )
    lock, running, most = threading.Lock(), [0], [0]

    def work(tilt: int, image: np.ndarray) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        for _ in range(5):
            time.sleep(0.002)
            assert (image == tilt).all()
        with lock:
            running[0] -= 1

    images = prefetch(series, TILTS, image_alone, holds=at_once)
    assert list(overlap(images, work, at_once)) == TILTS.tolist()
    assert most[0] == at_once


def test_an_error_in_the_work_ends_it() -> None:
    series = replace(
        make_series(np.random.default_rng(0), np.zeros((8, 20, 30), np.float32)), images=Numbered()
    )

    def work(tilt: int, image: np.ndarray) -> None:
        if tilt == 2:
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        list(overlap(prefetch(series, TILTS, image_alone, holds=2), work, 2))
