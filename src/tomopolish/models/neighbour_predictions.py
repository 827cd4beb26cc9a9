"""Velocities of particles, predicted from those of their nearest neighbours by sparse matrices.

See `neighbour_motion`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.spatial.distance import cdist

from tomopolish.models import neighbour_kernels
from tomopolish.models.courses import PANEL, on_threads, parts
from tomopolish.shapes import Array, Float, Int, Int16

LEAST_VARIANCE = 1e-8
"""Smallest variance of a velocity given its neighbours', over its own: particles may lie at one place."""
BLOCK = 64
"""Number of courses that a thread computes at a time."""
TOGETHER = 4
"""Entries of a sparse matrix that its kernel reads together; rows have a multiple of that."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SparseRows:
    """A square sparse matrix by rows; entry n of row p stands at `starts[p]` + n, zeros at the rows' ends."""

    starts: Int[Array, "starts"]
    columns: Int[Array, "N"]
    weights: Float[Array, "N"]

    @classmethod
    def of(
        cls, rows: Int[Array, "n"], columns: Int[Array, "n"], weights: Float[Array, "n"], size: int
    ) -> SparseRows:
        """Return the matrix with these entries, and zeros elsewhere."""
        order = np.argsort(rows, kind="stable")
        counts = np.bincount(rows, minlength=size)
        starts = np.concatenate([[0], np.cumsum(-(-counts // TOGETHER) * TOGETHER)])
        before = np.cumsum(counts) - counts
        at = np.arange(len(rows)) + np.repeat(starts[:-1] - before, counts)
        placed, values = np.zeros(starts[-1], dtype=np.int32), np.zeros(starts[-1])
        placed[at], values[at] = columns[order], weights[order]
        return cls(starts=starts, columns=placed, weights=values)

    def single(self) -> SparseRows:
        """Return the same in single precision."""
        return SparseRows(starts=self.starts, columns=self.columns, weights=self.weights.astype(np.float32))

    def times(self, values: Float[Array, "P Q"], threads: int) -> Float[Array, "P Q"]:
        """Return the product with values of all rows, in the matrix's precision; threads change nothing."""
        source = np.ascontiguousarray(values, dtype=self.weights.dtype)
        result = np.empty_like(source)

        def work(panel: slice) -> None:
            first, last = panel.start, panel.stop
            neighbour_kernels.multiply(self.starts, self.columns, self.weights, first, last, source, result)

        on_threads(work, parts(len(source), PANEL), threads)
        return result


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """Velocities v_p = Σ_n w_pn v_n + d_p c_p of ordered particles, with c white noise.

    Attributes
    ----------
    neighbours, weights
        Places of a particle's neighbours in the order, all before its own, and w; weights of missing
        neighbours are zero.
    deviations
        d, px.
    """

    neighbours: Int[Array, "P M"]
    weights: Float[Array, "P M"]
    deviations: Float[Array, "P"]

    @classmethod
    def of(
        cls, positions: Float[Array, "P 3"], neighbours: Int[Array, "P M"], sigma_velocity_px: float
    ) -> Predictions:
        """Return the best predictions for a covariance σ² exp(−x).

        Parameters
        ----------
        positions
            Of the ordered particles, in units of the covariance's distance.
        neighbours
            The p-th particle has the first p of them.
        """
        weights, variances = np.zeros(neighbours.shape), np.ones(len(positions))
        for p in range(1, len(positions)):
            near = positions[neighbours[p, :p]]
            covariances = np.exp(-np.linalg.norm(near - positions[p], axis=1))
            between = np.exp(-cdist(near, near))
            between[np.diag_indices(len(near))] += LEAST_VARIANCE
            own = np.linalg.solve(between, covariances)
            weights[p, : len(near)] = own
            variances[p] = max(1 - own @ covariances, LEAST_VARIANCE)
        return cls(neighbours=neighbours, weights=weights, deviations=sigma_velocity_px * np.sqrt(variances))

    @cached_property
    def whitening(self) -> tuple[SparseRows, SparseRows]:
        """L⁻¹ and its transpose, with v = Lc: c_p = (v_p − Σ_n w_pn v_n) / d_p."""
        size, number = self.neighbours.shape
        own, known = np.arange(size), self.weights != 0
        rows = np.concatenate([own, np.repeat(own, number)[known.ravel()]])
        columns = np.concatenate([own, self.neighbours[known]])
        scaled = -self.weights / self.deviations[:, None]
        weights = np.concatenate([1 / self.deviations, scaled[known]])
        return SparseRows.of(rows, columns, weights, size), SparseRows.of(columns, rows, weights, size)

    @cached_property
    def rough_whitening(self) -> tuple[SparseRows, SparseRows]:
        """The same in single precision, which suffices for steps of the solver."""
        forward, back = self.whitening
        return forward.single(), back.single()

    def apply(self, kernel: Callable[..., None], values: Float[Array, "P Q"], threads: int) -> None:
        """Call a kernel of `neighbour_kernels` that changes values in place, for each block of courses."""

        def work(block: slice) -> None:
            some = np.ascontiguousarray(values[:, block])
            kernel(self.neighbours, self.weights, self.deviations, some)
            values[:, block] = some

        on_threads(work, parts(values.shape[1], BLOCK), threads)

    @cached_property
    def places(self) -> Int16[Array, "P M M"]:
        """Number of a neighbour among the neighbours of another that comes later; −1 where it is none."""
        places = np.empty((*self.neighbours.shape, self.neighbours.shape[1]), dtype=np.int16)
        neighbour_kernels.locate(self.neighbours, self.weights, places)
        return places


def far_apart(positions: Float[Array, "P 3"]) -> Int[Array, "P"]:
    """Return an order in which each particle is as far as possible from all before it."""
    count = len(positions)
    order, nearest = np.empty(count, dtype=np.int64), np.full(count, np.inf)
    chosen = int(np.argmin(np.sum((positions - positions.mean(axis=0)) ** 2, axis=1)))
    for place in range(count):
        order[place] = chosen
        np.minimum(nearest, np.sum((positions - positions[chosen]) ** 2, axis=1), out=nearest)
        nearest[chosen] = -1
        chosen = int(np.argmax(nearest))
    return order


def nearest_before(positions: Float[Array, "P 3"], number: int) -> Int[Array, "P M"]:
    """Return the nearest of the particles before each particle, nearest first; the p-th has p of them."""
    neighbours = np.zeros((len(positions), number), dtype=np.int64)
    for p in range(1, len(positions)):
        squares = np.sum((positions[:p] - positions[p]) ** 2, axis=1)
        near = np.argpartition(squares, number)[:number] if p > number else np.arange(p)
        neighbours[p, : len(near)] = near[np.argsort(squares[near], kind="stable")]
    return neighbours
