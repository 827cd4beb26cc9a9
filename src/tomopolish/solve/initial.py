"""Robust start: where each tilt image and each particle sits, before any derivative is used.

Correlation windows have many local maxima, and a local method started at the input ends in one of them. Here
tilt images and particles take turns: given the particles, every tilt image tries all shifts in the range;
given the tilt images, every particle tries all 3D displacements in the range. The windows are blurred at
first, so that what is still unknown of the others does not smear the peak away, and sharpened level by level.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from tomopolish.models.parameters import Parameters
from tomopolish.solve import kernels
from tomopolish.solve.problem import Problem, predicted_positions

Array = np.ndarray


@dataclass(frozen=True, kw_only=True)
class SearchLevel:
    """One level of the search.

    Attributes
    ----------
    blur_px
        Gaussian blur of the windows.
    reach_px
        Largest change of a tilt image's shift or a particle's position against its current one.
    sweeps
        How often tilt images and particles take turns.
    """

    blur_px: float
    reach_px: float
    sweeps: int


def blurred(values: Float[Array, "F P n n"], blur_samples: float) -> Float[Array, "F P n n"]:
    """Gaussian blur of every window, nothing outside."""
    if blur_samples <= 0:
        return values
    index = np.arange(values.shape[-1])
    matrix = np.exp(-((index[:, None] - index[None, :]) ** 2) / (2 * blur_samples**2))
    matrix = (matrix / matrix.sum(axis=1).mean()).astype(np.float32)
    result = np.empty_like(values)
    for tilt in range(len(values)):
        result[tilt] = matrix @ values[tilt] @ matrix
    return result


def search(
    problem: Problem,
    values: Float[Array, "F P n n"],
    parameters: Parameters,
    level: SearchLevel,
    sample: tuple[int, float],
) -> Parameters:
    """Take turns between tilt images and particles on windows of one blur.

    Parameters
    ----------
    values
        Windows, already blurred.
    parameters
        Where to start; angles, motion and warp stay as they are.
    sample
        Index of displacement zero, and px per sample.
    """
    free = problem.layout.unpack(problem.free)
    for _ in range(level.sweeps):
        if free.shifts_px.any():
            parameters = _search_shifts(problem, values, parameters, level, sample)
        if free.positions_px.any():
            parameters = _search_positions(problem, values, parameters, level, sample)
    return parameters


def _search_shifts(
    problem: Problem, values: Array, parameters: Parameters, level: SearchLevel, sample: tuple[int, float]
) -> Parameters:
    origin, step = sample
    current = (predicted_positions(problem, parameters) - problem.anchors_px) / step
    whole = np.rint(current).astype(np.int64)
    free = problem.layout.unpack(problem.free).shifts_px
    prior = problem.layout.unpack(problem.precision).shifts_px
    shifts = parameters.shifts_px.copy()
    size = values.shape[-1]
    grid = (np.arange(size) - origin) * step
    far = np.hypot(grid[:, None], grid[None, :]) > level.reach_px
    for tilt in np.flatnonzero(free.all(axis=1)):
        seen = problem.surface.visible[tilt]
        if not seen.any():
            continue
        total = np.zeros((size, size))
        kernels.add_shifted(values[tilt], whole[tilt, :, 0], whole[tilt, :, 1], seen, total)
        x, y = shifts[tilt, 0] + grid[None, :], shifts[tilt, 1] + grid[:, None]
        total -= 0.5 * (prior[tilt, 0] * x**2 + prior[tilt, 1] * y**2)
        total[far] = -np.inf
        iy, ix = np.unravel_index(int(np.argmax(total)), total.shape)
        shifts[tilt] += _peak(total, int(iy), int(ix)) * step - origin * step
    return Parameters(
        angles=parameters.angles,
        shifts_px=shifts,
        positions_px=parameters.positions_px,
        motion=parameters.motion,
        warp=parameters.warp,
    )


def _peak(image: Array, iy: int, ix: int) -> Float[Array, "2"]:
    """Sub-sample position (x, y) of a maximum: parabolas through its neighbours."""
    position = np.array([ix, iy], dtype=np.float64)
    for axis, (before, after) in enumerate([((iy, ix - 1), (iy, ix + 1)), ((iy - 1, ix), (iy + 1, ix))]):
        if min(before) < 0 or max(after) >= len(image):
            continue
        low, mid, high = image[before], image[iy, ix], image[after]
        bend = low - 2 * mid + high
        if np.isfinite(bend) and bend < 0:
            position[axis] += 0.5 * (low - high) / bend
    return position


def _search_positions(
    problem: Problem, values: Array, parameters: Parameters, level: SearchLevel, sample: tuple[int, float]
) -> Parameters:
    origin, step = sample
    index = (predicted_positions(problem, parameters) - problem.anchors_px) / step + origin
    rows = np.ascontiguousarray(problem.projections_px[:, :2, :3])
    prior = problem.layout.unpack(problem.precision).positions_px
    positions = parameters.positions_px.copy()
    spacings = list(_spacings(level))
    for p in np.flatnonzero(problem.surface.visible.any(axis=0)):
        windows = np.ascontiguousarray(values[:, p])
        seen = np.ascontiguousarray(problem.surface.visible[:, p])
        start = np.ascontiguousarray(index[:, p])
        best = np.zeros(3)
        for reach, spacing in spacings:
            candidates = best + _ball(reach, spacing)
            score = np.empty(len(candidates))
            kernels.score_positions(windows, seen, start, rows, candidates, step, score)
            score -= 0.5 * np.sum(prior[p] * (positions[p] + candidates) ** 2, axis=1)
            best = candidates[int(np.argmax(score))]
        positions[p] += best
    return Parameters(
        angles=parameters.angles,
        shifts_px=parameters.shifts_px,
        positions_px=positions,
        motion=parameters.motion,
        warp=parameters.warp,
    )


def _spacings(level: SearchLevel) -> Iterator[tuple[float, float]]:
    """Reach and spacing of successive grids: from the blur's own scale to a quarter of a pixel."""
    spacing = max(level.blur_px, 1.0)
    reach = level.reach_px
    while True:
        yield reach, spacing
        if spacing <= 0.26:
            return
        reach, spacing = 1.5 * spacing, spacing / 2


def _ball(reach: float, spacing: float) -> Float[Array, "C 3"]:
    half = int(np.floor(reach / spacing))
    axis = np.arange(-half, half + 1) * spacing
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    grid = grid[np.sum(grid**2, axis=1) <= reach**2 + 1e-9]
    # Nearest first: among equals the smallest displacement wins.
    return grid[np.argsort(np.sum(grid**2, axis=1), kind="stable")]
