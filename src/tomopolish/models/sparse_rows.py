"""Sparse matrices of particles, which multiply values of all courses of motion (`neighbour_predictions`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tomopolish.models import neighbour_kernels
from tomopolish.models.courses import PANEL, on_threads, parts
from tomopolish.shapes import Array, Float, Int

TOGETHER = 4
"""Entries that the kernel reads together; rows have a multiple of that, with zeros at their ends."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SparseRows:
    """A square sparse matrix by rows; entry n of row p stands at `starts[p]` + n."""

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
