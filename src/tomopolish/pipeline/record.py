"""Record of a fit for reports: input, course, sums of windows, agreement in bins, picture of a tilt image."""

from __future__ import annotations

import numpy as np

from tomopolish.dataset.model import TiltSeries
from tomopolish.errors import TomopolishError
from tomopolish.imaging.windows import CorrelationWindows
from tomopolish.physics.geometry import depth_px
from tomopolish.pipeline.fit import Fit
from tomopolish.pipeline.record_kernels import add_shifted
from tomopolish.results.tomogram import BinnedAgreement, FitRecord, InputGeometry, TiltPicture
from tomopolish.shapes import Array, Bool, Float, Float32
from tomopolish.solve.problem import pair_values
from tomopolish.solve.surface import DisplacementSurface, evaluate_surface
from tomopolish.solve.workers import Spread, Workers, alone

MOST_BINS, FEWEST_IN_A_BIN = 16, 25
LARGEST_PICTURE_PX = 320
DARKEST, BRIGHTEST = 1.0, 99.5
"""Percentiles of a picture's pixels that become black and white."""


def fit_record(fit: Fit, threads: int = 1) -> FitRecord:
    """Return the record of a fit for reports."""
    tomogram, windows, refinement = fit.tomogram, fit.windows, fit.refinement
    series, particles = tomogram.series, tomogram.particles
    problem, moved = refinement.problem, refinement.displacements_px
    half = round(windows.range_px / windows.step_px)
    still = np.zeros_like(moved)
    before = np.where(windows.visible, evaluate_surface(problem.surface, still).value, 0.0)
    after = np.where(windows.visible, pair_values(problem, refinement.vector), 0.0)
    power = np.where(windows.visible, windows.power, 0.0)
    by_depth, by_defocus = by_depth_and_defocus(
        series, particles.positions_px, windows.visible, np.stack([before, after]), power
    )
    with Workers(threads) as workers:
        shown = [
            shifted_sums(problem.surface, displacements, half, workers.over)
            for displacements in (still, moved)
        ]
    return FitRecord(
        given=InputGeometry(
            projections_px=series.projections_px,
            positions_px=particles.positions_px,
            tomogram_size_px=series.tomogram_size_px,
            image_size_px=series.image_size_px,
            pixel_size_angstrom=series.pixel_size_angstrom,
            pre_exposure=series.pre_exposure,
            particle_names=particles.names,
            trajectories_px=particles.trajectories_px,
            deformation=series.deformation,
        ),
        visible=windows.visible,
        objective=np.asarray(refinement.history, dtype=np.float64),
        tilt_log_likelihood=np.stack([before.sum(axis=1), after.sum(axis=1)], axis=-1),
        particle_log_likelihood=np.stack([before.sum(axis=0), after.sum(axis=0)], axis=-1),
        tilt_power=power.sum(axis=1),
        particle_power=power.sum(axis=0),
        windows_before=shown[0],
        windows_after=shown[1],
        window_step_angstrom=windows.step_px * series.pixel_size_angstrom,
        by_depth=by_depth,
        by_defocus=by_defocus,
    )


def shifted_sums(
    surface: DisplacementSurface,
    displacements_px: Float[Array, "F P 2"],
    half: int,
    spread: Spread = alone,
) -> Float32[Array, "F n n"]:
    """Return Σ over visible particles of their windows about `displacements_px`, 2·`half` samples wide.

    Parameters
    ----------
    spread
        Threads that share the tilt images.
    """
    index = displacements_px / surface.step_px + surface.origin - half
    whole = np.floor(index)
    powers = (index - whole)[..., None] ** np.arange(4)
    weights = (powers @ surface.basis.T).astype(np.float32)
    first = np.clip(whole, -(2**31), 2**31).astype(np.int64) - 1
    sums = np.zeros((len(index), 2 * half, 2 * half), dtype=np.float32)

    def add(part: slice) -> None:
        for tilt in range(*part.indices(len(sums))):
            add_shifted(
                surface.coefficients.numbers[tilt],
                surface.coefficients.units[tilt],
                surface.visible[tilt],
                first[tilt, :, 0],
                first[tilt, :, 1],
                weights[tilt, :, 0],
                weights[tilt, :, 1],
                sums[tilt],
            )

    spread(len(sums), add)
    return sums


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
