"""Errors that all images of a tomogram share, against direct solutions and blurred structures."""

from __future__ import annotations

import numpy as np
import pytest

from tomopolish.physics.geometry import rotation_from_vector
from tomopolish.pipeline.joint.shared import Envelopes, Predicted, blur_by_turns
from tomopolish.solve.joint import NormalEquations

IMAGES = 5
PRECISION = np.array([40.0, 1 / 15**2])


def predicted(seed: int, shells: int) -> Predicted:
    rng = np.random.default_rng(seed)
    information = rng.uniform(0, 30, size=(IMAGES, shells)) * np.exp(-np.arange(shells) / 8)
    information[3] = 0  # an image without pairs
    k = np.arange(shells) / 90
    return Predicted(information=information, damping=-(k**2) / 4, variance=0.01 + 0.001 * np.arange(shells))


def envelopes(has_mean: tuple[bool, bool] = (True, True)) -> Envelopes:
    species = [predicted(1, 20), predicted(2, 14)]
    weights = np.random.default_rng(3).uniform(0.5, 1.5, size=(IMAGES, 2)) * has_mean
    weights[3] = 0
    return Envelopes(
        species=species,
        precision=np.where(has_mean, PRECISION, 1e6 * PRECISION),
        mean_weights=weights / np.maximum(weights.sum(axis=0), 1e-9),
    )


def solved(problem: Envelopes, errors: list[np.ndarray]) -> np.ndarray:
    """Return ln s and B by least squares of each image, repeated until the mean is right."""
    precision, mean = problem.precision, np.zeros(2)
    result = np.zeros((IMAGES, 2))
    for _ in range(400):
        for image in (0, 1, 2, 4):
            rows, values = [np.diag(np.sqrt(precision))], [np.sqrt(precision) * mean]
            for one, error in zip(problem.species, errors, strict=True):
                root = np.sqrt(one.information[image])
                rows.append(root[:, None] * one.changes.T)
                values.append(-root * error)
            result[image] = np.linalg.lstsq(np.concatenate(rows), np.concatenate(values), rcond=None)[0]
        mean = np.sum(problem.mean_weights * result, axis=0)
    return result


@pytest.mark.parametrize("has_mean", [(True, True), (True, False), (False, False)])
def test_responses_are_those_of_least_squares(has_mean: tuple[bool, bool]) -> None:
    problem, rng = envelopes(has_mean), np.random.default_rng(4)
    errors = [0.1 * rng.normal(size=len(one.damping)) for one in problem.species]
    found = sum(response @ error for response, error in zip(problem.responses(), errors, strict=True))
    np.testing.assert_allclose(found, solved(problem, errors), rtol=1e-4, atol=1e-9)
    assert not np.any(found[3])


def test_a_mean_that_all_images_follow_has_an_error() -> None:
    problem = envelopes()
    seen = [0, 1, 2, 4]
    precision = np.zeros((2 * len(seen) + 2,) * 2)  # of all images' unknowns and the mean together
    for i, image in enumerate(seen):
        own, mean = slice(2 * i, 2 * i + 2), slice(2 * len(seen), None)
        precision[own, own] = problem.curvature[image] + np.diag(PRECISION)
        precision[own, mean] = precision[mean, own] = -np.diag(PRECISION)
        precision[mean, mean] += np.diag(PRECISION)
    expected = np.diag(np.linalg.inv(precision))[: 2 * len(seen)].reshape(-1, 2)
    known = np.einsum("fii->fi", problem.posterior)[seen]
    found = problem.variance_by_mean()
    np.testing.assert_allclose(found[seen], expected - known, rtol=1e-6)
    assert not found[3].any()
    assert not envelopes((False, False)).variance_by_mean().any()


def test_turns_blur_as_shifts_of_the_stated_variance_do() -> None:
    rng, structures, step = np.random.default_rng(5), 60, 1e-5
    waves = 2 * np.pi * 0.02 * rng.normal(size=(60, 2))
    sigma = np.array([0.02, 0.03, 0.04])
    steps = [rotation_from_vector(step * axis).T for axis in np.eye(3)]

    def transform(places: np.ndarray) -> np.ndarray:
        return np.exp(-1j * places[..., :2] @ waves.T).sum(axis=-2)

    points = 12 * rng.normal(size=(structures, 40, 3))
    equations = NormalEquations.zero(1, structures, 2)
    for own, block in zip(points, equations.particles, strict=True):
        places = [own @ turn for turn in steps] + [own + step * axis for axis in np.eye(3)]
        changes = (transform(np.array(places)) - transform(own)) / step
        block[:] = np.real(np.conj(changes) @ changes.T)
    variance = blur_by_turns(equations, np.broadcast_to(sigma**2, (structures, 3)))

    overlap, power = np.zeros(2), 0.0
    for own in points:
        turned = own @ np.swapaxes(rotation_from_vector(sigma * rng.normal(size=(100, 3))), 1, 2)
        shifted = own + np.sqrt(variance / 2) * rng.normal(size=(100, 1, 3))
        still = transform(own)
        overlap += [np.mean(transform(places) @ np.conj(still)).real for places in (turned, shifted)]
        power += np.sum(np.abs(still) ** 2)
    by_turns, by_shifts = 1 - overlap / power
    assert by_turns == pytest.approx(by_shifts, rel=0.15)
    assert blur_by_turns(NormalEquations.zero(1, 1, 2), np.ones((1, 3))) == 0
