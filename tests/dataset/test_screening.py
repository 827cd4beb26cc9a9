"""Wild pixels are replaced, images that cannot be used are noted, and sound ones stay as they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from small_project import Stack, make_series
from tomopolish.dataset.images import CONSTANT, NOT_FINITE, open_stack
from tomopolish.dataset.model import TiltSeries
from tomopolish.dataset.mrc import write_stack
from tomopolish.dataset.reading import image_alone, prefetch
from tomopolish.dataset.screening import (
    ScreenedImages,
    pixel_range,
    screened,
    screening_warnings,
    without_lost,
)
from tomopolish.errors import RunError, UnusableImageError

SHAPE = (4, 240, 190)


def sound_images(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(60, 12, SHAPE).astype(np.float32)


def series_of(images: np.ndarray | Path) -> TiltSeries:
    """A tilt series with these images, in memory or in a stack."""
    source = Stack(images) if isinstance(images, np.ndarray) else open_stack(images, SHAPE[0], named_in="t")
    return replace(make_series(np.random.default_rng(2), np.zeros(SHAPE)), images=source)


def stored(folder: Path, images: np.ndarray, dtype: str) -> Path:
    path = folder / f"{dtype}.mrcs"
    with np.errstate(all="ignore"):
        write_stack(
            path, images, count=SHAPE[0], size_px=(SHAPE[2], SHAPE[1]), pixel_size_angstrom=4.0, dtype=dtype
        )
    return path


def read_all(series: TiltSeries) -> dict[int, np.ndarray]:
    return {tilt: image.copy() for tilt, image in prefetch(series, np.arange(len(series)), image_alone)}


@pytest.mark.parametrize("dtype", ["memory", "float32", "float16", "int16", "uint16", "int8"])
def test_sound_images_stay_as_they_are(tmp_path: Path, dtype: str) -> None:
    images = np.rint(sound_images())
    series = screened(series_of(images if dtype == "memory" else stored(tmp_path, images, dtype)))
    for tilt, image in read_all(series).items():
        np.testing.assert_array_equal(image, images[tilt])
        np.testing.assert_array_equal(series.images.read(tilt), images[tilt])
    assert screening_warnings(without_lost(series)) == []


@pytest.mark.parametrize("dtype", ["memory", "float32", "float16", "int16"])
@pytest.mark.parametrize("value", [3e38, -3e38, np.inf, np.nan, 30000])
def test_wild_pixels_are_replaced_and_counted(tmp_path: Path, dtype: str, value: float) -> None:
    if dtype == "int16" and value != 30000:
        pytest.skip("no such integer")
    images = np.rint(sound_images())
    dirty = images.copy()
    dirty[2, 17, 5:8], dirty[2, 239, 0], dirty[0, 3, 3] = value, value, value
    series = screened(series_of(dirty if dtype == "memory" else stored(tmp_path, dirty, dtype)))
    found = read_all(series)
    for tilt in (1, 3):
        np.testing.assert_array_equal(found[tilt], images[tilt])
    wild = dirty != images
    assert np.abs(found[2][wild[2]] - 60).max() < 2 and np.abs(found[0][wild[0]] - 60).max() < 2
    np.testing.assert_array_equal(found[2][~wild[2]], images[2][~wild[2]])
    (sentence,) = screening_warnings(without_lost(series))
    assert sentence.startswith("5 outlier pixels in tilt images 1, 3 of ")
    read_all(series)  # a second time changes no count
    assert screening_warnings(series) == [sentence]


def test_images_that_cannot_be_used_are_passed_over_and_named(tmp_path: Path) -> None:
    images = sound_images()
    images[1], images[3, 20:200] = 0, np.nan
    path = stored(tmp_path, images, "float32")
    for source in (images, path):
        series = screened(series_of(source))
        assert sorted(read_all(series)) == [0, 2]
        left = without_lost(series)
        assert [(one.tilt, one.reason) for one in left.left_out] == [(1, CONSTANT), (3, NOT_FINITE)]
        assert screening_warnings(left)[0].endswith("is left out: the image is constant")
        with pytest.raises(UnusableImageError, match="constant"):
            series.images.read(1)
    series = screened(series_of(path))
    path.write_bytes(path.read_bytes()[:2000])
    assert read_all(series) == {}
    with pytest.raises(RunError, match=r"none of the tilt images .* can be used; .* is cut off"):
        without_lost(series)


def test_the_range_of_pixels_is_that_of_most() -> None:
    rng = np.random.default_rng(3)
    noise = rng.normal(5, 2, (8, 1000)).astype(np.float32)
    saturated = noise.copy()
    saturated[:, :100] = 65535
    for pixels in (noise, saturated):
        known = pixel_range(pixels)
        assert known.middle == pytest.approx(5, abs=0.5) and known.high == pytest.approx(45, abs=8)
    counts = rng.poisson(0.05, (8, 4000)).astype(np.float32)  # most pixels have no electron
    known = pixel_range(counts)
    assert known.low < 0 and known.high > counts.max() >= 2
    for factor, size in ((1e17, "large"), (1e-20, "small")):
        with pytest.raises(UnusableImageError, match=f"too {size} for single precision"):
            pixel_range(noise * np.float32(factor))


def test_screening_knows_what_was_left_out_before() -> None:
    series = screened(series_of(sound_images()))
    assert isinstance(series.images, ScreenedImages)
    series.images.lost[2] = "it is late"
    once = without_lost(series)
    assert without_lost(once).left_out == once.left_out and not once.usable[2]
