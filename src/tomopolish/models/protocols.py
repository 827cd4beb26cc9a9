"""Protocols of motion and deformation models; null objects fulfil them, too.

See docs/dev/conventions.md, Objective.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from tomopolish.dataset.model import Particles, TiltSeries
from tomopolish.shapes import Float, Int

Array = np.ndarray


@runtime_checkable
class MotionModel(Protocol):
    """3D motion of particles over the exposure: linear in its whitened coefficients.

    Coefficients have prior ½Σc². All tilt axes are in file order; the chronologically first tilt image has
    zero motion.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the coefficients; of size 0 for no motion."""

    @property
    def chronological(self) -> Int[Array, "F"]:
        """File index of the m-th exposed tilt image."""

    @property
    def step_scales(self) -> Float[Array, "T"]:
        """Standard deviation of the motion in each step between exposures, over that of a typical step."""

    def spectrum(self) -> tuple[Float[Array, "K"], Float[Array, "K K"], Float[Array, "K"]]:
        """Return the eigenvalues and eigenvectors of LᵀL, where L is the factor of the particles' covariance.

        The third array is each mode's share of motion that all particles have in common.
        """

    def offsets_px(self, coefficients: Float[Array, "..."]) -> Float[Array, "F P 3"]:
        """Return the offset of every particle from its static position in every tilt image, px."""

    def adjoint(self, gradient: Float[Array, "F P 3"]) -> Float[Array, "..."]:
        """Return the gradient with respect to the coefficients from that with respect to the offsets."""

    def coefficients(self, offsets_px: Float[Array, "F P 3"]) -> Float[Array, "..."]:
        """Return the coefficients that fit the offsets best; exact where the model can represent them."""


@runtime_checkable
class BuildsMotion(Protocol):
    """Settings of a motion model that is defined elsewhere; derived from `MotionSettings`."""

    def motion_model(self, series: TiltSeries, particles: Particles) -> MotionModel:
        """Return the model for one tomogram's particles; called for two and more tilt images."""


@runtime_checkable
class DeformationModel(Protocol):
    """2D warp of the tilt images, q → q + g(q): linear in its coefficients.

    Coefficients have shape (1, n) for one warp of the whole series, or (F, n); the penalty is a weighted sum
    of squares. Positions and displacements are (F, P, 2) arrays of (x, y), px.
    """

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the coefficients; (1, 0) for no deformation."""

    @property
    def penalty_weights(self) -> Float[Array, "n"]:
        """Weight of each squared coefficient in the penalty: penalty = Σ weight · c²."""

    @property
    def unit_px(self) -> float:
        """Order of magnitude of the displacement that a coefficient of 1 makes."""

    def displacement_px(
        self, positions_px: Float[Array, "F P 2"], coefficients: Float[Array, "G n"]
    ) -> Float[Array, "F P 2"]:
        """Return the displacement g at the positions."""

    def functions(self, positions_px: Float[Array, "F P 2"]) -> Float[Array, "F P m"] | None:
        """Return functions φ at the positions, where either component of the displacements is Σ_m φ_m c_m.

        Coefficients then run over component (dx, dy) first, and n = 2m. None where the model has no such
        functions.
        """

    def jacobian(
        self, positions_px: Float[Array, "F P 2"], coefficients: Float[Array, "G n"]
    ) -> Float[Array, "F P 2 2"]:
        """Return ∂g_i/∂q_j at the positions."""

    def adjoint(
        self, positions_px: Float[Array, "F P 2"], gradient: Float[Array, "F P 2"]
    ) -> Float[Array, "G n"]:
        """Return the gradient with respect to the coefficients from that with respect to displacements."""
