"""Figures of a fit that are stored for reports alone: agreement in bins, and a picture of a tilt image."""

from __future__ import annotations

import numpy as np

from tomopolish.dataset.model import TiltSeries
from tomopolish.errors import TomopolishError
from tomopolish.imaging.windows import CorrelationWindows
from tomopolish.physics.geometry import depth_px
from tomopolish.results.tomogram import BinnedAgreement, TiltPicture
from tomopolish.shapes import Array, Bool, Float

MOST_BINS, FEWEST_IN_A_BIN = 16, 25
LARGEST_PICTURE_PX = 320
DARKEST, BRIGHTEST = 1.0, 99.5
"""Percentiles of a picture's pixels that become black and white."""


def by_depth_and_defocus(
    series: TiltSeries,
    positions_px: Float[Array, "P 3"],
    visible: Bool[Array, "F P"],
    log_likelihood: Float[Array, "2 F P"],
    power: Float[Array, "F P"],
) -> tuple[BinnedAgreement | None, BinnedAgreement | None]:
    """Return the agreement of pairs by their depth, and by their defocus, Å; None for few pairs.

    Parameters
    ----------
    positions_px
        Input positions.
    log_likelihood, power
        Of each pair, before and after, and of its prediction.
    """
    depth = series.pixel_size_angstrom * depth_px(
        series.projections_px, positions_px, series.tomogram_size_px
    )
    nominal = (series.ctf.defocus_u_angstrom + series.ctf.defocus_v_angstrom) / 2
    defocus = nominal[:, None] + series.hand * series.defocus_slope * depth
    counted = visible & (power > 0)
    values = log_likelihood[:, counted].T
    return (
        binned(depth[counted], values, power[counted]),
        binned(defocus[counted], values, power[counted]),
    )


def binned(
    quantity: Float[Array, "K"], log_likelihood: Float[Array, "K 2"], power: Float[Array, "K"]
) -> BinnedAgreement | None:
    """Return the agreement of pairs in bins of a quantity with about as many pairs each; None for few."""
    bins = min(MOST_BINS, len(quantity) // FEWEST_IN_A_BIN)
    if bins < 2:
        return None
    edges = np.unique(np.quantile(quantity, np.arange(1, bins) / bins))
    place = np.searchsorted(edges, quantity)
    counts = np.bincount(place, minlength=len(edges) + 1)
    filled = counts > 0

    def summed(values: Float[Array, "K"]) -> Float[Array, "N"]:
        return np.bincount(place, weights=values, minlength=len(counts))[filled]

    return BinnedAgreement(
        centres=summed(quantity) / counts[filled],
        log_likelihood=np.stack([summed(column) for column in log_likelihood.T], axis=-1),
        power=summed(power),
    )


def tilt_picture(series: TiltSeries, windows: CorrelationWindows) -> TiltPicture | None:
    """Return the least tilted of the images that show particles; None where it cannot be read."""
    seen = np.flatnonzero(windows.visible.any(axis=1) & series.usable)
    if not len(seen):
        return None
    upright = np.abs(series.projections_px[seen, 2, 2])
    tilt = int(seen[np.argmax(upright)])
    try:
        image = series.images.read(tilt)
    except TomopolishError:
        return None
    bin_px = -(-max(image.shape) // LARGEST_PICTURE_PX)
    height, width = (size // bin_px for size in image.shape)
    blocks = image[: height * bin_px, : width * bin_px].reshape(height, bin_px, width, bin_px)
    small = blocks.mean(axis=(1, 3), dtype=np.float64)
    small = np.where(np.isfinite(small), small, np.median(small[np.isfinite(small)], axis=None))
    dark, bright = np.percentile(small, (DARKEST, BRIGHTEST))
    grey = np.clip((small - dark) / max(bright - dark, np.finfo(np.float64).tiny), 0, 1)
    return TiltPicture(tilt=tilt, grey=np.round(255 * grey).astype(np.uint8), bin_px=bin_px)
