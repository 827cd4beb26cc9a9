"""Measurements drawn from the model that the filter assumes, and the same integrals with dense matrices."""

from __future__ import annotations

import numpy as np
import scipy.linalg

from tomopolish.tune.linear import LinearFrame, LinearTomogram
from tomopolish.tune.prior import MotionPrior

Array = np.ndarray


def make_prior(**changes: object) -> MotionPrior:
    fields: dict[str, object] = {
        "velocity_scale": 0.3,
        "distance_scale": 100.0,
        "squared_exponential": False,
        "absolute": True,
        "drift_scale": 0.02,
    }
    return MotionPrior(**(fields | changes))  # type: ignore[arg-type]


def planted(
    rng: np.random.Generator,
    prior: MotionPrior,
    tilts: int,
    particles: int,
    *,
    field_px: float = 300.0,
    precision: float = 4.0,
    noise: Array | None = None,
    visible: float = 0.9,
) -> LinearTomogram:
    """Draw a tomogram; errors have variance `noise` `[tilt, particle]`."""
    positions = rng.uniform(-0.5, 0.5, (particles, 3)) * [field_px, field_px, field_px / 4]
    root = np.linalg.cholesky(prior.covariance_px(positions, 1.0) + 1e-10 * np.eye(particles))
    steps = np.einsum("pq,mqi->mpi", root, rng.normal(size=(tilts, particles, 3)))
    steps[0] = rng.normal(size=(particles, 3))
    states = np.cumsum(steps, axis=0)
    frames = []
    for m, angle in enumerate(rng.permutation(np.deg2rad(np.linspace(-55, 55, tilts)))):
        A = np.array([[1, 0, 0], [0, np.cos(angle), np.sin(angle)]])
        seen = np.flatnonzero(rng.random(particles) < visible)
        design = precision * np.broadcast_to(A, (len(seen), 2, 3))
        turned = positions[seen] @ np.array([[1, 0, 0], [0, np.cos(angle), np.sin(angle)]]).T
        tilt_design = np.zeros((len(seen), 2, 5))
        tilt_design[:, :, 3:] = precision * 5 * np.eye(2)
        tilt_design[:, 0, 2], tilt_design[:, 1, 2] = -0.02 * turned[:, 1], 0.02 * turned[:, 0]
        errors = rng.normal(size=(len(seen), 2))
        if noise is not None:
            errors *= np.sqrt(noise[m, seen])[:, None]
        value = np.einsum("pij,pj->pi", design, states[m, seen]) + tilt_design @ rng.normal(size=5) + errors
        frames.append(LinearFrame(particles=seen, design=design, tilt_design=tilt_design, value=value))
    return LinearTomogram(
        name="planted",
        positions_px=positions,
        frames=tuple(frames),
        position_variance=1.0,
        scale_px=1.0,
        step_weights=np.ones(len(frames) - 1),
    )


def dense(tomogram: LinearTomogram, prior: MotionPrior) -> tuple[Array, Array]:
    """All measured values, and their covariance."""
    count, tilts = len(tomogram.positions_px), len(tomogram.frames)
    shared = np.kron(np.ones((tilts, tilts)), tomogram.position_variance * np.eye(count))
    for m, weight in enumerate(tomogram.step_weights, start=1):
        step = prior.covariance_px(tomogram.positions_px, tomogram.scale_px, weight)
        later = (np.arange(tilts) >= m).astype(np.float64)
        shared = shared + np.kron(np.outer(later, later), step)
    state = np.kron(shared, np.eye(3))
    designs = []
    for frame in tomogram.frames:
        H = np.zeros((2 * len(frame.particles), 3 * count))
        for i, p in enumerate(frame.particles):
            H[2 * i : 2 * i + 2, 3 * p : 3 * p + 3] = frame.design[i]
        designs.append(H)
    H = scipy.linalg.block_diag(*designs)
    B = scipy.linalg.block_diag(*[f.tilt_design.reshape(-1, 5) for f in tomogram.frames])
    values = np.concatenate([f.value.ravel() for f in tomogram.frames])
    return values, H @ state @ H.T + B @ B.T + np.eye(len(values))
