"""A quick search for the motion prior, which ends early where the images show no motion.

It takes the steps of `tuning`, with fewer distance scales and without intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from threadpoolctl import threadpool_limits

from tomopolish.settings.alignment import MotionSettings
from tomopolish.tune.prior import MotionPrior
from tomopolish.tune.tomogram import TunedTomogram
from tomopolish.tune.tuning import (
    STILL,
    Candidate,
    Search,
    candidates_of,
    choose,
    converged,
    distance_scales,
    expected_drift,
    same_kind,
    with_fitted_noise,
)

LADDER = tuple(2.0**step for step in range(8))
"""Velocity scales of the first look, in units of the expected drift."""
NO_MOTION = 0.03
"""A velocity scale in units of the expected drift that moves nothing."""
FIRST_VELOCITY = 3.0
"""Velocity scale of the first solution, in units of the expected drift."""
DISTANCES = 4


def find_prior(
    tomograms: Sequence[TunedTomogram], start: MotionSettings, *, threads: int = 1
) -> Candidate | None:
    """Return the motion prior of greatest evidence; None where stillness is about as probable.

    Parameters
    ----------
    tomograms
        With their static solutions.
    start
        Its kernel and distance scale are retained unless the evidence is against them.
    """
    drift = expected_drift(tomograms, start)
    default = MotionPrior(
        velocity_scale=FIRST_VELOCITY * drift,
        distance_scale=start.distance_scale,
        squared_exponential=start.squared_exponential,
        absolute=start.absolute,
        drift_scale=drift,
    )
    with threadpool_limits(1), ThreadPoolExecutor(threads) as pool:
        prior = _first_look(tomograms, default, pool)
        if prior is None:
            return None
        known, search, prior = converged(list(tomograms), prior, drift, pool)
        distances = distance_scales(tomograms, start, DISTANCES)
        ridges = tuple(search.ridge(prior, distances, kernel) for kernel in (False, True))
        chosen = choose(candidates_of(search, ridges, prior, default))
        if not same_kind(chosen.prior, prior):
            known, search, prior = converged(known, chosen.prior, drift, pool)
            chosen = Candidate(prior=prior, log_evidence=search.log_evidence(prior))
        return chosen if chosen.log_evidence > _without_motion(search, chosen.prior) + STILL else None


def _first_look(
    tomograms: Sequence[TunedTomogram], default: MotionPrior, pool: ThreadPoolExecutor
) -> MotionPrior | None:
    """Return the best velocity scale of a ladder; None where stillness is about as probable.

    The noise is fitted under the first velocity scale, and again under the best, if that is higher.
    """
    motion = default.settings
    solved = list(pool.map(lambda t: t.measured(motion), tomograms))
    prior = default
    for _ in range(2):
        fitted = with_fitted_noise(solved, prior, pool)
        search = Search(measured=[f[1] for f in fitted], expected_drift=default.drift_scale, pool=pool)
        steps = [replace(default, velocity_scale=step * default.drift_scale) for step in LADDER]
        values = [search.log_evidence(step) for step in steps]
        best = int(np.argmax(values))
        if values[best] < _without_motion(search, default) + STILL:
            return None
        if steps[best].velocity_scale <= prior.velocity_scale:
            break
        prior = steps[best]
    return steps[best]


def _without_motion(search: Search, prior: MotionPrior) -> float:
    """Return the log-evidence without motion that particles share, with the best drift scale."""
    return search.along_drift(replace(prior, velocity_scale=NO_MOTION * search.expected_drift)).best
