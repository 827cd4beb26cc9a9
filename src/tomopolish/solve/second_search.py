"""A second search for particles that may have been misplaced, once it is known which pairs to believe.

The first search counts all pairs alike. Empty tilt images add noise to it, and false particles that wander
make the prior of displacements too wide, so that a faint particle can end at a place that only noise prefers.
Once probabilities are known, the prior is that of the good particles, and empty images do not count. Given
the projections, particles are independent of each other: each is searched, refined and moved by itself.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tomopolish.shapes import Array, Bool, Float, Int
from tomopolish.solve.initial import ball
from tomopolish.solve.kernels.search import score_places
from tomopolish.solve.maximisation import COARSE_TOLERANCE, Tally
from tomopolish.solve.outliers import Trust
from tomopolish.solve.problem import Problem, State, pair_values, predicted_positions
from tomopolish.solve.workers import Workers

CERTAIN, FAR = 0.99, 4.0
"""Probability from which on a particle is not searched again, if its displacement is below so many standard
deviations of the prior."""
REACH = 4.0
"""Radius of the search, in standard deviations of the prior."""
SPACING = 0.7
"""Spacing of the places that are tried, over the correlation length of the windows."""
CLEAR_GAIN = 0.5
"""Gain in log-posterior, in nats, from which on another place is better than the current one."""
EVALUATIONS = 10
TOGETHER = 64
"""Number of particles that a thread searches at a time."""


def move_misplaced(
    problem: Problem, state: State, trust: Trust, length_px: float, tally: Tally, workers: Workers
) -> Float[Array, "N"]:
    """Return the parameters with each doubtful particle where its images, and the prior, prefer it.

    Parameters
    ----------
    problem
        With the prior's widths that the probable particles show.
    length_px
        Correlation length of the windows.
    """
    layout = problem.layout
    # A particle is searched as if it were a good one.
    weights = np.repeat(trust.tilts[:, None], len(trust.particles), axis=1)
    precision = layout.unpack(problem.precision).positions_px
    far = np.sum(precision * layout.unpack(state.vector).positions_px ** 2, axis=1) > FAR**2
    doubtful = (trust.particles < CERTAIN) | far
    fair = replace(problem, pair_weights=weights)
    return move_to_likelier(fair, state, doubtful, length_px, tally, workers)


def move_to_likelier(
    problem: Problem,
    state: State,
    doubtful: Bool[Array, "P"],
    length_px: float,
    tally: Tally,
    workers: Workers,
) -> Float[Array, "N"]:
    """Return the parameters with some particles where their images, and the prior, prefer them.

    Parameters
    ----------
    problem
        With weights of the pairs that do not depend on the doubt.
    """
    layout, free = problem.layout, problem.layout.unpack(problem.free)
    shown = _weights(problem).any(axis=0)
    which = np.flatnonzero(free.positions_px.all(axis=1) & shown & doubtful)
    if not len(which):
        return state.vector
    moved = state.vector.copy()
    layout.unpack(moved).positions_px[which] = _likeliest_places(problem, state, which, length_px, workers)
    only = layout.fill()
    layout.unpack(only).positions_px[which] = 1
    local = replace(problem, free=problem.free & (only > 0))
    after = tally.newton(local, moved, workers.over, COARSE_TOLERANCE, most=EVALUATIONS).state.vector
    gain = _posterior(local, after) - _posterior(local, state.vector)
    better = which[gain[which] > CLEAR_GAIN]
    if not len(better):
        return state.vector
    result = state.vector.copy()
    layout.unpack(result).positions_px[better] = layout.unpack(after).positions_px[better]
    return result


def _likeliest_places(
    problem: Problem,
    state: State,
    which: Int[Array, "D"],
    length_px: float,
    workers: Workers,
) -> Float[Array, "D 3"]:
    """Return the likeliest of a grid of displacements about the input position, for each particle."""
    layout = problem.layout
    parameters, precision = layout.unpack(state.vector), layout.unpack(problem.precision)
    deviation = 1 / np.sqrt(float(precision.positions_px.mean()))
    tried = ball(REACH * deviation, SPACING * length_px)
    displaced = predicted_positions(problem, parameters) - problem.anchors_px
    rows, weights = state.rotations[:, :2], _weights(problem)
    best = parameters.positions_px[which].copy()

    surface = problem.surface
    samples = np.array([1 / surface.step_px, surface.origin])
    limit = np.array([surface.range_px, surface.range_penalty])

    def search(first: int) -> None:
        part = which[first : first + TOGETHER]
        start = displaced[:, part] - np.einsum("fij,pj->fpi", rows, parameters.positions_px[part])
        score = np.empty((len(part), len(tried)))
        score_places(
            surface.coefficients.numbers, surface.coefficients.units, weights, start, rows, tried, samples,
            limit, part, surface.basis, score,
        )  # fmt: skip
        score -= 0.5 * precision.positions_px[part] @ (tried**2).T
        best[first : first + TOGETHER] = tried[np.argmax(score, axis=1)]

    for _ in workers.map(search, range(0, len(which), TOGETHER)):
        pass
    return best


def _weights(problem: Problem) -> Float[Array, "F P"]:
    """Return the weight of each pair; zero where it is not visible."""
    visible, weights = problem.surface.visible, problem.pair_weights
    return visible.astype(float) if weights is None else np.where(visible, weights, 0.0)


def _posterior(problem: Problem, vector: Float[Array, "N"]) -> Float[Array, "P"]:
    """Return the log-posterior of each particle's position."""
    blocks, precision = problem.layout.unpack(vector), problem.layout.unpack(problem.precision)
    values = np.where(problem.surface.visible, pair_values(problem, vector) * _weights(problem), 0.0)
    prior = -0.5 * np.sum(precision.positions_px * blocks.positions_px**2, axis=1)
    posterior: Array = values.sum(axis=0) + prior
    return posterior
