"""Motion drawn from a Gaussian process (docs/dev/conventions.md, Objective).

The prior is that of Zivanov, Nakane & Scheres (2019), IUCrJ 6:5, in three dimensions as in Zivanov et al.
(2022), eLife 11:e83724: velocities are independent in time and correlated between neighbouring particles.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise

import numpy as np
from scipy.linalg import eigh, qr, solve_triangular
from scipy.linalg.lapack import dpstrf
from scipy.spatial.distance import cdist

from tomopolish.models import motion_kernels
from tomopolish.shapes import Float, Int

Array = np.ndarray

RANK_TOLERANCE = 1e-8
"""Directions whose variance is below this fraction of a particle's own are left out of the factor.

These directions could move a particle by 1e-4 of the expected motion. Including them would turn the rounding
of trajectories in files (1e-6 Å) into coefficients of order one.
"""


PANEL_ROWS = 150
"""Rows of a panel of the factor, below which a product gains nothing from a thread of its own."""
MAX_PANELS = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class GaussianProcessMotion:
    """Velocities v_j = s_j L c_j, independent in time and correlated in space; use `build`.

    The offset in chronological tilt image m is Σ_{j<m} v_j. Coefficients are ``[K, F − 1, 3]``: deformation
    mode, time step, and component; their prior is ½Σc².

    Attributes
    ----------
    factor
        L, px: L Lᵀ is the velocities' covariance; rows in the order of `rows`, columns contiguous. Lower
        triangular if it is square.
    rows
        Particle of each row.
    chronological
        File index of the m-th exposed tilt image.
    step_scales
        s_j: standard deviation of each step's velocities over that of a typical step.
    threads
        Threads over which products are spread; results do not depend on them.
    """

    factor: Float[Array, "P K"]
    rows: Int[Array, "P"]
    chronological: Int[Array, "F"]
    step_scales: Float[Array, "T"]
    threads: int = 1

    @classmethod
    def build(
        cls,
        positions_px: Float[Array, "P 3"],
        chronological: Int[Array, "F"],
        *,
        sigma_velocity_px: float,
        sigma_distance_px: float,
        squared_exponential: bool = False,
        max_deformations: int | None = None,
        step_weights: Float[Array, "T"] | None = None,
    ) -> GaussianProcessMotion:
        """Factorise the covariance of the particles' velocities.

        Without `max_deformations` the factor is a Cholesky factor with pivoting: where the covariance is
        singular to working precision (particles at one place, squared-exponential covariance of close ones),
        it has as many columns as there are independent directions, otherwise P.

        Parameters
        ----------
        positions_px
            Initial positions, between which distances are taken.
        chronological
            File index of the m-th exposed tilt image.
        sigma_velocity_px
            Standard deviation of a velocity's component, px per tilt image.
        sigma_distance_px
            Distance over which motion is correlated, px.
        squared_exponential
            Covariance exp(−x²/σ_d²) instead of exp(−x/σ_d).
        max_deformations
            Number of the covariance's leading eigenvectors in use; None: all.
        step_weights
            Variance of each step's velocities over the square of `sigma_velocity_px`; None: 1 for all.
        """
        return cls.of_correlation(
            _correlation(positions_px, sigma_distance_px, squared_exponential),
            chronological,
            sigma_velocity_px=sigma_velocity_px,
            max_deformations=max_deformations,
            step_weights=step_weights,
        )

    @classmethod
    def of_correlation(
        cls,
        correlation: Float[Array, "P P"],
        chronological: Int[Array, "F"],
        *,
        sigma_velocity_px: float,
        max_deformations: int | None = None,
        step_weights: Float[Array, "T"] | None = None,
    ) -> GaussianProcessMotion:
        """Factorise any correlation of the particles' velocities; see `build`.

        Parameters
        ----------
        correlation
            Positive semidefinite, 1 on the diagonal. It is overwritten by the factor.
        """
        count = len(correlation)
        if max_deformations is not None and max_deformations < count:
            factor, rows = _leading_modes(correlation, max_deformations), np.arange(count)
        else:
            factor, rows = _pivoted_cholesky(correlation)
        factor *= sigma_velocity_px
        weights = np.ones(max(len(chronological) - 1, 0)) if step_weights is None else step_weights
        return cls(factor=factor, rows=rows, chronological=chronological, step_scales=np.sqrt(weights))

    def spectrum(self) -> tuple[Float[Array, "K"], Float[Array, "K K"], Float[Array, "K"]]:
        """Return eigenvalues and eigenvectors of LᵀL, and each mode's share of motion common to all."""
        return self._spectrum

    @cached_property
    def _spectrum(self) -> tuple[Array, Array, Array]:
        values, modes = eigh(self.factor.T @ self.factor)
        values = np.maximum(values, 0)
        common = np.square(self.factor.sum(axis=0) @ modes)
        total = values * len(self.factor)
        return values, modes, np.divide(common, total, out=np.zeros_like(common), where=total > 0)

    @property
    def _triangular(self) -> bool:
        return bool(self.factor.shape[0] == self.factor.shape[1])

    @property
    def shape(self) -> tuple[int, ...]:
        """(K, F − 1, 3)."""
        return (self.factor.shape[1], max(len(self.chronological) - 1, 0), 3)

    def offsets_px(self, coefficients: Float[Array, "K T 3"]) -> Float[Array, "F P 3"]:
        """Return each particle's offset from its static position in each tilt image (file order), px."""
        modes, steps, _ = self.shape
        # Summing over time first makes one matrix product of the whole trajectory.
        accumulated = np.empty((modes, 3 * steps))
        motion_kernels.accumulate(coefficients, self.step_scales, accumulated)
        offsets = np.empty((steps + 1, len(self.rows), 3))
        motion_kernels.place(self._times_factor(accumulated), self.rows, self.chronological, offsets)
        return offsets

    def adjoint(self, gradient: Float[Array, "F P 3"]) -> Float[Array, "K T 3"]:
        """Return the gradient with respect to the coefficients from that with respect to the offsets."""
        return self._times_factor_transposed(self._suffix_sums(gradient)).reshape(self.shape)

    def coefficients(self, offsets_px: Float[Array, "F P 3"]) -> Float[Array, "K T 3"]:
        """Return the coefficients that fit the velocities of the offsets by least squares.

        Only differences between successive tilt images count.
        """
        _, steps, _ = self.shape
        if not offsets_px.size or not steps:
            return np.zeros(self.shape)
        velocities = np.diff(offsets_px[self.chronological[:, None], self.rows], axis=0)
        velocities /= self.step_scales[:, None, None]
        target = velocities.swapaxes(0, 1).reshape(-1, 3 * steps)
        if self._triangular:
            solution = solve_triangular(self.factor, target, lower=True)
        else:
            basis, upper = qr(self.factor, mode="economic")
            solution = solve_triangular(upper, basis.T @ target)
        return np.asarray(solution).reshape(self.shape)

    def _suffix_sums(self, values: Float[Array, "F P 3"]) -> Float[Array, "P n"]:
        """Sum over the tilt images after each time step, which its velocity displaces; times its scale."""
        sums = np.empty((len(self.rows), 3 * (len(values) - 1)))
        motion_kernels.suffix_sums(values, self.rows, self.chronological, self.step_scales, sums)
        return sums

    def _times_factor(self, matrix: Float[Array, "K n"]) -> Float[Array, "P n"]:
        product = np.empty((len(self.factor), matrix.shape[1]))

        def multiply(first: int, last: int) -> None:
            columns = last if self._triangular else matrix.shape[0]
            np.matmul(self.factor[first:last, :columns], matrix[:columns], out=product[first:last])

        self._over_panels(len(self.factor), multiply)
        return product

    def _times_factor_transposed(self, matrix: Float[Array, "P n"]) -> Float[Array, "K n"]:
        product = np.empty((self.factor.shape[1], matrix.shape[1]))

        def multiply(first: int, last: int) -> None:
            rows = first if self._triangular else 0
            np.matmul(self.factor[rows:, first:last].T, matrix[rows:], out=product[first:last])

        self._over_panels(len(product), multiply)
        return product

    def _over_panels(self, count: int, multiply: Callable[[int, int], None]) -> None:
        """Call `multiply` with the bounds of panels of rows, which do not depend on the number of threads.

        The zeros of a triangular factor are left out panel by panel, which saves nearly half of the work.
        """
        panels = min(MAX_PANELS, max(1, count // PANEL_ROWS))
        bounds = list(pairwise(count * panel // panels for panel in range(panels + 1)))
        if self.threads == 1 or panels == 1:
            for first, last in bounds:
                multiply(first, last)
            return
        for _ in _pool(self.threads).map(lambda panel: multiply(*panel), bounds):
            pass


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Return the threads of products; NumPy's products run without Python's lock, BLAS's wrappers do not."""
    return ThreadPoolExecutor(threads)


def _correlation(
    positions_px: Float[Array, "P 3"], sigma_distance_px: float, squared_exponential: bool
) -> Float[Array, "P P"]:
    """Return the correlation of the particles' velocities, 1 on the diagonal."""
    scaled = positions_px / sigma_distance_px
    matrix: Array = cdist(scaled, scaled, "sqeuclidean" if squared_exponential else "euclidean")
    np.negative(matrix, out=matrix)
    np.exp(matrix, out=matrix)
    return matrix


def _pivoted_cholesky(correlation: Float[Array, "P P"]) -> tuple[Float[Array, "P K"], Int[Array, "P"]]:
    """Return lower trapezoidal L, with L Lᵀ the particles' correlation, and the particle of each row."""
    if not correlation.size:
        return np.zeros((0, 0), order="F"), np.zeros(0, dtype=np.int64)
    factor, pivots, rank, _ = dpstrf(correlation.T, tol=RANK_TOLERANCE, lower=1, overwrite_a=1)
    factor = np.asfortranarray(factor[:, :rank])
    for column in range(1, rank):
        factor[:column, column] = 0.0
    return factor, pivots.astype(np.int64) - 1


def _leading_modes(correlation: Float[Array, "P P"], modes: int) -> Float[Array, "P K"]:
    """Return the eigenvectors of the largest eigenvalues, times their square roots, largest first."""
    count = len(correlation)
    values, vectors = eigh(correlation, subset_by_index=[count - modes, count - 1], overwrite_a=True)
    significant = values > RANK_TOLERANCE
    leading = vectors[:, significant] * np.sqrt(values[significant])
    return np.asfortranarray(leading[:, ::-1])
