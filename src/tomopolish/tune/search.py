"""The most probable motion prior: a grid of scales, the summit between its points, and again around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.optimize
from jaxtyping import Float

from tomopolish.settings import MotionSettings
from tomopolish.tune.evidence import LinearTomogram, best_dispersion, log_evidence
from tomopolish.tune.tomogram import TunedTomogram

Array = np.ndarray

ROUNDS = 5
DISPERSION_ROUNDS = 6
SETTLED = 0.05
"""Relative change of σ_v below which expanding about the new solution would change nothing that matters."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A motion prior and its log-evidence, nats, all tomograms together."""

    velocity_scale: float
    distance_scale: float
    squared_exponential: bool
    log_evidence: float

    def settings(self, absolute: bool) -> MotionSettings:
        """Return the prior as options of an alignment."""
        return _settings(self.velocity_scale, self.distance_scale, self.squared_exponential, absolute)


@dataclass(frozen=True, kw_only=True, eq=False)
class Tuning:
    """What was tried, and what is best.

    Attributes
    ----------
    velocity_scales, distance_scales
        The grid, in the units of the options.
    surfaces
        Log-evidence on the grid for each kernel: exponential, squared-exponential.
    best
        Most probable prior, of any kernel.
    by_kernel
        Most probable prior of each kernel.
    velocity_interval
        Scales between which the best kernel's log-evidence stays within 2 nats of its greatest, whatever the
        distance scale: about two standard errors to each side.
    distance_interval
        The same for the distance scale.
    dispersions
        Of each tomogram: variance of the noise over what the weights take it to be.
    """

    velocity_scales: Float[Array, "n"]
    distance_scales: Float[Array, "m"]
    surfaces: tuple[Float[Array, "n m"], ...]
    best: Candidate
    by_kernel: tuple[Candidate, ...]
    velocity_interval: tuple[float, float]
    distance_interval: tuple[float, float]
    dispersions: tuple[float, ...]
    absolute: bool


def tune(
    tomograms: Sequence[TunedTomogram],
    velocity_scales: Float[Array, "n"],
    distance_scales: Float[Array, "m"],
    *,
    start: MotionSettings,
    kernels: Sequence[bool] = (False, True),
    advance: Callable[[], None] = lambda: None,
) -> Tuning:
    """Find the motion prior of greatest evidence.

    Parameters
    ----------
    velocity_scales, distance_scales
        Grid on which the evidence is computed, ascending.
    start
        Prior of the first solution about which likelihoods are expanded; the next ones have the best prior
        found so far. Whether scales are absolute comes from here.
    kernels
        Whether squared-exponential, for each kernel that is compared.
    advance
        Called after each point of the grid.
    """
    prior = start
    found: list[Candidate] = []
    linear: list[LinearTomogram] = []
    ratios: list[float] = []
    for _ in range(ROUNDS):
        solved = [tomogram.linearised(prior) for tomogram in tomograms]
        linear = [s[1] for s in solved]
        ratios = [1.0] * len(linear)
        before = prior
        for _ in range(DISPERSION_ROUNDS):
            begin = prior
            found = [
                _summit(
                    linear, ratios, velocity_scales, distance_scales, replace(prior, squared_exponential=k)
                )
                for k in kernels
            ]
            prior = max(found, key=lambda c: c.log_evidence).settings(start.absolute)
            ratios = [_settled_dispersion(t, prior, r) for t, r in zip(linear, ratios, strict=True)]
            if abs(np.log(prior.velocity_scale / begin.velocity_scale)) < SETTLED / 2:
                break
        tomograms = [
            replace(s[0], dispersion=s[0].dispersion * r) for s, r in zip(solved, ratios, strict=True)
        ]
        if abs(np.log(prior.velocity_scale / before.velocity_scale)) < SETTLED:
            break
    surfaces = []
    for kernel in kernels:
        surface = np.empty((len(velocity_scales), len(distance_scales)))
        for i, velocity in enumerate(velocity_scales):
            for j, distance in enumerate(distance_scales):
                surface[i, j] = _evidence(
                    linear, ratios, _settings(velocity, distance, kernel, start.absolute)
                )
                advance()
        surfaces.append(surface)
    index = found.index(max(found, key=lambda candidate: candidate.log_evidence))
    best, surface = found[index], surfaces[index]
    return Tuning(
        velocity_scales=velocity_scales,
        distance_scales=distance_scales,
        surfaces=tuple(surfaces),
        best=best,
        by_kernel=tuple(found),
        velocity_interval=_interval(velocity_scales, surface.max(axis=1), best.log_evidence),
        distance_interval=_interval(distance_scales, surface.max(axis=0), best.log_evidence),
        dispersions=tuple(tomogram.dispersion for tomogram in tomograms),
        absolute=start.absolute,
    )


def _settings(velocity: float, distance: float, kernel: bool, absolute: bool) -> MotionSettings:
    return MotionSettings(
        velocity_scale=velocity, distance_scale=distance, squared_exponential=kernel, absolute=absolute
    )


def _evidence(linear: Sequence[LinearTomogram], ratios: Sequence[float], motion: MotionSettings) -> float:
    return sum(log_evidence(t, motion, ratio) for t, ratio in zip(linear, ratios, strict=True))


def _settled_dispersion(tomogram: LinearTomogram, motion: MotionSettings, ratio: float) -> float:
    for _ in range(3):
        ratio = best_dispersion(tomogram, motion, ratio)
    return ratio


def _summit(
    linear: Sequence[LinearTomogram],
    ratios: Sequence[float],
    velocity_scales: Float[Array, "n"],
    distance_scales: Float[Array, "m"],
    near: MotionSettings,
) -> Candidate:
    """Maximise over the logarithms of both scales, within the grid's bounds, starting near a prior."""
    low = np.log([velocity_scales[0], distance_scales[0]])
    high = np.log([velocity_scales[-1], distance_scales[-1]])

    def cost(logs: Array) -> float:
        velocity, distance = np.exp(logs)
        return -_evidence(
            linear, ratios, replace(near, velocity_scale=float(velocity), distance_scale=float(distance))
        )

    begin = np.clip(np.log([near.velocity_scale, near.distance_scale]), low, high)
    solution = scipy.optimize.minimize(
        cost,
        begin,
        method="Nelder-Mead",
        bounds=list(zip(low, high, strict=True)),
        options={"xatol": 0.02, "fatol": 0.02, "initial_simplex": _simplex(begin, low, high)},
    )
    velocity, distance = np.exp(solution.x)
    return Candidate(
        velocity_scale=float(velocity),
        distance_scale=float(distance),
        squared_exponential=near.squared_exponential,
        log_evidence=-float(solution.fun),
    )


def _simplex(begin: Array, low: Array, high: Array) -> Array:
    step = np.where(begin > (low + high) / 2, -0.4, 0.4)
    return np.stack([begin, begin + np.array([step[0], 0.0]), begin + np.array([0.0, step[1]])])


def _interval(scales: Float[Array, "n"], profile: Float[Array, "n"], greatest: float) -> tuple[float, float]:
    """Scales, interpolated in the logarithm, between which a profile stays within 2 nats of the greatest."""
    logs = np.linspace(np.log(scales[0]), np.log(scales[-1]), 400)
    inside = np.interp(logs, np.log(scales), profile) > max(greatest, profile.max()) - 2.0
    if not inside.any():
        nearest = float(scales[int(np.argmax(profile))])
        return nearest, nearest
    chosen = np.exp(logs[inside])
    return float(chosen[0]), float(chosen[-1])
