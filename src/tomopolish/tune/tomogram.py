"""A tomogram of a tuning, which is solved again for each prior."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from tomopolish.dataset.model import Particles, TiltSeries
from tomopolish.models.motion import scale_px
from tomopolish.settings.alignment import MotionSettings
from tomopolish.shapes import Array, Float
from tomopolish.solve.maximisation import newton
from tomopolish.solve.newton import NewtonOptions
from tomopolish.solve.problem import Problem
from tomopolish.tune.linear import LinearTomogram, linearise
from tomopolish.tune.noise import NoiseModel, fit_noise, no_crowding
from tomopolish.tune.prior import MotionPrior

NEWTON = NewtonOptions(relative_tolerance=1e-7, max_evaluations=40)


@dataclass(frozen=True, kw_only=True, eq=False)
class TunedTomogram:
    """A tomogram's problem, and its solution with a motion prior.

    Attributes
    ----------
    problem_with
        Returns the problem with a motion prior.
    power
        Weighted power of each pair's prediction.
    static
        Angles, shifts and positions of the solution, flat.
    offsets_px
        Motion of the solution, file order.
    crowding
        Crowding of every pair, file order.
    resolution_px
        Period of the finest detail in the comparison.
    noise
        Last fit of the measurements' noise; None before the first fit.
    """

    series: TiltSeries
    particles: Particles
    problem_with: Callable[[MotionSettings], Problem]
    power: Float[Array, "F P"]
    static: Float[Array, "N"]
    offsets_px: Float[Array, "F P 3"]
    crowding: Float[Array, "F P"]
    resolution_px: float
    noise: NoiseModel | None = None

    def measured(self, motion: MotionSettings) -> tuple[TunedTomogram, LinearTomogram]:
        """Solve with a motion prior, from the last solution; returns the solution and the measurements."""
        problem = self.problem_with(motion)
        start = np.zeros(problem.layout.size)
        start[: len(self.static)] = self.static
        problem.layout.unpack(start).motion[...] = problem.motion.coefficients(self.offsets_px)
        vector = newton(problem, start, NEWTON).state.vector
        measurements = linearise(
            self.series.name,
            problem,
            vector,
            self.power,
            self.particles.positions_px,
            scale_px(motion, self.series),
        )
        offsets = problem.motion.offsets_px(problem.layout.unpack(vector).motion)
        return replace(self, static=vector[: len(self.static)], offsets_px=offsets), measurements

    def with_fitted_noise(
        self, measurements: LinearTomogram, prior: MotionPrior
    ) -> tuple[TunedTomogram, LinearTomogram]:
        """Fit the noise under a motion prior; returns measurements in units of the estimated errors."""
        crowded = [
            self.crowding[f, frame.particles]
            for f, frame in zip(self.series.chronological, measurements.frames, strict=True)
        ]
        noise = fit_noise(measurements, crowded, prior, self.noise or no_crowding(measurements))
        return replace(self, noise=noise), measurements.with_noise(noise.variances(crowded))
