"""A whole tuning: solve, fit the noise, find the prior of greatest evidence, and again with that prior."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from threadpoolctl import threadpool_limits

from tomopolish.settings import MotionSettings
from tomopolish.tune.kalman import log_evidence
from tomopolish.tune.linear import LinearTomogram
from tomopolish.tune.noise import NoiseModel
from tomopolish.tune.search import Profile, Surface, choose, profile, surface
from tomopolish.tune.tomogram import TunedTomogram

ROUNDS = 4
NOISE_ROUNDS = 3
SETTLED = 0.03
"""Relative change of the velocity scale below which solving again would change nothing that matters."""

DISTANCES = 7
NEAREST, FARTHEST = 0.1, 30.0
"""Distance scales that are tried, in units of the particles' spread."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Tuning:
    """What was tried, and what is best.

    Attributes
    ----------
    surfaces
        Log-evidence for each kernel that was tried.
    chosen
        The prior to align with.
    noises
        Noise of each tomogram.
    rounds
        Solutions about which the evidence was expanded.
    """

    surfaces: tuple[Surface, ...]
    chosen: Profile
    noises: tuple[NoiseModel, ...]
    rounds: int
    absolute: bool

    @property
    def motion(self) -> MotionSettings:
        """The chosen prior as options of an alignment."""
        return MotionSettings(
            velocity_scale=self.chosen.velocity_scale,
            distance_scale=self.chosen.distance_scale,
            squared_exponential=self.chosen.squared_exponential,
            absolute=self.absolute,
        )

    @property
    def surface(self) -> Surface:
        """The surface of the chosen kernel."""
        kernel = self.chosen.squared_exponential
        return next(s for s in self.surfaces if s.squared_exponential == kernel)


def distance_scales(tomograms: Sequence[TunedTomogram], motion: MotionSettings) -> list[float]:
    """Distance scales worth trying, ascending: from close neighbours to far beyond the field of view.

    Between them lies that of `motion`.
    """
    spreads = [
        np.sqrt(np.mean(np.sum(np.var(t.particles.positions_px, axis=0)))) * t.series.pixel_size_angstrom
        for t in tomograms
    ]
    doses = [1.0 if motion.absolute else t.series.frame_dose for t in tomograms]
    spread = float(np.median(np.array(spreads) / np.array(doses)))
    scales = np.geomspace(NEAREST * spread, FARTHEST * spread, DISTANCES)
    # the one in question replaces its neighbour
    apart = np.abs(np.log(scales / motion.distance_scale))
    if apart.min() < 0.5 * np.log(scales[1] / scales[0]):
        scales = np.delete(scales, int(np.argmin(apart)))
    return sorted([*map(float, scales), motion.distance_scale])


def tune(
    tomograms: Sequence[TunedTomogram],
    start: MotionSettings,
    distances: Sequence[float],
    kernels: Sequence[bool],
    advance: Callable[[], None] = lambda: None,
) -> Tuning:
    """Find the motion prior of greatest evidence, all tomograms together.

    Parameters
    ----------
    start
        Prior of the first solution. Its distance scale is kept where the images do not tell.
    distances
        Distance scales that are compared.
    kernels
        Whether squared-exponential, for each kernel that is compared.
    advance
        Called after each distance scale of each kernel; about `ROUNDS` times as often at most.
    """
    prior, known = start, list(tomograms)
    with threadpool_limits(1):
        for count in range(1, ROUNDS + 1):
            known, measured = _measured(known, prior)
            surfaces = tuple(
                surface(
                    lambda v, d, k=kernel: _evidence(measured, _with(prior, v, d, k)),  # noqa: B023
                    distances,
                    kernel,
                    (prior.velocity_scale, prior.distance_scale),
                    advance,
                )
                for kernel in kernels
            )
            chosen = choose(surfaces, start.distance_scale)
            before = prior
            prior = _with(prior, chosen.velocity_scale, chosen.distance_scale, chosen.squared_exponential)
            if _alike(before, prior):
                break
    return Tuning(
        surfaces=surfaces,
        chosen=chosen,
        noises=tuple(t.noise for t in known if t.noise is not None),
        rounds=count,
        absolute=start.absolute,
    )


def _measured(
    tomograms: Sequence[TunedTomogram], prior: MotionSettings
) -> tuple[list[TunedTomogram], list[LinearTomogram]]:
    """Solve, and fit noise and velocity scale in turns."""
    solved = [t.measured(prior) for t in tomograms]
    known = [s[0] for s in solved]
    for _ in range(NOISE_ROUNDS):
        fitted = [t.with_fitted_noise(s[1], prior) for t, s in zip(known, solved, strict=True)]
        known, measured = [f[0] for f in fitted], [f[1] for f in fitted]
        best = profile(
            lambda v: _evidence(measured, replace(prior, velocity_scale=v)),  # noqa: B023
            prior.distance_scale,
            prior.squared_exponential,
            prior.velocity_scale,
        )
        before, prior = prior, replace(prior, velocity_scale=best.velocity_scale)
        if _alike(before, prior):
            break
    return known, measured


def _evidence(measured: Sequence[LinearTomogram], motion: MotionSettings) -> float:
    return sum(log_evidence(tomogram, motion) for tomogram in measured)


def _with(motion: MotionSettings, velocity: float, distance: float, kernel: bool) -> MotionSettings:
    return replace(motion, velocity_scale=velocity, distance_scale=distance, squared_exponential=kernel)


def _alike(one: MotionSettings, other: MotionSettings) -> bool:
    return (
        one.distance_scale == other.distance_scale
        and one.squared_exponential == other.squared_exponential
        and abs(np.log(one.velocity_scale / other.velocity_scale)) < SETTLED
    )
