"""The prior that is tuned: an alignment's motion prior, plus an independent drift of each particle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from tomopolish.settings.alignment import MotionSettings
from tomopolish.shapes import Array, Float


@dataclass(frozen=True, kw_only=True)
class MotionPrior:
    """Covariance of the particles' velocities.

    Attributes
    ----------
    velocity_scale, distance_scale, squared_exponential, absolute
        As in `MotionSettings`.
    drift_scale
        Standard deviation of velocities that no other particle shares, in the unit of the velocity scale. An
        alignment does not use it. In tuning it accounts for errors that look like motion of single particles:
        those of the references and of overlapping neighbours, which change slowly from one tilt to the next.
    """

    velocity_scale: float
    distance_scale: float
    squared_exponential: bool
    absolute: bool
    drift_scale: float

    def covariance_px(
        self, positions_px: Float[Array, "P 3"], scale_px: float, step_weight: float = 1.0
    ) -> Float[Array, "P P"]:
        """Return the covariance of all particles' velocities, one component, px² per tilt image.

        Parameters
        ----------
        step_weight
            Variance of motion in this step over that in a typical step. The drift is the same in all steps.
        """
        scaled = cdist(positions_px, positions_px) / (scale_px * self.distance_scale)
        shape = np.exp(-(scaled**2) if self.squared_exponential else -scaled)
        covariance: Array = step_weight * (scale_px * self.velocity_scale) ** 2 * shape
        covariance[np.diag_indices_from(covariance)] += (scale_px * self.drift_scale) ** 2
        return covariance

    @property
    def settings(self) -> MotionSettings:
        """Settings of an alignment with this prior, without the drift."""
        return MotionSettings(
            velocity_scale=self.velocity_scale,
            distance_scale=self.distance_scale,
            squared_exponential=self.squared_exponential,
            absolute=self.absolute,
        )
