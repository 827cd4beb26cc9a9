"""Compiled loops over particles and their neighbours (`neighbour_motion`), for some courses of motion.

Particles are in the order of `NeighbourMotion`, so that neighbours come before the particles whose velocities
they predict. Arrays of values are (P, Q): particle, course. The number of neighbours is a multiple of four,
which are read together where that saves traffic with a sum; those that a particle lacks have weight zero.

The loops run on one thread, without Python's lock.
"""

from __future__ import annotations

import numpy as np

from tomopolish.jit import inlined, kernel


@inlined(fastmath={"contract", "reassoc"})
def add_predicted(row, neighbours, weights, values):  # type: ignore[no-untyped-def]
    """Add what one particle's neighbours predict of its values to a row."""
    for s in range(0, len(neighbours), 4):
        i, j, k, m = neighbours[s], neighbours[s + 1], neighbours[s + 2], neighbours[s + 3]
        a, b, c, d = weights[s], weights[s + 1], weights[s + 2], weights[s + 3]
        for q in range(len(row)):
            row[q] += a * values[i, q] + b * values[j, q] + c * values[k, q] + d * values[m, q]


@inlined(fastmath={"contract", "reassoc"})
def add_to_neighbours(values, neighbours, weights, row):  # type: ignore[no-untyped-def]
    """Add a particle's row, times its weights, to its neighbours' values."""
    for s in range(len(neighbours)):
        i, a = neighbours[s], weights[s]
        if a != 0:
            for q in range(len(row)):
                values[i, q] += a * row[q]


@kernel(fastmath={"contract", "reassoc"})
def correlate(neighbours, weights, deviations, values):  # type: ignore[no-untyped-def]
    """Make velocities of white noise in place: its own times a deviation, and the neighbours' times weights.

    Parameters
    ----------
    neighbours : (P, M) int64, weights : (P, M), deviations : (P,)
    values : (P, Q), read and written; of the type of weights and deviations
    """
    row = np.empty(values.shape[1], values.dtype)
    for p in range(len(values)):
        for q in range(len(row)):
            row[q] = deviations[p] * values[p, q]
        add_predicted(row, neighbours[p], weights[p], values)
        for q in range(len(row)):
            values[p, q] = row[q]


@kernel(fastmath={"contract", "reassoc"})
def correlate_transposed(neighbours, weights, deviations, values):  # type: ignore[no-untyped-def]
    """Apply the transpose of `correlate` in place; arguments are the same."""
    row = np.empty(values.shape[1], values.dtype)
    for p in range(len(values) - 1, -1, -1):
        for q in range(len(row)):
            row[q] = values[p, q]
        add_to_neighbours(values, neighbours[p], weights[p], row)
        for q in range(len(row)):
            values[p, q] = deviations[p] * row[q]


@kernel(fastmath={"contract", "reassoc"})
def multiply(starts, columns, weights, first, last, values, result):  # type: ignore[no-untyped-def]
    """Multiply some rows of a sparse matrix with values.

    Parameters
    ----------
    starts : (P + 1,) int64, where each row begins; rows have multiples of four entries
    columns : (N,) int32, weights : (N,), column and value of each entry
    first, last : int, the first row and the one after the last
    values : (P, Q), result : (P, Q), some rows written; of the type of weights
    """
    row = np.empty(values.shape[1], values.dtype)
    for p in range(first, last):
        row[:] = 0
        begin, end = starts[p], starts[p + 1]
        add_predicted(row, columns[begin:end], weights[begin:end], values)
        for q in range(len(row)):
            result[p, q] = row[q]


@kernel()
def locate(neighbours, weights, places):  # type: ignore[no-untyped-def]
    """Find each of a particle's neighbours among those of its other neighbours that come later.

    Parameters
    ----------
    places : (P, M, M) int16, the number there; −1 where it is none of them; written
    """
    count = neighbours.shape[1]
    for p in range(len(neighbours)):
        for s in range(count):
            for r in range(count):
                high, low = max(neighbours[p, s], neighbours[p, r]), min(neighbours[p, s], neighbours[p, r])
                place = -1
                for t in range(count):
                    if neighbours[high, t] == low and weights[high, t] != 0:
                        place = t
                places[p, s, r] = place


@kernel(fastmath={"contract", "reassoc"})
def eliminate(  # type: ignore[no-untyped-def]
    neighbours, weights, deviations, places, information, pivots, links
):  # fmt: skip
    """Factorise the precision of velocities that images measure, incompletely, from the last particle on.

    The precision is WᵀW + λ, with λ diagonal and W the inverse of `correlate`; its factor is kept where W is
    not zero. What elimination couples beyond that is added to the diagonal, which keeps the factor positive
    definite, and the precision of velocities that all particles share.

    Parameters
    ----------
    places : (P, M, M) int16, see `locate`
    information : (P, Q) float64, λ
    pivots : (P, Q) float32, links : (P, M, Q) float32; written
    """
    count, courses = neighbours.shape[1], information.shape[1]
    diagonal, row, link = np.zeros(pivots.shape), np.empty((count, courses)), np.empty((count, courses))
    more = np.zeros((len(pivots), count, courses))
    for p in range(len(pivots) - 1, -1, -1):
        own = 1 / deviations[p]
        for q in range(courses):
            diagonal[p, q] += own * own + information[p, q]
            pivots[p, q] = diagonal[p, q]
        for s in range(count):
            coupling = -own * own * weights[p, s]
            for q in range(courses):
                row[s, q] = coupling + more[p, s, q]
                link[s, q] = row[s, q] / diagonal[p, q]
                links[p, s, q] = link[s, q]
        for s in range(count):
            if weights[p, s] == 0:
                continue
            i = neighbours[p, s]
            prior = own * own * weights[p, s] * weights[p, s]
            for q in range(courses):
                diagonal[i, q] += prior - row[s, q] * link[s, q]
            for r in range(s):
                if weights[p, r] == 0:
                    continue
                j, place = neighbours[p, r], places[p, s, r]
                prior = own * own * weights[p, s] * weights[p, r]
                if place >= 0:
                    high = max(i, j)
                    for q in range(courses):
                        more[high, place, q] += prior - row[s, q] * link[r, q]
                else:
                    for q in range(courses):
                        left = abs(prior - row[s, q] * link[r, q])
                        diagonal[i, q] += left
                        diagonal[j, q] += left


@kernel(fastmath={"contract", "reassoc"})
def solve(neighbours, pivots, links, values):  # type: ignore[no-untyped-def]
    """Divide by the precision that `eliminate` factorised, in place.

    Parameters
    ----------
    values : (P, Q) float32, read and written
    """
    count, courses = neighbours.shape[1], values.shape[1]
    row = np.empty(courses, values.dtype)
    for p in range(len(values) - 1, -1, -1):
        for q in range(courses):
            row[q] = values[p, q]
            values[p, q] = row[q] / pivots[p, q]
        for s in range(count):
            i = neighbours[p, s]
            for q in range(courses):
                values[i, q] -= links[p, s, q] * row[q]
    for p in range(len(values)):
        for q in range(courses):
            row[q] = values[p, q]
        for s in range(0, count, 4):
            i, j = neighbours[p, s], neighbours[p, s + 1]
            k, m = neighbours[p, s + 2], neighbours[p, s + 3]
            for q in range(courses):
                row[q] -= (
                    links[p, s, q] * values[i, q]
                    + links[p, s + 1, q] * values[j, q]
                    + links[p, s + 2, q] * values[k, q]
                    + links[p, s + 3, q] * values[m, q]
                )
        for q in range(courses):
            values[p, q] = row[q]
