"""Protocols of motion and deformation models; null objects fulfil them, too.

See docs/dev/conventions.md, Objective.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from tomopolish.dataset.model import Particles, TiltSeries
from tomopolish.models.motion_inverse import Followed, MotionInverse
from tomopolish.shapes import Array, Float, Int


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

    @property
    def left_out_px2(self) -> Float[Array, "F P 3"] | float:
        """Prior variance of offsets that the coefficients cannot represent; it counts in stated errors."""

    def near_inverse(
        self, time: Float[Array, "T T"], prior: float, followed: Followed, near: MotionInverse | None = None
    ) -> MotionInverse:
        """Return an approximate inverse of the coefficients' curvature.

        Parameters
        ----------
        time
            Curvature of an average particle's log-likelihood over the whitened velocities of all time steps
            and components, per px².
        prior
            Precision of the coefficients' prior.
        followed
            Velocities that projections can follow.
        near
            Inverse at another point, or with other weights of the pairs, parts of which may be reused; None:
            there is none.
        """

    def offsets_px(self, coefficients: Float[Array, "..."], rough: bool = False) -> Float[Array, "F P 3"]:
        """Return the offset of every particle from its static position in every tilt image, px.

        Parameters
        ----------
        rough
            Whether single precision suffices, as it does for steps of the solver.
        """

    def adjoint(self, gradient: Float[Array, "F P 3"], rough: bool = False) -> Float[Array, "..."]:
        """Return the gradient with respect to the coefficients from that with respect to the offsets."""

    def step(
        self, inverse: MotionInverse, residual: Float[Array, "..."], forces: Float[Array, "F P 3"]
    ) -> tuple[Float[Array, "..."], Float[Array, "F P 3"]]:
        """Return a step of the coefficients, and the offsets that it makes; single precision suffices.

        The step is the inverse times the sum of a residual and of what the coefficients collect from forces
        on the offsets. `StepByProducts` takes it as that says.

        Parameters
        ----------
        inverse
            One that `near_inverse` returned.
        """

    def coefficients(self, offsets_px: Float[Array, "F P 3"]) -> Float[Array, "..."]:
        """Return the coefficients that fit the offsets best; exact where the model can represent them."""


class StepByProducts:
    """Steps of a model of motion by products with its offsets, their adjoint, and an inverse."""

    def step(
        self: MotionModel,
        inverse: MotionInverse,
        residual: Float[Array, "..."],
        forces: Float[Array, "F P 3"],
    ) -> tuple[Float[Array, "..."], Float[Array, "F P 3"]]:
        """Return a step of the coefficients, and the offsets that it makes; see `MotionModel`."""
        coefficients = inverse.solve(residual + self.adjoint(forces, rough=True))
        return coefficients, self.offsets_px(coefficients, rough=True)


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
