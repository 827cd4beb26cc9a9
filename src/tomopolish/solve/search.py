"""The search for the start: shifts, angles and positions close enough for Newton's method on sharp windows.

A few hundred particles determine the projections: a mean-field start (`initial`), then less and less blurred
windows. At known projections the remaining particles do not depend on each other, and each is placed alone.
"""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import replace

import numpy as np

from tomopolish.models.motion import NoMotion
from tomopolish.models.parameters import Layout
from tomopolish.shapes import Array, Bool, Float, Int
from tomopolish.solve.coarse import CoarseWindows, coarse_surface, coarse_windows
from tomopolish.solve.initial import (
    ball,
    doubtful,
    mean_field_start,
    place_particles,
    search_tilt,
    turns_around,
)
from tomopolish.solve.maximisation import COARSE_TOLERANCE, Tally, newton
from tomopolish.solve.newton import NewtonOptions
from tomopolish.solve.prior_widths import informed_precision
from tomopolish.solve.problem import Problem, State, pair_values
from tomopolish.solve.surface import DisplacementSurface
from tomopolish.solve.workers import Workers

FEWEST_SEARCHED = 300
"""Number of particles that determine the projections in a search, if there are as many."""
ENOUGH_POWER = 2000.0
"""Power of their predictions in an average tilt image, in nats, for which more particles are taken."""
BLURRED = NewtonOptions(relative_tolerance=COARSE_TOLERANCE, max_evaluations=8)
"""When to stop on blurred windows."""
SEARCH_ROUNDS = 3
SAME_OPTIMUM = 0.5
"""Objectives that differ by less than this, in nats, belong to the same optimum."""
NEAR = 4.0
"""Displacements of the remaining particles that are tried first, over the spread of the particles before."""
BLOCK = 64
"""Number of particles that are placed together, to limit memory."""


def search(
    problem: Problem, power: Float[Array, "F P"], start: Float[Array, "N"], tally: Tally, workers: Workers
) -> Float[Array, "N"]:
    """Return a solution of the static problem, with a search of the full range.

    Parameters
    ----------
    problem
        Only static parameters are free; its surfaces are those of the unblurred windows.
    power
        Weighted power of each pair's prediction (`CorrelationWindows.power`).
    start
        Parameters to start from; motion and warp stay as they are.
    """
    everyone = np.arange(problem.layout.particles)
    still, vector = restricted(problem, start, everyone)
    members = searched_first(still.surface.visible, power)
    if len(members) == len(everyone):
        _, vector = _search_together(still, power, vector, tally, workers)
    else:
        part, of_part = restricted(still, vector, members)
        part, solved = _search_together(part, power[:, members], of_part, tally, workers)
        known, blocks = part.layout.unpack(solved), still.layout.unpack(vector)
        blocks.angles[...], blocks.shifts_px[...] = known.angles, known.shifts_px
        blocks.positions_px[members] = known.positions_px
        others = np.setdiff1d(np.flatnonzero(still.surface.visible.any(axis=0)), members)
        if still.layout.unpack(still.free).positions_px.any():
            still = _with_positions(still, part)
            vector = _place_others(still, power, vector, others, tally, workers)
    result = start.copy()
    known, blocks = still.layout.unpack(vector), problem.layout.unpack(result)
    blocks.angles[...], blocks.shifts_px[...] = known.angles, known.shifts_px
    blocks.positions_px[...] = known.positions_px
    return result


def searched_first(visible: Bool[Array, "F P"], power: Float[Array, "F P"]) -> Int[Array, "M"]:
    """Return evenly spread particles that determine the projections; all if there are few."""
    seen = np.flatnonzero(visible.any(axis=0))
    if len(seen) <= FEWEST_SEARCHED:
        return np.arange(visible.shape[1])
    total = np.where(visible, power, 0.0).sum(axis=1)
    typical = float(np.median(total[visible.any(axis=1)])) / len(seen)
    wanted = max(FEWEST_SEARCHED, int(np.ceil(ENOUGH_POWER / max(typical, 1e-12 * ENOUGH_POWER))))
    if wanted >= len(seen):
        return np.arange(visible.shape[1])
    return seen[np.round(np.linspace(0, len(seen) - 1, wanted)).astype(np.int64)]


def restricted(
    problem: Problem, vector: Float[Array, "N"], members: Int[Array, "M"]
) -> tuple[Problem, Float[Array, "N"]]:
    """Return the problem and the vector of some particles; motion becomes part of their input positions."""
    layout, motion = problem.layout, problem.layout.unpack(vector).motion
    points = problem.points_px
    if motion.any():
        points = points + problem.motion.offsets_px(motion)
    still = NoMotion(tilts=layout.tilts, particles=len(members))
    part = Layout(
        tilts=layout.tilts,
        particles=len(members),
        motion_shape=still.shape,
        warp_shape=layout.warp_shape,
    )

    def of_part(values: Array) -> Array:
        blocks, result = layout.unpack(values), np.empty(part.size, dtype=values.dtype)
        target = part.unpack(result)
        target.angles[...], target.shifts_px[...] = blocks.angles, blocks.shifts_px
        target.positions_px[...], target.warp[...] = blocks.positions_px[members], blocks.warp
        return result

    is_all = len(members) == layout.particles
    some = replace(
        problem,
        surface=problem.surface if is_all else problem.surface.of_particles(members),
        anchors_px=np.take(problem.anchors_px, members, axis=1),
        points_px=np.take(points, members, axis=1),
        motion=still,
        precision=of_part(problem.precision),
        free=of_part(problem.free),
        pair_weights=None if problem.pair_weights is None else problem.pair_weights[:, members],
    )
    return some, of_part(vector)


def _with_positions(problem: Problem, part: Problem) -> Problem:
    """Return the problem with priors of positions at least as narrow as those of a part of it."""
    precision = problem.precision.copy()
    positions = problem.layout.unpack(precision).positions_px
    np.maximum(positions, part.layout.unpack(part.precision).positions_px.mean(), out=positions)
    return replace(problem, precision=precision)


def _place_others(
    problem: Problem,
    power: Float[Array, "F P"],
    vector: Float[Array, "N"],
    others: Int[Array, "M"],
    tally: Tally,
    workers: Workers,
) -> Float[Array, "N"]:
    """Return the vector with places of the remaining particles at known projections.

    They are searched near their input position, and in the full range if they gain too little log-likelihood.
    """
    surface = problem.surface
    spread = 1 / np.sqrt(problem.layout.unpack(problem.precision).positions_px.mean())
    reach = min(surface.range_px, NEAR * max(spread, surface.length_px))
    places = _places(problem, vector, others, ball(reach, surface.length_px), workers)
    best = tally.newton(problem, places, workers.over, COARSE_TOLERANCE).state
    weak = doubtful(problem, pair_values(problem, best.vector), power, axis=0)
    weak = np.intersect1d(weak, others)
    return _places(problem, best.vector, weak, ball(surface.range_px, surface.length_px), workers)


def _places(
    problem: Problem,
    vector: Float[Array, "N"],
    particles: Int[Array, "M"],
    candidates: Float[Array, "C 3"],
    pool: Executor,
) -> Float[Array, "N"]:
    """Return the vector with particles near the best of `candidates`, where that is clearly better."""
    around = ball(problem.surface.length_px, problem.surface.length_px / 4)

    def place(some: Array) -> Array:
        part, of_part = restricted(problem, vector, some)
        now, coarse = part.layout.unpack(of_part), coarse_windows(part.surface)
        best = place_particles(part, coarse, now, candidates)
        finer = place_particles(part, coarse, replace(now, positions_px=best), around, relative=True)
        return np.where((best == now.positions_px).all(axis=1)[:, None], best, finer)

    result = vector.copy()
    blocks = [particles[first : first + BLOCK] for first in range(0, len(particles), BLOCK)]
    for some, places in zip(blocks, pool.map(place, blocks), strict=True):
        problem.layout.unpack(result).positions_px[some] = places
    return result


def _search_together(
    problem: Problem, power: Float[Array, "F P"], start: Float[Array, "N"], tally: Tally, workers: Workers
) -> tuple[Problem, Float[Array, "N"]]:
    """Search projections and positions together; returns the problem with informed widths, and the solution.

    Tilt images and particles that gain too little log-likelihood are then searched again.
    """
    layout, visible = problem.layout, problem.surface.visible
    length = problem.surface.length_px
    coarse = coarse_windows(problem.surface, workers)
    vector = layout.pack(mean_field_start(problem, coarse, layout.unpack(start), workers))

    surfaces = [coarse_surface(coarse, visible, blur_px, workers) for blur_px in (length, length / 2)]

    def blurred(problem: Problem, vector: Array, surface: DisplacementSurface) -> Array:
        return newton(replace(problem, surface=surface), vector, BLURRED, workers.over).state.vector

    for surface in surfaces:
        vector = blurred(problem, vector, surface)
    best = tally.newton(problem, vector, workers.over, COARSE_TOLERANCE).state
    for _ in range(SEARCH_ROUNDS):
        # The displacements of all limit those of tilt images and particles that are searched again.
        informed = replace(problem, precision=informed_precision(problem, best.vector))
        changed = search_doubtful(informed, power, coarse, best, workers)
        if changed is None:
            break
        vector = blurred(informed, changed, surfaces[-1])
        again = tally.newton(informed, vector, workers.over, COARSE_TOLERANCE).state
        current = best.log_likelihood + informed.log_prior(best.vector)
        if again.objective <= current + SAME_OPTIMUM:
            break
        best = again
    return replace(problem, precision=informed_precision(problem, best.vector)), best.vector


def search_doubtful(
    problem: Problem, power: Float[Array, "F P"], coarse: CoarseWindows, state: State, pool: Executor
) -> Array | None:
    """Search the tilt images and particles again that gain too little log-likelihood.

    The remaining ones are well placed by now, so that shifts can be searched together with rotations. Returns
    the new vector, or None when no better place exists.
    """
    layout = problem.layout
    vector = state.vector.copy()
    blocks, free = layout.unpack(vector), layout.unpack(problem.free)
    values = pair_values(problem, state.vector)
    particles = doubtful(problem, values, power, axis=0)
    tilts = doubtful(problem, values, power, axis=1)
    if free.positions_px.any():
        reach = ball(coarse.range_px, coarse.step_px)
        blocks.positions_px[...] = layout.unpack(
            _places(problem, state.vector, particles, reach, pool)
        ).positions_px
    if free.shifts_px.any():
        certain = np.delete(blocks.angles, tilts, axis=0)
        spread = float(np.sqrt(np.mean(certain**2))) if len(certain) else 0.0
        arm = float(np.sqrt(np.mean(np.sum(state.turned**2, axis=-1))))
        turns = turns_around(spread, coarse.step_px / arm) if free.angles.any() else np.zeros((1, 3))
        moved = layout.unpack(vector.copy())
        choices = pool.map(lambda tilt: search_tilt(problem, coarse, moved, tilt, turns), tilts)
        for tilt, (turn, shift) in zip(tilts, choices, strict=True):
            blocks.angles[tilt], blocks.shifts_px[tilt] = turn, shift
    return None if np.array_equal(vector, state.vector) else vector
