"""Record of a fit for reports: its input, its course, and sums of its windows."""

from __future__ import annotations

import numpy as np

from tomopolish.pipeline.fit import Fit
from tomopolish.pipeline.record_kernels import add_shifted
from tomopolish.pipeline.shown import by_depth_and_defocus
from tomopolish.results.tomogram import FitRecord, InputGeometry
from tomopolish.shapes import Array, Float, Float32
from tomopolish.solve.problem import pair_values
from tomopolish.solve.surface import DisplacementSurface, evaluate_surface
from tomopolish.solve.workers import Spread, Workers, alone


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
