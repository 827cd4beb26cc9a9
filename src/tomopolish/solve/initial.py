"""Robust start: probable shifts of tilt images and displacements of particles, without derivatives.

The peak of a single window may be lost in noise, and a local method that starts at the input converges to one
of its many maxima. The sum over particles (for a tilt image) or over tilt images (for a particle) has a clear
peak, provided that the other positions are known. The start is therefore a mean-field approximation of the
posterior (Bishop 2006, "Pattern recognition and machine learning", ch. 10.1): every tilt image has a
distribution over all shifts in the range, every particle one over all 3D displacements, and each distribution
is updated from the expected log-likelihood under all others. Uncertain positions then contribute blurred
windows instead of wrong ones.
"""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np

from tomopolish.models.parameters import Parameters
from tomopolish.physics.geometry import rotation_from_vector
from tomopolish.shapes import Array, Bool, Float, Float32, Int
from tomopolish.solve.coarse import CoarseWindows, blur_matrix
from tomopolish.solve.kernels import search as search_kernels
from tomopolish.solve.problem import Problem, predicted_positions, unwarped_positions

MIN_SWEEPS = 4
MAX_SWEEPS = 12
CLOUD = 16
SHIFTS = 16
FIRST_SHARPNESS = 5.0
CONVERGED_CHANGE = 0.25
"""Root mean square change of the means, in samples, below which the search ends; the few that still change
are searched again later."""
SHARPENING = 1.8
FIRST_SPACING = 1.5
"""Spacing of displacements in the first sweep, with blurred tilt images, over that in later sweeps."""
DOUBTFUL_SHARE = 0.9
CLEARLY_BETTER = 2.0
"""Log-likelihood, on coarse windows, by which another place must exceed the current one."""
PRIOR_FRACTION = 0.25
"""Prior spread of shifts and of displacements, each, as a fraction of the range."""
FAINTEST = 3e-3
"""Probability, relative to the best place, below which a place is ignored."""
PARTICLES_PER_TASK = 8


@dataclass(eq=False)
class _Belief:
    """Current distributions.

    Attributes
    ----------
    clouds, weights
        Possible displacements of each particle, px, and their probabilities.
    shifts, shares
        Possible shifts (x, y) of each tilt image, in samples, and their probabilities.
    mean_shifts_px, mean_positions_px
        Means of the distributions.
    spread_px
        Prior standard deviation of displacements, re-estimated in every sweep.
    sharpness
        Upper limit of the log-likelihood ratio of the best over the average place: early sums are blurred by
        positions that are still uncertain, and strong signals would make them too certain.
    """

    clouds: Float[Array, "P K 3"]
    weights: Float[Array, "P K"]
    shifts: Int[Array, "2 F K"]
    shares: Float[Array, "F K"]
    mean_shifts_px: Float[Array, "F 2"]
    mean_positions_px: Float[Array, "P 3"]
    spread_px: float
    sharpness: float = FIRST_SHARPNESS


@dataclass(frozen=True, kw_only=True, eq=False)
class _StartGeometry:
    """Geometry at the start of the search, which stays fixed during it.

    Attributes
    ----------
    visible
        Pairs that take part.
    displacements_px
        Displacement (x, y) of each pair from its anchor.
    rows
        First two rows of each projection's rotation.
    """

    visible: Bool[Array, "F P"]
    displacements_px: Float[Array, "F P 2"]
    rows: Float[Array, "F 2 3"]


def mean_field_start(
    problem: Problem,
    windows: CoarseWindows,
    start: Parameters,
    pool: Executor,
) -> Parameters:
    """Return the probable shifts and positions, with a search of the full range.

    Parameters
    ----------
    windows
        Coarse windows.
    start
        Parameters to start from; angles, motion and warp stay as they are.
    pool
        Threads over which tilt images and particles are spread.
    """
    range_px, spacing_px = windows.range_px, windows.length_px
    free = problem.layout.unpack(problem.free)
    move_tilts, move_particles = bool(free.shifts_px.any()), bool(free.positions_px.any())
    seen = problem.surface.visible
    geometry = _StartGeometry(
        visible=seen,
        displacements_px=predicted_positions(problem, start) - problem.anchors_px,
        rows=np.ascontiguousarray(problem.projections_px[:, :2, :3]),
    )
    candidates = ball(range_px, spacing_px) if move_particles else np.zeros((1, 3))
    sparse = ball(range_px, FIRST_SPACING * spacing_px) if move_particles else candidates
    belief = _Belief(
        clouds=np.zeros((seen.shape[1], 1, 3)),
        weights=np.ones((seen.shape[1], 1)),
        shifts=np.zeros((2, len(seen), SHIFTS if move_tilts else 1), dtype=np.int64),
        shares=np.zeros((len(seen), SHIFTS)) if move_tilts else np.ones((len(seen), 1)),
        mean_shifts_px=np.zeros((seen.shape[0], 2)),
        mean_positions_px=np.zeros((seen.shape[1], 3)),
        spread_px=PRIOR_FRACTION * range_px,
    )
    for sweep in range(MAX_SWEEPS):
        before = belief.mean_shifts_px.copy(), belief.mean_positions_px.copy()
        if move_tilts:
            # Before any particle is located, the expected sum over particles is blurred by the prior.
            blur = blur_matrix(windows, belief.spread_px) if sweep == 0 and move_particles else None
            for _ in pool.map(
                lambda tilt, blur=blur: _update_tilt(belief, tilt, windows, geometry, blur),
                range(len(seen)),
            ):
                pass
        if move_particles:
            # Displacements far beyond the particles' current spread are not tried.
            near = np.sum(candidates**2, axis=1) <= max(4 * belief.spread_px, 2 * spacing_px) ** 2
            tried = sparse if sweep == 0 else candidates[near]
            _update_particles(belief, tried, windows, geometry, pool)
        belief.sharpness *= SHARPENING
        change = max(
            float(np.sqrt(np.sum((now - old) ** 2) / max(len(now), 1)))
            for now, old in zip((belief.mean_shifts_px, belief.mean_positions_px), before, strict=True)
        )
        if (sweep >= MIN_SWEEPS and change < CONVERGED_CHANGE * windows.step_px) or not (
            move_tilts and move_particles
        ):
            break
    return replace(
        start,
        shifts_px=start.shifts_px + belief.mean_shifts_px,
        positions_px=start.positions_px + belief.mean_positions_px,
    )


def _update_tilt(
    belief: _Belief,
    tilt: int,
    windows: CoarseWindows,
    geometry: _StartGeometry,
    blur: Float32[Array, "m m"] | None,
) -> None:
    """Update the distribution over one tilt image's shifts."""
    grid, size, range_px = windows.grid_px, windows.size, windows.range_px
    total = np.zeros(windows.values.shape[2:], dtype=np.float32)
    search_kernels.add_clouds(
        windows.values[tilt], size, geometry.visible[tilt], geometry.displacements_px[tilt] / windows.step_px,
        geometry.rows[tilt], belief.clouds, belief.weights, 1 / windows.step_px, total,
    )  # fmt: skip
    total = total[:, :size]
    if blur is not None:
        total = blur @ total @ blur.T
    iy, ix = np.nonzero(grid[:, None] ** 2 + grid[None, :] ** 2 <= range_px**2)
    penalty = (grid[iy] ** 2 + grid[ix] ** 2) / (2 * (PRIOR_FRACTION * range_px) ** 2)
    best, weights = np.empty((1, SHIFTS), dtype=np.int64), belief.shares[tilt, None]
    search_kernels.choose_places(total[iy, ix][None], penalty, belief.sharpness, FAINTEST, best, weights)
    ix, iy = ix[best[0]], iy[best[0]]
    belief.mean_shifts_px[tilt] = weights[0] @ grid[ix], weights[0] @ grid[iy]
    belief.shifts[0, tilt], belief.shifts[1, tilt] = ix - windows.origin, iy - windows.origin


def _update_particles(
    belief: _Belief,
    candidates: Array,
    windows: CoarseWindows,
    geometry: _StartGeometry,
    pool: Executor,
) -> None:
    """Update the distributions over the particles' displacements, and their common spread."""
    seen = geometry.visible
    count, particles = min(CLOUD, len(candidates)), seen.shape[1]
    chosen, weights = np.zeros((particles, count), dtype=np.int64), np.zeros((particles, count))
    index = geometry.displacements_px / windows.step_px + windows.origin
    views, tried = geometry.rows.astype(np.float32), candidates.astype(np.float32)
    penalty = np.sum(tried.astype(np.float64) ** 2, axis=1) / (2 * belief.spread_px**2)

    def place(first: int) -> None:
        last = min(first + PARTICLES_PER_TASK, particles)
        score = np.empty((last - first, len(tried)), dtype=np.float32)
        search_kernels.score_positions(
            windows.values, windows.size, *belief.shifts, belief.shares, first, last, seen, index, views,
            tried, windows.step_px, score,
        )  # fmt: skip
        search_kernels.choose_places(
            score, penalty, belief.sharpness, FAINTEST, chosen[first:last], weights[first:last]
        )

    for _ in pool.map(place, range(0, particles, PARTICLES_PER_TASK)):
        pass
    belief.clouds, belief.weights = tried[chosen].astype(np.float64), weights
    clouds = belief.clouds
    belief.mean_positions_px = np.einsum("pk,pki->pi", weights, clouds)
    mean_square = float(np.mean(np.einsum("pk,pki->p", weights, clouds**2)))
    belief.spread_px = max(np.sqrt(mean_square / 3), windows.step_px / 2)


def ball(radius: float, spacing: float) -> Float[Array, "C 3"]:
    """Return the points of a cubic grid within a ball about 0, nearest first."""
    half = int(np.floor(radius / spacing))
    axis = np.arange(-half, half + 1) * spacing
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    square = np.sum(grid**2, axis=1)
    order = np.argsort(square, kind="stable")
    return grid[order][square[order] <= radius**2 + 1e-9]


def doubtful(
    problem: Problem, pair_values: Float[Array, "F P"], power: Float[Array, "F P"], axis: int
) -> Array:
    """Return the tilt images (axis 1) or particles (axis 0) that gain too little log-likelihood.

    The share of the log-likelihood that the predictions could gain is compared with the median share.
    """
    seen = problem.surface.visible
    gained = np.sum(np.where(seen, pair_values, 0.0), axis=axis)
    possible = np.sum(np.where(seen, power, 0.0), axis=axis)
    counted = possible > 0
    if not counted.any():
        return np.zeros(0, dtype=np.int64)
    share = np.divide(gained, possible, out=np.zeros_like(gained), where=counted)
    return np.flatnonzero(counted & (share < DOUBTFUL_SHARE * np.median(share[counted])))


def search_tilt(
    problem: Problem, windows: CoarseWindows, parameters: Parameters, tilt: int, turns: Float[Array, "N 3"]
) -> tuple[Float[Array, "3"], Float[Array, "2"]]:
    """Return the most probable rotation vector and shift of one tilt image over `turns` and shifts in range.

    Particles have the positions of `parameters`; the problem's prior is included. The current rotation and
    shift are returned unless another choice is better by `CLEARLY_BETTER`.
    """
    seen = problem.surface.visible[tilt]
    size = windows.size
    precision = problem.layout.unpack(problem.precision)
    x, y = np.meshgrid(windows.grid_px, windows.grid_px)
    shift_prior = -0.5 * (precision.shifts_px[tilt, 0] * x**2 + precision.shifts_px[tilt, 1] * y**2)
    # The warp hardly changes over the rotations that are tried, so it is evaluated once.
    unwarped, turned, R = (part[tilt] for part in unwarped_positions(problem, parameters))
    warp = predicted_positions(problem, parameters)[tilt] - unwarped if problem.warps else 0.0
    arms = turned @ R
    fixed = unwarped - turned[:, :2] - parameters.shifts_px[tilt] + warp - problem.anchors_px[tilt]
    step = windows.step_px

    def rows_of(turns: Array) -> Array:
        turned: Array = (rotation_from_vector(turns) @ problem.projections_px[tilt, :3, :3])[..., :2, :]
        return turned

    now_turn, now_shift = parameters.angles[tilt].copy(), parameters.shifts_px[tilt].copy()
    total = np.zeros(windows.values.shape[2:], dtype=np.float32)
    search_kernels.add_clouds(
        windows.values[tilt], size, seen, (arms @ rows_of(now_turn).T + fixed) / step, rows_of(now_turn),
        np.zeros((len(arms), 1, 3)), np.ones((len(arms), 1)), 1.0, total,
    )  # fmt: skip
    ix, iy = np.clip(np.rint(now_shift / step).astype(int) + windows.origin, 1, size - 2)
    around = (slice(iy - 1, iy + 2), slice(ix - 1, ix + 2))
    current = (total[around] + shift_prior[around]).max()
    current -= 0.5 * np.sum(precision.angles[tilt] * now_turn**2)
    score, place = np.empty(len(turns)), np.empty(len(turns), dtype=np.int64)
    search_kernels.best_moves(
        windows.values[tilt], size, seen, arms / step, fixed / step, np.ascontiguousarray(rows_of(turns)),
        shift_prior.astype(np.float32), score, place,
    )  # fmt: skip
    score -= 0.5 * np.sum(precision.angles[tilt] * turns**2, axis=1)
    best = int(np.argmax(score))
    if score[best] <= current + CLEARLY_BETTER:
        return now_turn, now_shift
    return turns[best], windows.grid_px[[place[best] % size, place[best] // size]]


def place_particles(
    problem: Problem,
    windows: CoarseWindows,
    parameters: Parameters,
    candidates: Float[Array, "C 3"],
    *,
    relative: bool = False,
) -> Float[Array, "P 3"]:
    """Return the most probable displacement of each particle, at known projections.

    The problem's prior is included. The current displacement is returned unless a candidate is better by
    `CLEARLY_BETTER`.

    Parameters
    ----------
    relative
        The candidates are relative to the current displacement, and the best one is returned.
    """
    precision, now = problem.layout.unpack(problem.precision).positions_px, parameters.positions_px
    visible = problem.surface.visible
    rows = np.ascontiguousarray(problem.projections_px[:, :2, :3])
    at_input = replace(parameters, positions_px=np.zeros(now.shape))
    start = predicted_positions(problem, at_input) - problem.anchors_px
    moved = start + np.einsum("fij,pj->fpi", rows, now)
    still = np.zeros((len(start), 1), dtype=np.int64)

    def scored(start: Array, tried: Array) -> Array:
        score = np.empty((len(now), len(tried)), dtype=np.float32)
        search_kernels.score_positions(
            windows.values, windows.size, still, still, np.ones(still.shape), 0, len(now), visible,
            start / windows.step_px + windows.origin, rows.astype(np.float32), tried.astype(np.float32),
            windows.step_px, score,
        )  # fmt: skip
        return score.astype(np.float64)

    if relative:
        cost = precision @ (candidates**2).T / 2 + (precision * now) @ candidates.T
        finest: Array = now + candidates[(scored(moved, candidates) - cost).argmax(axis=1)]
        return finest
    current = scored(moved, np.zeros((1, 3)))[:, 0] - np.sum(precision * now**2, axis=1) / 2
    score = scored(start, candidates) - precision @ (candidates**2).T / 2
    is_better = score.max(axis=1) > current + CLEARLY_BETTER
    return np.where(is_better[:, None], candidates[score.argmax(axis=1)], now)


def turns_around(spread_radians: float, finest_radians: float) -> Float[Array, "N 3"]:
    """Return rotation vectors that cover ±2.5 spreads about every axis in steps ≥ `finest_radians`."""
    spacing = max(finest_radians, spread_radians)
    return ball(max(2.5 * spread_radians, spacing), spacing)
