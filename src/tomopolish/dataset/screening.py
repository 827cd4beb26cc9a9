"""Replacement of outlier pixels in tilt images, and detection of images that cannot be used.

A hot pixel, an x-ray's hit, a saturated or missing value would otherwise reach every Fourier coefficient of
the tiles and boxes that contain it, and the noise of the series. Each image's range of pixels comes from the
median and the median absolute deviation of a few of its rows, so that images are still read once, in parts.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from tomopolish.dataset.images import CONSTANT, NOT_FINITE
from tomopolish.dataset.left_out import left_out_sentences, numbered
from tomopolish.dataset.model import LeftOutTilt, ReusesMemory, TiltImages, TiltSeries
from tomopolish.errors import RunError, UnusableImageError
from tomopolish.shapes import Array, Float32

DEVIATIONS = 20.0
"""Half the range of pixels, in standard deviations: noise, signal and gold beads stay well inside."""

SAMPLED_ROWS = 8
"""Number of rows, spread over an image, that its range comes from."""

MOST_NOT_FINITE = 0.1
"""Fraction of the sampled pixels that may not be finite."""

LARGEST, SMALLEST = 1e15, 1e-15
"""Range of pixels whose power is finite in single precision."""

OF_NORMAL = 1.4826
"""Standard deviation over median absolute deviation, for a normal distribution."""

TRIMMED = 99.5
"""Percentile at which deviations are clipped where more than half of the pixels have one value."""


@dataclass(frozen=True, kw_only=True)
class PixelRange:
    """Pixels from `low` to `high` are unchanged; others are replaced by `middle`."""

    low: float
    high: float
    middle: float


def pixel_range(pixels: Float32[Array, "..."]) -> PixelRange:
    """Return the range of an image's pixels, from a sample of them.

    Raises UnusableImageError for too few finite numbers, a constant, or a power beyond single precision.
    """
    finite = pixels[np.isfinite(pixels)].astype(np.float64)
    if finite.size < (1 - MOST_NOT_FINITE) * pixels.size:
        raise UnusableImageError(NOT_FINITE)
    middle = float(np.median(finite))
    deviations = np.abs(finite - middle)
    spread = OF_NORMAL * float(np.median(deviations))
    if spread == 0:  # as in counted images of few electrons
        clipped = np.minimum(deviations, np.percentile(deviations, TRIMMED))
        spread = float(np.sqrt(np.mean(clipped**2)))
    if spread == 0:
        raise UnusableImageError(CONSTANT)
    reach = DEVIATIONS * spread
    if abs(middle) + reach > LARGEST or spread < SMALLEST:
        size = "large" if reach > 1 else "small"
        raise UnusableImageError(
            f"its pixels ({middle:.3g} ± {spread:.3g}) are too {size} for single precision; scale the images"
        )
    return PixelRange(low=middle - reach, high=middle + reach, middle=middle)


@dataclass(kw_only=True)
class ScreenedImages:
    """Images of a source without outlier pixels (a `TiltImages`); records what was replaced and lost.

    Attributes
    ----------
    replaced
        Tilt image → row of pixels → number of pixels that were replaced.
    lost
        Tilt image → reason why it cannot be used.
    """

    images: TiltImages
    replaced: dict[int, dict[int, int]] = field(default_factory=dict)
    lost: dict[int, str] = field(default_factory=dict)
    _ranges: dict[int, PixelRange] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def size_px(self) -> tuple[int, int]:
        """(w, h) of every image."""
        return self.images.size_px

    def __len__(self) -> int:
        return len(self.images)

    def read(self, tilt: int) -> Float32[Array, "h w"]:
        """Return one tilt image; raises UnusableImageError, and records it, when it cannot be used."""
        try:
            image = self.images.read(tilt)
            found = self._ranges.get(tilt) or pixel_range(image[_sampled_rows(len(image))])
        except RunError as problem:
            raise self._losing(tilt, problem) from problem
        self._ranges[tilt] = found
        return self._cleaned(tilt, image, 0, found)

    def _cleaned(self, tilt: int, image: Float32[Array, "n w"], row: int, known: PixelRange) -> Array:
        """Return rows of an image, from `row` on, without outlier pixels; in place where possible."""
        with np.errstate(invalid="ignore"):
            if known.low <= image.min() and image.max() <= known.high:  # false where a pixel is NaN
                return image
            wild = ~((image >= known.low) & (image <= known.high))
        image = image if image.flags.writeable else image.copy()
        image[wild] = known.middle
        rows = self.replaced.setdefault(tilt, {})
        for i in np.flatnonzero(wild.any(axis=1)).tolist():
            rows[row + i] = int(np.count_nonzero(wild[i]))
        return image

    def _losing(self, tilt: int, problem: RunError) -> UnusableImageError:
        """Record an image that cannot be used, and return the error."""
        with self._lock:
            self.lost.setdefault(tilt, str(problem))
        return UnusableImageError(self.lost[tilt])


class ScreenedFiles(ScreenedImages):
    """Images of a source that reads into existing memory, a few rows at a time."""

    def read_into(self, tilt: int, image: Float32[Array, "n w"], row: int = 0) -> None:
        """Read as many rows as `image` has, from `row` on; raises like `read`."""
        assert isinstance(self.images, ReusesMemory)
        try:
            known = self._range(tilt)
            self.images.read_into(tilt, image, row)
        except RunError as problem:
            raise self._losing(tilt, problem) from problem
        self._cleaned(tilt, image, row, known)

    def _range(self, tilt: int) -> PixelRange:
        assert isinstance(self.images, ReusesMemory)
        with self._lock:
            known = self._ranges.get(tilt)
            if known is None:
                w, h = self.size_px
                rows = _sampled_rows(h)
                sample = np.empty((len(rows), w), dtype=np.float32)
                for i, row in enumerate(rows):
                    self.images.read_into(tilt, sample[i : i + 1], row)
                known = self._ranges[tilt] = pixel_range(sample)
        return known


@contextmanager
def losing(series: TiltSeries, tilt: int) -> Iterator[None]:
    """Record an image of a screened series as unusable if the block raises UnusableImageError."""
    try:
        yield
    except UnusableImageError as problem:
        if isinstance(series.images, ScreenedImages):
            series.images.lost.setdefault(tilt, str(problem))
        raise


def screened(series: TiltSeries) -> TiltSeries:
    """Return a tilt series whose images are screened while they are read."""
    kind = ScreenedFiles if isinstance(series.images, ReusesMemory) else ScreenedImages
    return replace(series, images=kind(images=series.images))


def without_lost(series: TiltSeries) -> TiltSeries:
    """Return a series without the images that could not be used so far and those already left out.

    Raises RunError when no image is left.
    """
    lost = series.images.lost if isinstance(series.images, ScreenedImages) else {}
    known = {one.tilt for one in series.left_out}
    new = [LeftOutTilt(tilt=tilt, reason=lost[tilt]) for tilt in lost if tilt not in known]
    left_out = tuple(sorted([*series.left_out, *new], key=lambda image: image.tilt))
    if len(left_out) == len(series):
        sentence = left_out_sentences(series.name, left_out)[-1]
        raise RunError(f"none of the tilt images of {series.name} can be used; {sentence}")
    return replace(series, left_out=left_out)


def screening_warnings(series: TiltSeries) -> list[str]:
    """Return which images of a screened series are left out, and in which images pixels were replaced."""
    sentences = left_out_sentences(series.name, series.left_out)
    replaced = series.images.replaced if isinstance(series.images, ScreenedImages) else {}
    counts = {tilt: sum(rows.values()) for tilt, rows in replaced.items()}
    if counts:
        total = sum(counts.values())
        sentences.append(
            f"{total} outlier pixel{'' if total == 1 else 's'} in {numbered(list(counts))} of {series.name} "
            f"{'was' if total == 1 else 'were'} replaced by the image's median: more than {DEVIATIONS:g} "
            "standard deviations from it, or not a finite number"
        )
    return sentences


def _sampled_rows(height: int) -> Sequence[int]:
    return [int((i + 0.5) * height / SAMPLED_ROWS) for i in range(SAMPLED_ROWS)]
