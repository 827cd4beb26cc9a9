"""The most probable motion prior: velocity scales of greatest evidence along a row of distance scales."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.interpolate import CubicSpline, PchipInterpolator

Array = np.ndarray

STEP = 0.4
"""Of the search in the logarithm of the velocity scale."""

LOWEST_VELOCITY, HIGHEST_VELOCITY = 1e-3, 1e2
EXTENSIONS = 14
DROP = 1.92
"""Fall of the log-evidence at the ends of a 95 % interval."""

MATTERS = 2.0
"""Gain in log-evidence, nats, for which a default is given up."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Profile:
    """Log-evidence over the velocity scale, for one kernel and distance scale.

    Attributes
    ----------
    log_velocities
        Natural logarithms, ascending.
    best_log_velocity, best
        Where the log-evidence is greatest, and that.
    """

    distance_scale: float
    squared_exponential: bool
    log_velocities: Float[Array, "n"]
    values: Float[Array, "n"]
    best_log_velocity: float
    best: float

    @property
    def velocity_scale(self) -> float:
        """Velocity scale of greatest evidence."""
        return float(np.exp(self.best_log_velocity))

    @property
    def at_bound(self) -> bool:
        """Whether the evidence still grows towards no motion (or without bound)."""
        return self.best_log_velocity in (self.log_velocities[0], self.log_velocities[-1])

    def at(self, log_velocities: Float[Array, "m"]) -> Float[Array, "m"]:
        """Interpolate; NaN outside of what was computed."""
        return np.asarray(
            PchipInterpolator(self.log_velocities, self.values, extrapolate=False)(log_velocities)
        )

    def interval(self) -> tuple[float, float]:
        """Velocity scales between which the log-evidence stays within `DROP` of the greatest.

        The side that runs into a bound of the search ends there.
        """
        fine = np.linspace(self.log_velocities[0], self.log_velocities[-1], 2001)
        inside = fine[self.at(fine) >= self.best - DROP]
        if not len(inside):
            return self.velocity_scale, self.velocity_scale
        return float(np.exp(inside[0])), float(np.exp(inside[-1]))


@dataclass(frozen=True, kw_only=True, eq=False)
class Surface:
    """Profiles along ascending distance scales, one kernel."""

    squared_exponential: bool
    profiles: tuple[Profile, ...]

    @property
    def best(self) -> Profile:
        """The profile of greatest evidence."""
        return max(self.profiles, key=lambda p: p.best)

    def at(self, distance_scale: float) -> Profile:
        """Return the profile of one of the distance scales."""
        return next(p for p in self.profiles if p.distance_scale == distance_scale)

    def distance_interval(self) -> tuple[float, float]:
        """Distance scales between which the greatest log-evidence stays within `DROP` of the best.

        A side on which it never falls that far ends at the last scale that was tried.
        """
        logs = np.log([p.distance_scale for p in self.profiles])
        if len(logs) < 2:
            return self.profiles[0].distance_scale, self.profiles[0].distance_scale
        curve = PchipInterpolator(logs, [p.best for p in self.profiles])
        fine = np.linspace(logs[0], logs[-1], 2001)
        inside = fine[curve(fine) >= self.best.best - DROP]
        return float(np.exp(inside[0])), float(np.exp(inside[-1]))


def profile(
    evidence: Callable[[float], float], distance_scale: float, squared_exponential: bool, guess: float
) -> Profile:
    """Find the velocity scale of greatest evidence, searching outwards from a guess.

    Parameters
    ----------
    evidence
        Log-evidence of a velocity scale.
    """
    known: dict[float, float] = {}

    def look(log_velocity: float) -> None:
        known[log_velocity] = evidence(float(np.exp(log_velocity)))

    low, high = np.log(LOWEST_VELOCITY), np.log(HIGHEST_VELOCITY)
    centre = float(np.clip(np.log(guess), low, high))
    for x in (centre - STEP, centre, centre + STEP):
        look(x)
    for _ in range(EXTENSIONS):
        top = max(known.values())
        left, right = min(known), max(known)
        if known[left] > top - DROP and left > low:
            look(left - STEP)
        elif known[right] > top - DROP and right < high:
            look(right + STEP)
        else:
            break
    xs = np.array(sorted(known))
    values = np.array([known[x] for x in xs])
    fine = np.linspace(xs[0], xs[-1], 4001)
    curve = CubicSpline(xs, values)(fine)
    index = int(np.argmax(curve))
    return Profile(
        distance_scale=distance_scale,
        squared_exponential=squared_exponential,
        log_velocities=xs,
        values=values,
        best_log_velocity=float(fine[index]),
        best=float(curve[index]),
    )


def surface(
    evidence: Callable[[float, float], float],
    distance_scales: Sequence[float],
    squared_exponential: bool,
    start: tuple[float, float],
    advance: Callable[[], None] = lambda: None,
) -> Surface:
    """Profiles along ascending distance scales, each searched from its neighbour's best.

    Parameters
    ----------
    evidence
        Log-evidence of a velocity and a distance scale.
    start
        Velocity and distance scale near which the first profile is searched.
    """
    order = sorted(distance_scales, key=lambda d: abs(np.log(d / start[1])))
    found: dict[float, Profile] = {}
    for distance in order:
        near = min(found, key=lambda d: abs(np.log(d / distance)), default=None)
        velocity, known = start if near is None else (found[near].velocity_scale, near)
        # Relative motion of neighbours stays the same where particles are close together.
        guess = velocity * (distance / known) ** (0.5 if distance > known else 0.25)
        found[distance] = profile(lambda v, d=distance: evidence(v, d), distance, squared_exponential, guess)
        advance()
    return Surface(
        squared_exponential=squared_exponential, profiles=tuple(found[d] for d in sorted(distance_scales))
    )


def choose(surfaces: Sequence[Surface], default_distance: float) -> Profile:
    """Choose a prior: the exponential kernel and the default distance unless the evidence is against them."""
    plain = [s for s in surfaces if not s.squared_exponential]
    best = max(surfaces, key=lambda s: s.best.best)
    chosen = best
    if plain and best.best.best <= plain[0].best.best + MATTERS:
        chosen = plain[0]
    default = [p for p in chosen.profiles if p.distance_scale == default_distance]
    if default and default[0].best >= chosen.best.best - MATTERS:
        return default[0]
    return chosen.best
