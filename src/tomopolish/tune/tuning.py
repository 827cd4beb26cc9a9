"""A whole tuning: solve, fit the noise, find the prior of greatest evidence, and again with that prior."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
from threadpoolctl import threadpool_limits

from tomopolish.settings.alignment import MotionSettings
from tomopolish.tune.kalman import log_evidence
from tomopolish.tune.linear import LinearTomogram
from tomopolish.tune.noise import NoiseModel
from tomopolish.tune.prior import MotionPrior
from tomopolish.tune.search import Profile, profile, row
from tomopolish.tune.tomogram import TunedTomogram, scale_px

ROUNDS = 3
SOLUTIONS = 3
NOISE_FITS = 2
SETTLED = 0.03
"""Relative change of the velocity scale below which solving again would change nothing that matters."""

SAME_DISTANCE = 0.2
"""The same of the logarithm of the distance scale."""

EXPECTED_DRIFT = 0.01
"""Drift per tilt image that imperfect references look like, in units of the resolution, as measured."""

DRIFT_SPREAD = 0.3
"""Standard deviation of its logarithm's prior."""

NARROW = 0.5
"""How far a summit is searched down on either side, nats, where its width does not matter."""

MATTERS = 5.0
"""Gain in log-evidence, nats, for which a default is given up: more than imperfect references make up."""

DISTANCES = 7
NEAREST, FARTHEST = 0.15, 20.0
"""Distance scales that are tried, in units of the particles' spread."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Ridge:
    """Greatest log-evidence along the velocity scale, for each of a row of distance scales.

    Attributes
    ----------
    profiles
        Along the velocity scale.
    """

    squared_exponential: bool
    distance_scales: tuple[float, ...]
    profiles: tuple[Profile, ...]

    @property
    def along_distance(self) -> Profile:
        """Greatest log-evidence along the distance scale."""
        return row([p.best for p in self.profiles], self.distance_scales)

    @property
    def best_distance(self) -> float:
        """Distance scale of greatest log-evidence, by a parabola through the best and its neighbours."""
        logs, values = np.log(self.distance_scales), [p.best for p in self.profiles]
        best = int(np.argmax(values))
        if best in (0, len(logs) - 1):
            return self.distance_scales[best]
        near = slice(best - 1, best + 2)
        square, slope, _ = np.polyfit(logs[near] - logs[best], values[near], 2)
        return float(np.exp(logs[best] - slope / (2 * square))) if square < 0 else self.distance_scales[best]

    def velocity_at(self, distance_scale: float) -> float:
        """Best velocity scale for a distance scale, interpolated."""
        bests = [p.best_log for p in self.profiles]
        return float(np.exp(np.interp(np.log(distance_scale), np.log(self.distance_scales), bests)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """A prior with the most probable velocity and drift scales for its kernel and distance scale."""

    prior: MotionPrior
    log_evidence: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Tuning:
    """What was tried, and what is best.

    Attributes
    ----------
    ridges
        Log-evidence for each kernel that was tried, the drift scale that of `chosen`.
    candidates
        The default and each kernel's best.
    chosen
        The prior to align with.
    velocity
        Log-evidence along the velocity scale, whatever the drift.
    noises
        Noise of each tomogram.
    """

    ridges: tuple[Ridge, ...]
    candidates: tuple[Candidate, ...]
    chosen: Candidate
    velocity: Profile
    noises: tuple[NoiseModel, ...]

    @property
    def ridge(self) -> Ridge:
        """The ridge of the chosen kernel."""
        kernel = self.chosen.prior.squared_exponential
        return next(r for r in self.ridges if r.squared_exponential == kernel)


@dataclass(frozen=True, kw_only=True, eq=False)
class Search:
    """Log-evidence of several tomograms' measurements, and its summits.

    Attributes
    ----------
    expected_drift
        Drift scale that the prior of the drift scale expects.
    pool
        Filters tomograms side by side.
    advance
        Called after each evaluation.
    """

    measured: Sequence[LinearTomogram]
    expected_drift: float
    pool: ThreadPoolExecutor
    advance: Callable[[], None] = field(default=lambda: None)

    def log_evidence(self, prior: MotionPrior) -> float:
        """Of all tomograms together, with the drift scale's own prior, nats."""
        value = -0.5 * float(np.log(prior.drift_scale / self.expected_drift) / DRIFT_SPREAD) ** 2
        value += sum(self.pool.map(lambda tomogram: log_evidence(tomogram, prior), self.measured))
        self.advance()
        return value

    def along_velocity(self, prior: MotionPrior, drop: float = NARROW) -> Profile:
        """Search the velocity scale; all else stays."""
        return profile(
            lambda v: self.log_evidence(replace(prior, velocity_scale=v)), prior.velocity_scale, drop
        )

    def along_drift(self, prior: MotionPrior) -> Profile:
        """Search the drift scale; all else stays."""
        return profile(lambda n: self.log_evidence(replace(prior, drift_scale=n)), prior.drift_scale, NARROW)

    def summit(self, prior: MotionPrior) -> Candidate:
        """Search velocity and drift scale in turns."""
        best = -np.inf
        for _ in range(4):
            prior = replace(prior, drift_scale=self.along_drift(prior).scale)
            found = self.along_velocity(prior)
            prior = replace(prior, velocity_scale=found.scale)
            if found.best - best < 0.1:
                break
            best = found.best
        return Candidate(prior=prior, log_evidence=found.best)

    def velocity_profile(self, candidate: Candidate) -> Profile:
        """Log-evidence along the velocity scale, the best drift scale at each."""
        drift = candidate.prior.drift_scale

        def best_drift(velocity: float) -> float:
            nonlocal drift
            found = self.along_drift(replace(candidate.prior, velocity_scale=velocity, drift_scale=drift))
            drift = found.scale
            return found.best

        return profile(best_drift, candidate.prior.velocity_scale)

    def ridge(self, prior: MotionPrior, distances: Sequence[float], kernel: bool) -> Ridge:
        """Profiles for ascending distance scales, each searched from its neighbour's best."""
        found: dict[float, Profile] = {}
        for distance in sorted(distances, key=lambda d: abs(np.log(d / prior.distance_scale))):
            near = min(found, key=lambda d: abs(np.log(d / distance)), default=None)
            velocity = prior.velocity_scale if near is None else found[near].scale
            # Close particles' relative motion stays the same.
            guess = velocity * (distance / (near or prior.distance_scale)) ** (1.0 if kernel else 0.5)
            found[distance] = self.along_velocity(
                replace(
                    prior,
                    velocity_scale=float(guess),
                    distance_scale=distance,
                    squared_exponential=kernel,
                )
            )
        ascending = tuple(sorted(distances))
        return Ridge(
            squared_exponential=kernel,
            distance_scales=ascending,
            profiles=tuple(found[d] for d in ascending),
        )


def distance_scales(tomograms: Sequence[TunedTomogram], motion: MotionSettings) -> list[float]:
    """Distance scales worth trying, ascending: from close neighbours to far beyond the field of view.

    Among them is that of `motion`.
    """
    spreads = [
        np.sqrt(np.sum(np.var(t.particles.positions_px, axis=0)) / 2) * t.series.pixel_size_angstrom
        for t in tomograms
    ]
    doses = [1.0 if motion.absolute else t.series.frame_dose for t in tomograms]
    spread = float(np.median(np.array(spreads) / np.array(doses)))
    scales = np.geomspace(NEAREST * spread, FARTHEST * spread, DISTANCES)
    apart = np.abs(np.log(scales / motion.distance_scale))
    if apart.min() < 0.5 * np.log(scales[1] / scales[0]):
        scales = np.delete(scales, int(np.argmin(apart)))
    return sorted([*map(float, scales), motion.distance_scale])


def expected_drift(tomograms: Sequence[TunedTomogram], motion: MotionSettings) -> float:
    """Drift scale that imperfect references look like, in the unit of the velocity scale."""
    found = [EXPECTED_DRIFT * t.resolution_px / scale_px(t.series, motion) for t in tomograms]
    return float(np.median(found))


def tune(
    tomograms: Sequence[TunedTomogram],
    start: MotionSettings,
    distances: Sequence[float],
    kernels: Sequence[bool],
    *,
    threads: int = 1,
    advance: Callable[[], None] = lambda: None,
) -> Tuning:
    """Find the motion prior of greatest evidence, all tomograms together.

    Parameters
    ----------
    start
        Prior of the first solution. Its kernel and distance scale are kept where the images do not tell.
    distances
        Distance scales that are compared; that of `start` is one of them.
    kernels
        Whether squared-exponential, for each kernel that is compared.
    advance
        Called after each evaluation of the evidence.
    """
    prior = MotionPrior(
        velocity_scale=start.velocity_scale,
        distance_scale=start.distance_scale,
        squared_exponential=start.squared_exponential,
        absolute=start.absolute,
        drift_scale=expected_drift(tomograms, start),
    )
    default, known = prior, list(tomograms)
    with threadpool_limits(1), ThreadPoolExecutor(threads) as pool:
        for _ in range(ROUNDS):
            known, search, prior = _settled(known, prior, default.drift_scale, pool, advance)
            ridges = tuple(search.ridge(prior, distances, kernel) for kernel in kernels)
            candidates = _candidates(search, ridges, prior, default)
            # Noise is fitted under a prior, which makes others look worse: begin again with a better one.
            best = max(candidates, key=lambda c: c.log_evidence)
            if _same_kind(best.prior, prior):
                break
            prior = best.prior
        chosen = _choose(candidates)
        if not _same_kind(chosen.prior, prior):
            known, search, prior = _settled(known, chosen.prior, default.drift_scale, pool, advance)
            found = replace(chosen, prior=prior)
            candidates = tuple(found if c is chosen else c for c in candidates)
            chosen = found
        velocity = search.velocity_profile(chosen)
    return Tuning(
        ridges=ridges,
        candidates=candidates,
        chosen=chosen,
        velocity=velocity,
        noises=tuple(t.noise for t in known if t.noise is not None),
    )


def _settled(
    tomograms: Sequence[TunedTomogram],
    prior: MotionPrior,
    drift: float,
    pool: ThreadPoolExecutor,
    advance: Callable[[], None],
) -> tuple[list[TunedTomogram], Search, MotionPrior]:
    """Solve, and fit noise, velocity and drift in turns; kernel and distance scale stay."""
    known = list(tomograms)
    for _ in range(SOLUTIONS):
        motion = prior.settings
        solved = list(pool.map(lambda t: t.measured(motion), known))  # noqa: B023
        known = [s[0] for s in solved]
        at_start = prior
        for _ in range(NOISE_FITS):
            fitted = list(
                pool.map(
                    lambda pair: pair[0].with_fitted_noise(pair[1][1], prior),  # noqa: B023
                    zip(known, solved, strict=True),
                )
            )
            known = [f[0] for f in fitted]
            search = Search(measured=[f[1] for f in fitted], expected_drift=drift, pool=pool, advance=advance)
            before, prior = prior, search.summit(prior).prior
            if _alike(before, prior):
                break
        if _alike(at_start, prior):
            break
    return known, search, prior


def _candidates(
    search: Search, ridges: Sequence[Ridge], prior: MotionPrior, default: MotionPrior
) -> tuple[Candidate, ...]:
    """Refine the default, which comes first, and each kernel's best."""
    wanted = [(default.squared_exponential, default.distance_scale)]
    wanted += [(r.squared_exponential, r.best_distance) for r in ridges]
    found = []
    for kernel, distance in dict.fromkeys(wanted):
        ridge = next(r for r in ridges if r.squared_exponential == kernel)
        velocity = ridge.velocity_at(distance)
        found.append(
            search.summit(
                replace(
                    prior,
                    velocity_scale=velocity,
                    distance_scale=distance,
                    squared_exponential=kernel,
                )
            )
        )
    return tuple(found)


def _choose(candidates: Sequence[Candidate]) -> Candidate:
    """Choose the default unless the evidence is against it; then its kernel unless that is."""
    default, best = candidates[0], max(candidates, key=lambda c: c.log_evidence)
    kernel = default.prior.squared_exponential
    alike = max(
        (c for c in candidates if c.prior.squared_exponential == kernel), key=lambda c: c.log_evidence
    )
    for candidate in (default, alike):
        if candidate.log_evidence >= best.log_evidence - MATTERS:
            return candidate
    return best


def _same_kind(one: MotionPrior, other: MotionPrior) -> bool:
    return (
        one.squared_exponential == other.squared_exponential
        and abs(np.log(one.distance_scale / other.distance_scale)) < SAME_DISTANCE
    )


def _alike(one: MotionPrior, other: MotionPrior) -> bool:
    return _same_kind(one, other) and abs(np.log(one.velocity_scale / other.velocity_scale)) < SETTLED
