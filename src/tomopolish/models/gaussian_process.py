"""Motion drawn from a Gaussian process (docs/dev/conventions.md, Objective).

The prior is that of Zivanov, Nakane & Scheres (2019), IUCrJ 6:5, in three dimensions as in Zivanov et al.
(2022), eLife 11:e83724: velocities are independent in time and correlated between neighbouring particles.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import eigh
from scipy.linalg.lapack import dpstrf
from scipy.spatial.distance import cdist

from tomopolish.models import motion_kernels
from tomopolish.models.motion_inverse import Followed, MotionInverse, ProductInverse
from tomopolish.models.protocols import StepByProducts
from tomopolish.shapes import Array, Float, Int

RANK_TOLERANCE = 1e-8
"""Modes whose variance is below this fraction of a particle's own are left out.

These modes could move a particle by 1e-4 of the expected motion. Including them would turn the rounding of
trajectories in files (1e-6 Å) into coefficients of order one.
"""


MANY = 1500
"""Number of particles from which on it is used that a smooth covariance has a low rank, to save time."""
SAMPLED = 200
"""Number of evenly spread particles that show the spectrum."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GaussianProcessMotion(StepByProducts):
    """Velocities v_j = s_j L c_j, independent in time and correlated in space; use `build`.

    The offset in chronological tilt image m is Σ_{j<m} v_j. Coefficients are ``[K, F − 1, 3]``: deformation
    mode, time step, and component; their prior is ½Σc².

    Attributes
    ----------
    factor
        L, px: eigenvectors of the velocities' covariance L Lᵀ times the square roots of their eigenvalues,
        largest first; columns contiguous.
    chronological
        File index of the m-th exposed tilt image.
    step_scales
        s_j: standard deviation of each step's velocities over that of a typical step.
    """

    factor: Float[Array, "P K"]
    chronological: Int[Array, "F"]
    step_scales: Float[Array, "T"]

    left_out_px2 = 0.0
    """No offset that the process allows is left out."""

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
        """Decompose the covariance of the particles' velocities.

        Where the covariance is singular to working precision (particles at one place, squared-exponential
        covariance of close ones), there are as many modes as independent directions, otherwise P.

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
        """Decompose any correlation of the particles' velocities; see `build`.

        Parameters
        ----------
        correlation
            Positive semidefinite, 1 on the diagonal. It is overwritten.
        """
        factor = _modes(correlation, max_deformations)
        factor *= sigma_velocity_px
        weights = np.ones(max(len(chronological) - 1, 0)) if step_weights is None else step_weights
        return cls(factor=factor, chronological=chronological, step_scales=np.sqrt(weights))

    @property
    def shape(self) -> tuple[int, ...]:
        """(K, F − 1, 3)."""
        return (self.factor.shape[1], max(len(self.chronological) - 1, 0), 3)

    @cached_property
    def variances_px2(self) -> Float[Array, "K"]:
        """Eigenvalue of each mode: the variance of its velocity, summed over the particles."""
        return np.asarray(np.sum(self.factor**2, axis=0))

    def offsets_px(self, coefficients: Float[Array, "K T 3"], rough: bool = False) -> Float[Array, "F P 3"]:
        """Return each particle's offset from its static position in each tilt image (file order), px."""
        modes, steps, _ = self.shape
        # Summing over time first makes one matrix product of the whole trajectory.
        accumulated = np.empty((modes, 3 * steps))
        motion_kernels.accumulate(coefficients, self.step_scales, accumulated)
        offsets = np.empty((steps + 1, len(self.factor), 3))
        motion_kernels.place(self.factor @ accumulated, 0, self.chronological, offsets)
        return offsets

    def adjoint(self, gradient: Float[Array, "F P 3"], rough: bool = False) -> Float[Array, "K T 3"]:
        """Return the gradient with respect to the coefficients from that with respect to the offsets."""
        sums = np.empty((len(self.factor), 3 * (len(gradient) - 1)))
        motion_kernels.suffix_sums(gradient, self.chronological, self.step_scales, sums)
        return np.asarray(self.factor.T @ sums).reshape(self.shape)

    def coefficients(self, offsets_px: Float[Array, "F P 3"]) -> Float[Array, "K T 3"]:
        """Return the coefficients that fit the velocities of the offsets by least squares.

        Only differences between successive tilt images count.
        """
        _, steps, _ = self.shape
        if not offsets_px.size or not steps:
            return np.zeros(self.shape)
        velocities = np.diff(offsets_px[self.chronological], axis=0)
        velocities /= self.step_scales[:, None, None]
        onto_modes = self.factor.T @ velocities.swapaxes(0, 1).reshape(-1, 3 * steps)
        return np.asarray(onto_modes / self.variances_px2[:, None]).reshape(self.shape)

    def near_inverse(
        self, time: Float[Array, "T T"], prior: float, followed: Followed, near: MotionInverse | None = None
    ) -> ProductInverse:
        """Return an approximate inverse of the coefficients' curvature; see `MotionModel`."""
        variances = self.variances_px2
        if len(followed.fields):  # less the part that moves all particles alike
            variances = variances - np.square(self.factor.sum(axis=0)) / max(len(self.factor), 1)
        return ProductInverse.of(variances, time, prior)


def _correlation(
    positions_px: Float[Array, "P 3"], sigma_distance_px: float, squared_exponential: bool
) -> Float[Array, "P P"]:
    """Return the correlation of the particles' velocities, 1 on the diagonal."""
    scaled = positions_px / sigma_distance_px
    matrix: Array = cdist(scaled, scaled, "sqeuclidean" if squared_exponential else "euclidean")
    np.negative(matrix, out=matrix)
    np.exp(matrix, out=matrix)
    return matrix


def _modes(correlation: Float[Array, "P P"], most: int | None) -> Float[Array, "P K"]:
    """Return the eigenvectors of the largest eigenvalues, times their square roots, largest first."""
    count = len(correlation)
    if not count:
        return np.zeros((0, 0), order="F")
    if most is not None and most < count:
        values, vectors = eigh(correlation, subset_by_index=[count - most, count - 1], overwrite_a=True)
    elif count >= MANY and _is_smooth(correlation):
        values, vectors = _few_eigenvectors(correlation)
    else:
        values, vectors = eigh(correlation.T, driver="evd", overwrite_a=True)
    significant = int(np.count_nonzero(values > RANK_TOLERANCE))
    vectors *= np.sqrt(np.maximum(values, 0))
    return np.asfortranarray(vectors[:, ::-1][:, :significant])


def _is_smooth(correlation: Float[Array, "P P"]) -> bool:
    """Return whether some particles' motion follows from that of half as many."""
    every = len(correlation) // SAMPLED
    some = correlation[::every, ::every]
    return int(dpstrf(some, tol=RANK_TOLERANCE, lower=1)[2]) < len(some) // 2


def _few_eigenvectors(correlation: Float[Array, "P P"]) -> tuple[Float[Array, "K"], Float[Array, "P K"]]:
    """Return the eigenvalues and eigenvectors of a matrix of low rank, ascending, by pivoted Cholesky.

    All that the factor lacks is less than the smallest eigenvalue that counts.
    """
    count = len(correlation)
    factor, pivots, rank, _ = dpstrf(correlation, tol=0.1 * RANK_TOLERANCE / count, lower=1)
    tall = np.zeros((count, rank))
    tall[pivots - 1] = np.tril(factor[:, :rank])
    values, turns = eigh(tall.T @ tall, driver="evd")
    return values, (tall @ turns) / np.sqrt(np.maximum(values, np.finfo(float).tiny))
