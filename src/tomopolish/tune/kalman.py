"""Evidence of a motion prior: the probability of the measurements, integrated over the geometry.

Particles are the state of a linear dynamical system, a random walk whose steps have the prior's covariance.
They are observed through projections whose parameters are further noise, common to a tilt image. A Kalman
filter (Kalman 1960) integrates over all trajectories, positions and projections exactly, one tilt image at a
time: O(F·P³) for F tilt images and P particles. A backward pass estimates each measurement's error (de Jong &
Penzer 1998, "Diagnosing shocks in time series", J. Am. Stat. Assoc. 93:796).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from tomopolish.shapes import Array, Float
from tomopolish.tune.linear import LinearFrame, LinearTomogram
from tomopolish.tune.prior import MotionPrior


@dataclass(frozen=True, kw_only=True, eq=False)
class FilterStep:
    """State of the filter at one tilt image.

    Attributes
    ----------
    innovation
        Difference between the image's measurements and their prediction by earlier images, whitened.
    factor
        Cholesky factor of the innovation's covariance.
    gain
        Whitened gain: a unit of whitened innovation moves the state by one of its rows.
    """

    frame: LinearFrame
    innovation: Float[Array, "2V"]
    factor: Float[Array, "2V 2V"]
    gain: Float[Array, "2V 3P"]


def log_evidence(tomogram: LinearTomogram, prior: MotionPrior) -> float:
    """Return the log-evidence of a motion prior, nats, up to a constant of the tomogram's measurements."""
    value = 0.0
    for step in filter_steps(tomogram, prior):
        value -= 0.5 * float(step.innovation @ step.innovation)
        value -= float(np.log(np.diag(step.factor)).sum())
    return value


def filter_steps(tomogram: LinearTomogram, prior: MotionPrior) -> Iterator[FilterStep]:
    """Run the filter forwards; tilt images without measurements are left out."""
    count = len(tomogram.positions_px)
    weights = tomogram.step_weights.tolist()
    walks = {weight: _walk(tomogram, prior, weight) for weight in set(weights)}
    V = tomogram.position_variance * np.eye(3 * count)
    mean = np.zeros((count, 3))
    for m, frame in enumerate(tomogram.frames):
        if m > 0:
            V += walks[weights[m - 1]]
        if not len(frame.particles):
            continue
        seen, H = frame.particles, frame.design
        across = np.matmul(H, V.reshape(count, 3, 3 * count)[seen]).reshape(-1, 3 * count)
        part = across.reshape(-1, count, 3)[:, seen].transpose(1, 0, 2)
        S = np.matmul(part, H.transpose(0, 2, 1)).transpose(1, 0, 2).reshape(len(across), -1)
        B = frame.tilt_design.reshape(-1, 5)
        S += B @ B.T
        S[np.diag_indices_from(S)] += 1.0
        factor = scipy.linalg.cholesky(S, lower=True, check_finite=False)
        difference = (frame.value - np.einsum("pij,pj->pi", H, mean[seen])).ravel()
        innovation = scipy.linalg.solve_triangular(factor, difference, lower=True, check_finite=False)
        gain = scipy.linalg.solve_triangular(factor, across, lower=True, check_finite=False)
        mean = mean + (innovation @ gain).reshape(count, 3)
        V = V - gain.T @ gain
        yield FilterStep(frame=frame, innovation=innovation, factor=factor, gain=gain)


def _walk(tomogram: LinearTomogram, prior: MotionPrior, weight: float) -> Float[Array, "3P 3P"]:
    """Return the covariance of a step of all particles."""
    return np.kron(prior.covariance_px(tomogram.positions_px, tomogram.scale_px, weight), np.eye(3))


def smoothed_errors(
    tomogram: LinearTomogram, prior: MotionPrior
) -> tuple[list[Float[Array, "V"]], list[Float[Array, "V"]]]:
    """Estimate each pair's error from all tilt images; by tilt image, in order of exposure.

    Returns the squares of the errors, summed over x and y, and their expectations.
    """
    steps = filter_steps(tomogram, prior)
    count = len(tomogram.positions_px)
    r, N = np.zeros(3 * count), np.zeros((3 * count, 3 * count))
    nothing = np.zeros(0)
    squares, expected = ([nothing] * len(tomogram.frames) for _ in range(2))
    seen = [m for m, frame in enumerate(tomogram.frames) if len(frame.particles)]
    for m, step in reversed(list(zip(seen, steps, strict=True))):
        frame = step.frame
        inverse = scipy.linalg.solve_triangular(
            step.factor, np.eye(len(step.factor)), lower=True, check_finite=False
        )
        K = step.gain.T @ inverse
        M = N @ K
        u = inverse.T @ step.innovation - K.T @ r
        D = inverse.T @ inverse + K.T @ M
        rows = (3 * frame.particles[:, None] + np.arange(3)).ravel()
        Z = scipy.linalg.block_diag(*frame.design)
        r[rows] += u @ Z
        MZ = M @ Z
        N[:, rows] -= MZ
        N[rows] -= MZ.T
        N[np.ix_(rows, rows)] += Z.T @ D @ Z
        squares[m] = np.square(u).reshape(-1, 2).sum(axis=1)
        expected[m] = np.diag(D).reshape(-1, 2).sum(axis=1)
    return squares, expected
