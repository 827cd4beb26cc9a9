"""Search for the greatest evidence along one scale at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline, PchipInterpolator

from tomopolish.shapes import Array, Float

STEP = 0.4
"""Distance between two points of a profile, in the logarithm."""

BOUNDS = (1e-4, 1e3)
EXTENSIONS = 40
DROP = 1.92
"""Fall of the log-evidence at the ends of a 95 % interval."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Profile:
    """Log-evidence along the logarithm of a scale.

    Attributes
    ----------
    logs, values
        Logarithms of the scales that were tried, ascending, and the log-evidence there.
    best_log, best
        Logarithm of the scale of greatest log-evidence, and this log-evidence.
    """

    logs: Float[Array, "n"]
    values: Float[Array, "n"]
    best_log: float
    best: float

    @property
    def scale(self) -> float:
        """Scale of greatest evidence."""
        return float(np.exp(self.best_log))

    def at(self, logs: Float[Array, "m"]) -> Float[Array, "m"]:
        """Return the interpolated log-evidence; NaN outside the scales that were tried."""
        return np.asarray(PchipInterpolator(self.logs, self.values, extrapolate=False)(logs))

    def extended(self, logs: Float[Array, "m"]) -> Float[Array, "m"]:
        """Return the log-evidence, interpolated, and extrapolated by parabolas about the best scale."""
        result = self.at(logs)
        for end in (0, -1):
            reach = self.logs[end] - self.best_log
            if abs(reach) < 1e-9:
                continue
            beyond = np.isnan(result) & ((logs - self.best_log) * reach > 0)
            fall = min(float(self.values[end]) - self.best, 0.0)
            result[beyond] = self.best + fall * ((logs[beyond] - self.best_log) / reach) ** 2
        return result

    def interval(self) -> tuple[float, float]:
        """Return the scales between which the log-evidence stays within `DROP` of the greatest.

        On a side where it does not fall that far, the interval ends at the last scale that was tried.
        """
        if len(self.logs) == 1:
            return self.scale, self.scale
        fine = np.linspace(self.logs[0], self.logs[-1], 4001)
        inside = fine[self.at(fine) >= self.values.max() - DROP]
        return float(np.exp(inside[0])), float(np.exp(inside[-1]))


def profile(evidence: Callable[[float], float], guess: float, drop: float = DROP) -> Profile:
    """Search a scale outwards from a guess until the log-evidence has fallen by `drop` on both sides."""
    known: dict[float, float] = {}

    def evaluate(log: float) -> None:
        known[log] = evidence(float(np.exp(log)))

    low, high = np.log(BOUNDS)
    centre = float(np.clip(np.log(guess), low, high))
    for x in (centre - STEP, centre, centre + STEP):
        evaluate(x)
    for _ in range(EXTENSIONS):
        top = max(known.values())
        left, right = min(known), max(known)
        falls_left, falls_right = known[left] <= top - drop, known[right] <= top - drop
        rises_left = known[left] > known[right]
        if not falls_left and left > low and (rises_left or falls_right or right >= high):
            evaluate(left - STEP)
        elif not falls_right and right < high:
            evaluate(right + STEP)
        else:
            break
    return _summit(known)


def row(evidences: Sequence[float], scales: Sequence[float]) -> Profile:
    """Return a profile through ascending scales; the best scale is one of them."""
    best = int(np.argmax(evidences))
    return Profile(
        logs=np.log(np.asarray(scales)),
        values=np.asarray(evidences, dtype=np.float64),
        best_log=float(np.log(scales[best])),
        best=float(evidences[best]),
    )


def _summit(known: dict[float, float]) -> Profile:
    logs = np.array(sorted(known))
    values = np.array([known[x] for x in logs])
    fine = np.linspace(logs[0], logs[-1], 4001)
    curve = CubicSpline(logs, values)(fine)
    index = int(np.argmax(curve))
    return Profile(logs=logs, values=values, best_log=float(fine[index]), best=float(curve[index]))
