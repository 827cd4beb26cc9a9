"""The tuning loop: solve, fit the noise, find the prior of greatest evidence, and repeat with that prior."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
from threadpoolctl import threadpool_limits

from tomopolish.models.motion import scale_px
from tomopolish.settings.alignment import MotionSettings
from tomopolish.tune.kalman import log_evidence
from tomopolish.tune.linear import LinearTomogram
from tomopolish.tune.noise import NoiseModel
from tomopolish.tune.prior import MotionPrior
from tomopolish.tune.search import Profile, profile, row
from tomopolish.tune.tomogram import TunedTomogram

ROUNDS = 3
SOLUTIONS = 3
NOISE_FITS = 2
CONVERGED_CHANGE = 0.03
"""Relative change of the velocity scale below which the solution is not computed again."""

SAME_DISTANCE = 0.2
"""Difference of the logarithms of two distance scales below which they count as equal."""

EXPECTED_DRIFT = 0.01
"""Apparent drift per tilt image due to imperfect references, in units of the resolution, as measured."""

DRIFT_SPREAD = 0.3
"""Standard deviation of the prior of the drift's logarithm."""

NARROW = 0.5
"""Fall of the log-evidence, nats, at which a search ends on either side where the width is not needed."""

MATTERS = 5.0
"""Gain in log-evidence, nats, required to replace a default: more than imperfect references can cause."""

STILL = 2.0
"""Gain in log-evidence over almost no motion, nats, below which there is none."""

DISTANCES = 7
NEAREST, FARTHEST = 0.15, 20.0
"""Distance scales that are tried, in units of the particles' spread."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Ridge:
    """Greatest log-evidence along the velocity scale, for each of several distance scales.

    Attributes
    ----------
    profiles
        Profiles along the velocity scale, one for each distance scale.
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
        """Return the best velocity scale for a distance scale, interpolated."""
        bests = [p.best_log for p in self.profiles]
        return float(np.exp(np.interp(np.log(distance_scale), np.log(self.distance_scales), bests)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """A prior with the most probable velocity and drift scales for its kernel and distance scale."""

    prior: MotionPrior
    log_evidence: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Tuning:
    """The priors that were tried, and the best.

    Attributes
    ----------
    ridges
        Log-evidence for each kernel that was tried, at the drift scale of `chosen`.
    candidates
        The best prior of the default kernel and distance scale, and that of each kernel.
    chosen
        The prior to use in alignments.
    velocity
        Log-evidence along the velocity scale, with the best drift scale at each velocity scale.
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

    @property
    def is_still(self) -> bool:
        """Whether the absence of shared motion is about as probable as the best prior."""
        values = self.velocity.values
        return bool(values[0] > values.max() - STILL)


@dataclass(frozen=True, kw_only=True, eq=False)
class Search:
    """Log-evidence of several tomograms' measurements, and the search for its maxima.

    Attributes
    ----------
    expected_drift
        Centre of the drift scale's prior.
    pool
        Threads that filter tomograms in parallel.
    advance
        Function that is called after each evaluation.
    """

    measured: Sequence[LinearTomogram]
    expected_drift: float
    pool: ThreadPoolExecutor
    advance: Callable[[], None] = field(default=lambda: None)

    def log_evidence(self, prior: MotionPrior) -> float:
        """Return the log-evidence of all tomograms together and of the drift scale's prior, nats."""
        value = -0.5 * float(np.log(prior.drift_scale / self.expected_drift) / DRIFT_SPREAD) ** 2
        value += sum(self.pool.map(lambda tomogram: log_evidence(tomogram, prior), self.measured))
        self.advance()
        return value

    def along_velocity(self, prior: MotionPrior, drop: float = NARROW) -> Profile:
        """Search the velocity scale; all other parameters stay fixed."""
        return profile(
            lambda v: self.log_evidence(replace(prior, velocity_scale=v)), prior.velocity_scale, drop
        )

    def along_drift(self, prior: MotionPrior) -> Profile:
        """Search the drift scale; all other parameters stay fixed."""
        return profile(lambda n: self.log_evidence(replace(prior, drift_scale=n)), prior.drift_scale, NARROW)

    def summit(self, prior: MotionPrior) -> Candidate:
        """Search velocity and drift scale in turn."""
        best = -np.inf
        for _ in range(4):
            prior = replace(prior, drift_scale=self.along_drift(prior).scale)
            along = self.along_velocity(prior)
            prior = replace(prior, velocity_scale=along.scale)
            if along.best - best < 0.1:
                break
            best = along.best
        return Candidate(prior=prior, log_evidence=along.best)

    def velocity_profile(self, candidate: Candidate) -> Profile:
        """Return the log-evidence along the velocity scale, the best drift scale at each."""
        drift = candidate.prior.drift_scale

        def best_drift(velocity: float) -> float:
            nonlocal drift
            along = self.along_drift(replace(candidate.prior, velocity_scale=velocity, drift_scale=drift))
            drift = along.scale
            return along.best

        return profile(best_drift, candidate.prior.velocity_scale)

    def ridge(self, prior: MotionPrior, distances: Sequence[float], kernel: bool) -> Ridge:
        """Return the profiles for ascending distance scales, each searched from its neighbour's best."""
        profiles: dict[float, Profile] = {}
        for distance in sorted(distances, key=lambda d: abs(np.log(d / prior.distance_scale))):
            near = min(profiles, key=lambda d: abs(np.log(d / distance)), default=None)
            velocity = prior.velocity_scale if near is None else profiles[near].scale
            # The guess keeps the relative motion of close particles the same.
            guess = velocity * (distance / (near or prior.distance_scale)) ** (1.0 if kernel else 0.5)
            profiles[distance] = self.along_velocity(
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
            profiles=tuple(profiles[d] for d in ascending),
        )


def distance_scales(
    tomograms: Sequence[TunedTomogram], motion: MotionSettings, count: int = DISTANCES
) -> list[float]:
    """Return the distance scales to try, ascending, from close neighbours to far beyond the field of view.

    They include that of `motion`.
    """
    spreads = [
        np.sqrt(np.sum(np.var(t.particles.positions_px, axis=0)) / 2) * t.series.pixel_size_angstrom
        for t in tomograms
    ]
    doses = [1.0 if motion.absolute else t.series.frame_dose for t in tomograms]
    spread = float(np.median(np.array(spreads) / np.array(doses)))
    scales = np.geomspace(NEAREST * spread, FARTHEST * spread, count)
    apart = np.abs(np.log(scales / motion.distance_scale))
    if apart.min() < 0.5 * np.log(scales[1] / scales[0]):
        scales = np.delete(scales, int(np.argmin(apart)))
    return sorted([*map(float, scales), motion.distance_scale])


def expected_drift(tomograms: Sequence[TunedTomogram], motion: MotionSettings) -> float:
    """Return the apparent drift due to imperfect references, in the unit of the velocity scale."""
    drifts = [EXPECTED_DRIFT * t.resolution_px / scale_px(motion, t.series) for t in tomograms]
    return float(np.median(drifts))


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
        Prior of the first solution. Its kernel and distance scale are retained unless the evidence is against
        them.
    distances
        Distance scales to compare; they include that of `start`.
    kernels
        Kernels to compare: True for squared-exponential, False for exponential.
    advance
        Function that is called after each evaluation of the evidence.
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
            known, search, prior = converged(known, prior, default.drift_scale, pool, advance)
            ridges = tuple(search.ridge(prior, distances, kernel) for kernel in kernels)
            candidates = candidates_of(search, ridges, prior, default)
            # Noise that is fitted under one prior puts all others at a disadvantage: repeat with the best.
            best = max(candidates, key=lambda c: c.log_evidence)
            if same_kind(best.prior, prior):
                break
            prior = best.prior
        chosen = choose(candidates)
        if not same_kind(chosen.prior, prior):
            known, search, prior = converged(known, chosen.prior, default.drift_scale, pool, advance)
            updated = replace(chosen, prior=prior)
            candidates = tuple(updated if c is chosen else c for c in candidates)
            chosen = updated
        velocity = search.velocity_profile(chosen)
    return Tuning(
        ridges=ridges,
        candidates=candidates,
        chosen=chosen,
        velocity=velocity,
        noises=tuple(t.noise for t in known if t.noise is not None),
    )


def converged(
    tomograms: Sequence[TunedTomogram],
    prior: MotionPrior,
    drift: float,
    pool: ThreadPoolExecutor,
    advance: Callable[[], None] = lambda: None,
) -> tuple[list[TunedTomogram], Search, MotionPrior]:
    """Solve; fit noise, velocity and drift in turn to convergence, at fixed kernel and distance scale."""
    known = list(tomograms)
    for _ in range(SOLUTIONS):
        motion = prior.settings
        solved = list(pool.map(lambda t: t.measured(motion), known))  # noqa: B023
        known = [s[0] for s in solved]
        at_start = prior
        for _ in range(NOISE_FITS):
            fitted = with_fitted_noise([(t, s[1]) for t, s in zip(known, solved, strict=True)], prior, pool)
            known = [f[0] for f in fitted]
            search = Search(measured=[f[1] for f in fitted], expected_drift=drift, pool=pool, advance=advance)
            before, prior = prior, search.summit(prior).prior
            if _alike(before, prior):
                break
        if _alike(at_start, prior):
            break
    return known, search, prior


def with_fitted_noise(
    solved: Sequence[tuple[TunedTomogram, LinearTomogram]], prior: MotionPrior, pool: ThreadPoolExecutor
) -> list[tuple[TunedTomogram, LinearTomogram]]:
    """Return tomograms and measurements in units of the errors that fit a motion prior."""
    return list(pool.map(lambda pair: pair[0].with_fitted_noise(pair[1], prior), solved))


def candidates_of(
    search: Search, ridges: Sequence[Ridge], prior: MotionPrior, default: MotionPrior
) -> tuple[Candidate, ...]:
    """Refine the default, which comes first, and the best distance scale of each kernel."""
    starts = [(default.squared_exponential, default.distance_scale)]
    starts += [(r.squared_exponential, r.best_distance) for r in ridges]
    candidates = []
    for kernel, distance in dict.fromkeys(starts):
        ridge = next(r for r in ridges if r.squared_exponential == kernel)
        velocity = ridge.velocity_at(distance)
        candidates.append(
            search.summit(
                replace(
                    prior,
                    velocity_scale=velocity,
                    distance_scale=distance,
                    squared_exponential=kernel,
                )
            )
        )
    return tuple(candidates)


def choose(candidates: Sequence[Candidate]) -> Candidate:
    """Choose the default unless the evidence is against it; then its kernel, unless the evidence is, too."""
    default, best = candidates[0], max(candidates, key=lambda c: c.log_evidence)
    kernel = default.prior.squared_exponential
    alike = max(
        (c for c in candidates if c.prior.squared_exponential == kernel), key=lambda c: c.log_evidence
    )
    for candidate in (default, alike):
        if candidate.log_evidence >= best.log_evidence - MATTERS:
            return candidate
    return best


def same_kind(a: MotionPrior, b: MotionPrior) -> bool:
    """Return whether priors have the same kernel, and about the same distance scale."""
    return (
        a.squared_exponential == b.squared_exponential
        and abs(np.log(a.distance_scale / b.distance_scale)) < SAME_DISTANCE
    )


def _alike(a: MotionPrior, b: MotionPrior) -> bool:
    return same_kind(a, b) and abs(np.log(a.velocity_scale / b.velocity_scale)) < CONVERGED_CHANGE
