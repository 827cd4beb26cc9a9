"""Particle motion over the exposure: none, or drawn from a Gaussian process.

See docs/dev/conventions.md, Objective.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tomopolish.dataset.model import Particles, TiltSeries
from tomopolish.errors import InputError
from tomopolish.models.gaussian_process import GaussianProcessMotion
from tomopolish.models.motion_inverse import DiagonalInverse, Followed, MotionInverse
from tomopolish.models.neighbour_motion import NeighbourMotion
from tomopolish.models.protocols import BuildsMotion, MotionModel, StepByProducts
from tomopolish.settings.alignment import MotionSettings
from tomopolish.shapes import Array, Float, Int

MANY = 1000
"""Number of particles from which on neighbours predict velocities, where the covariance is exponential."""


@dataclass(frozen=True, kw_only=True)
class NoMotion(StepByProducts):
    """Every particle keeps its static position in all tilt images; there are no coefficients."""

    tilts: int
    particles: int

    @property
    def shape(self) -> tuple[int, ...]:
        """(0, F − 1, 3)."""
        return (0, max(self.tilts - 1, 0), 3)

    def offsets_px(self, coefficients: Float[Array, "K T 3"], rough: bool = False) -> Float[Array, "F P 3"]:
        """Return zeros."""
        return np.zeros((self.tilts, self.particles, 3))

    def adjoint(self, gradient: Float[Array, "F P 3"], rough: bool = False) -> Float[Array, "K T 3"]:
        """Return an empty array."""
        return np.zeros(self.shape)

    @property
    def chronological(self) -> Int[Array, "F"]:
        """File order; without motion the order has no effect."""
        return np.arange(self.tilts)

    @property
    def step_scales(self) -> Float[Array, "T"]:
        """Ones: all steps are equal."""
        return np.ones(max(self.tilts - 1, 0))

    left_out_px2 = 0.0
    """Nothing moves."""

    def near_inverse(
        self, time: Float[Array, "T T"], prior: float, followed: Followed, near: MotionInverse | None = None
    ) -> DiagonalInverse:
        """Return the inverse of no coefficients."""
        return DiagonalInverse(curvature=np.zeros(self.shape))

    def coefficients(self, offsets_px: Float[Array, "F P 3"]) -> Float[Array, "K T 3"]:
        """Return an empty array."""
        return np.zeros(self.shape)


def scale_px(settings: MotionSettings, series: TiltSeries) -> float:
    """Return the motion in px of a scale of 1.

    Raises
    ------
    InputError
        when the scales are per dose, and the dose of a tilt image is not known.
    """
    dose = 1.0 if settings.absolute else series.frame_dose
    if not dose > 0:
        raise InputError(
            f"{series.name}: --motion scales with the dose of a tilt image, but that is {dose:g} e⁻/Å²: "
            "state it in the tomogram set, or give motion per image with --abs_params"
        )
    return dose / series.pixel_size_angstrom


def neighbours_predict(settings: MotionSettings, particles: int) -> bool:
    """Return whether motion of so many particles has the sparse model; its memory grows with their number."""
    plain = type(settings) is MotionSettings and settings.max_deformations is None
    return plain and particles >= MANY and not settings.squared_exponential


def motion_model(
    settings: MotionSettings | None,
    series: TiltSeries,
    particles: Particles,
) -> MotionModel:
    """Return the motion model of one tomogram's particles for the settings.

    Settings of another model, which a caller from Python may pass, build it themselves (`BuildsMotion`).
    Without settings, or with a single tilt image, nothing moves; input trajectories are then part of the
    particles' fixed positions.

    Raises
    ------
    InputError
        When the scales are per dose and the dose of a tilt image is not known.
    """
    if settings is None or len(series) < 2:
        return NoMotion(tilts=len(series), particles=len(particles))
    if isinstance(settings, BuildsMotion):
        return settings.motion_model(series, particles)
    unit = scale_px(settings, series)
    if neighbours_predict(settings, len(particles)):
        return NeighbourMotion.build(
            particles.positions_px,
            series.chronological,
            sigma_velocity_px=unit * settings.velocity_scale,
            sigma_distance_px=unit * settings.distance_scale,
            step_weights=None if settings.absolute else series.step_weights,
        )
    return GaussianProcessMotion.build(
        particles.positions_px,
        series.chronological,
        sigma_velocity_px=unit * settings.velocity_scale,
        sigma_distance_px=unit * settings.distance_scale,
        squared_exponential=settings.squared_exponential,
        max_deformations=settings.max_deformations,
        step_weights=None if settings.absolute else series.step_weights,
    )
