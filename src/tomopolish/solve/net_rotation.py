"""The net rotation of a refined tomogram against its input, chosen by information.

Rotating all positions one way and all projections the opposite way changes no image, but it changes the views
of the particles, whose orientations are not refined. Refined and input geometry are therefore compared twice.
The projections have a mean rotation. After that rotation is removed, the positions suggest a rotation δ of
their own, with a covariance that follows from their spread and from the lever arms of the particles: with few
particles it is mostly noise.

Positions, orientations and projections of a project usually come from one alignment, so δ is nearly always
too small for the positions to determine; sometimes files of different alignments are combined. The prior of δ
is therefore heavy-tailed: a normal distribution of `USUAL_DEGREES` about each axis of the tomogram. In
`UNUSUAL_SHARE` of tomograms, however, some axes (each with probability `UNUSUAL_AXES`) have a Cauchy
distribution of scale `UNUSUAL_DEGREES` instead. The posterior mean of δ leaves an insignificant rotation with
the projections and removes a significant rotation from the positions, for each axis separately.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tomopolish.physics.geometry import cross_matrix, rotation_from_vector, rotation_vector
from tomopolish.shapes import Array, Float

USUAL_DEGREES = 0.01
UNUSUAL_DEGREES = 0.1
UNUSUAL_SHARE = 0.005
UNUSUAL_AXES = 1 / 3

TAIL_FREEDOM = 4.0
"""Degrees of freedom of Student's t, the distribution of a position's errors, which weights outliers less."""
SPREAD_FREEDOM = 3.0
"""Weight, in coordinates, of the prior of the errors' scale, by which errors explain all displacements."""
AXIS_FREEDOM = 4.0
"""Weight, in particles, of the mean spread over the three axes relative to each axis's own spread."""
LOOSE_PRIOR = 1 / np.deg2rad(10.0) ** 2
"""Precision, 1/radians², with which the fit's rotation is zero about axes that positions do not determine."""
MAX_ITERATIONS = 60
SCALE_ITERATIONS = 10
SCALE_STEPS = 5
"""Steps to each side, in standard deviations, of the integral over the logarithm of the errors' scale."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SuggestedRotation:
    """The rotation that best explains refined positions as turned input positions.

    Attributes
    ----------
    vector
        Rotation vector, radians; zero about axes that the positions do not determine.
    information
        Its inverse covariance, 1/radians², where `misfit` is as large as `freedom`; zero about axes that the
        positions do not determine.
    misfit
        Sum of the remaining squared errors, each divided by its variance.
    freedom
        Number of coordinates that took part, less three for the common translation.
    """

    vector: Float[Array, "3"]
    information: Float[Array, "3 3"]
    misfit: float
    freedom: float


@dataclass(frozen=True, kw_only=True, eq=False)
class NetRotation:
    """The rotation that is removed from the positions.

    Attributes
    ----------
    vector
        Rotation vector, radians.
    share
        Matrix that the suggested rotation was multiplied by: 0 where the rotation stays with the
        projections, the identity where the positions alone decide.
    """

    vector: Float[Array, "3"]
    share: Float[Array, "3 3"]


NO_ROTATION = NetRotation(vector=np.zeros(3), share=np.zeros((3, 3)))


def choose_net_rotation(
    positions_px: Float[Array, "P 3"],
    input_px: Float[Array, "P 3"],
    covariances_px2: Float[Array, "P 3 3"],
    weights: Float[Array, "P"],
) -> NetRotation:
    """Return the posterior mean of the rotation between refined and input positions.

    Parameters
    ----------
    positions_px
        Refined positions; the refined projections have no net rotation against those of the input.
    covariances_px2
        Covariances of the refined positions by the images.
    weights
        Weight of each particle, 0 to 1: the probability that the images show it.
    """
    counted = weights > 0
    if weights.sum() <= 1:
        return NO_ROTATION
    suggested = suggested_rotation(
        positions_px[counted], input_px[counted], covariances_px2[counted], weights[counted]
    )
    return expected_rotation(suggested)


def suggested_rotation(
    positions_px: Float[Array, "P 3"],
    input_px: Float[Array, "P 3"],
    covariances_px2: Float[Array, "P 3 3"],
    weights: Float[Array, "P"],
) -> SuggestedRotation:
    """Fit x ≈ W x₀ + t with errors of Student's t distribution; all weights are positive.

    A position's error has the covariance of the refined position plus a variance for each axis, which is
    estimated along with W and t by expectation maximisation (Lange, Little & Taylor 1989, J. Am. Stat. Assoc.
    84:881).
    """
    total = weights.sum()
    centre = weights @ input_px / total
    before, after = input_px - centre, positions_px - centre
    vector, shift = np.zeros(3), weights @ after / total
    errors = after - before - shift
    spread = np.full(3, weights @ np.sum(errors**2, axis=1) / (3 * total))
    for _ in range(MAX_ITERATIONS):
        precisions = _inverse_covariances(covariances_px2, spread)
        turned = before @ rotation_from_vector(vector).T
        errors = after - turned - shift
        counts = weights * _normality(errors, precisions)
        normal, right = _normal_equations(turned, errors, precisions * counts[:, None, None])
        normal[:3, :3] += LOOSE_PRIOR * np.eye(3)
        right[:3] -= LOOSE_PRIOR * vector
        step = np.linalg.solve(normal, right)
        vector = rotation_vector(rotation_from_vector(step[:3]) @ rotation_from_vector(vector))
        shift = shift + step[3:]
        errors = after - before @ rotation_from_vector(vector).T - shift
        last, spread = spread, _spread(errors, covariances_px2, counts, total)
        if np.abs(step[:3]).max() < 1e-10 and np.allclose(spread, last, rtol=1e-6):
            break
    precisions = _inverse_covariances(covariances_px2, spread)
    counts = weights * _normality(errors, precisions)
    counts *= min(1.0, total / counts.sum())
    weighted = precisions * counts[:, None, None]
    normal, _ = _normal_equations(before @ rotation_from_vector(vector).T, errors, weighted)
    across = normal[:3, 3:]
    # Fisher's information of Student's t is that of the normal distribution times a factor.
    information = (
        (TAIL_FREEDOM + 3)
        / (TAIL_FREEDOM + 5)
        * (normal[:3, :3] - across @ np.linalg.solve(normal[3:, 3:], across.T))
    )
    return SuggestedRotation(
        vector=vector,
        information=information,
        misfit=float(np.einsum("pi,pij,pj->", errors, weighted, errors)),
        freedom=float(3 * total - 3),
    )


def expected_rotation(suggested: SuggestedRotation) -> NetRotation:
    """Return the posterior mean under the heavy-tailed prior.

    The prior is a mixture of normal distributions. The scale of the errors is uncertain, too, the more so the
    fewer particles there are: its prior is a scaled inverse χ² distribution about the scale that all
    displacements together would have if there were no rotation. Both are integrated numerically; given both,
    the mean is that of a normal distribution.
    """
    information, vector = suggested.information, suggested.vector
    freedom = suggested.freedom + SPREAD_FREEDOM
    all_displacements = (suggested.misfit + vector @ information @ vector) / suggested.freedom
    if all_displacements <= 0:
        return NO_ROTATION
    misfit = suggested.misfit + SPREAD_FREEDOM * all_displacements
    variances, log_prior = _prior()
    # Information and pull of the suggestion for each component, along axes in which they and the prior are
    # independent and the prior's variance is 1.
    width = np.sqrt(variances)
    values, axes = np.linalg.eigh(width[:, :, None] * information * width[:, None, :])
    values = np.maximum(values, 0.0)[:, None]
    axes = width[:, :, None] * axes
    pulls = np.square(np.einsum("nij,i->nj", axes, information @ vector))[:, None]
    scale = np.full((len(variances), 1), misfit / freedom)
    for _ in range(SCALE_ITERATIONS):  # the most probable scale for each component of the prior
        scale = (misfit + _unexplained(suggested, values, pulls, scale)) / freedom
    scale = scale * np.exp(np.arange(-SCALE_STEPS, SCALE_STEPS + 1) * np.sqrt(2 / freedom))
    log_weights = log_prior[:, None] - 0.5 * _unexplained(suggested, values, pulls, scale) / scale
    log_weights -= 0.5 * np.log1p(values / scale[:, :, None]).sum(axis=2)
    log_weights -= 0.5 * (freedom * np.log(scale) + misfit / scale)
    weights = np.exp(log_weights - log_weights.max())
    certain = np.sum((weights / weights.sum())[:, :, None] / (scale[:, :, None] + values), axis=1)
    share = np.einsum("nij,nj,nkj->ik", axes, certain, axes, optimize=True) @ information
    return NetRotation(vector=share @ vector, share=share)


def _unexplained(
    suggested: SuggestedRotation,
    values: Float[Array, "N 1 3"],
    pulls: Float[Array, "N 1 3"],
    scale: Float[Array, "N S"],
) -> Float[Array, "N S"]:
    """Return the squared misfit of the suggestion to each component of the prior, for each errors' scale."""
    vector = suggested.vector
    return vector @ suggested.information @ vector - np.sum(pulls / (scale[:, :, None] + values), axis=2)


def _prior() -> tuple[Float[Array, "N 3"], Float[Array, "N"]]:
    """Return the normal distributions that make up the prior: variances, radians², and log-probabilities."""
    log_spread = np.linspace(-4, 12, 9)
    tail = np.exp(-0.5 * (log_spread + np.exp(-log_spread)))  # a Cauchy distribution's mixture over variances
    usual, unusual = np.deg2rad([USUAL_DEGREES, UNUSUAL_DEGREES]) ** 2
    variances = np.append(usual, unusual * np.exp(log_spread))
    probabilities = np.append(1 - UNUSUAL_AXES, UNUSUAL_AXES * tail / tail.sum())
    index = np.indices((len(variances),) * 3).reshape(3, -1).T
    log_prior = np.log(probabilities)[index].sum(axis=1)
    wholly_usual = 3 * np.log(1 - UNUSUAL_AXES)
    log_prior += np.log(UNUSUAL_SHARE) - np.log1p(-np.exp(wholly_usual))
    log_prior[np.all(index == 0, axis=1)] = np.log1p(-UNUSUAL_SHARE)
    return variances[index], log_prior


def _inverse_covariances(covariances_px2: Array, spread: Array) -> Array:
    return np.linalg.inv(covariances_px2 + np.diag(spread))


def _normality(errors: Array, precisions: Array) -> Array:
    """Return the weights of Student's t: above 1 for small errors, towards 0 for outliers."""
    squares = np.einsum("pi,pij,pj->p", errors, precisions, errors)
    weights: Array = (TAIL_FREEDOM + 3) / (TAIL_FREEDOM + squares)
    return weights


def _normal_equations(turned: Array, errors: Array, weighted: Array) -> tuple[Array, Array]:
    """Return the normal equations of a small rotation and a shift of turned input positions."""
    jacobian = np.empty((len(turned), 3, 6))
    jacobian[:, :, :3] = -cross_matrix(turned)
    jacobian[:, :, 3:] = np.eye(3)
    forces = np.swapaxes(jacobian, 1, 2) @ weighted
    return np.einsum("pij,pjk->ik", forces, jacobian), np.einsum("pij,pj->i", forces, errors)


def _spread(errors: Array, covariances_px2: Array, counts: Array, total: float) -> Array:
    """Return the variance of the errors along each axis that the refined positions' own do not explain."""
    explained = counts @ np.diagonal(covariances_px2, axis1=1, axis2=2) / total
    seen = counts @ errors**2 / total * (3 * total / max(3 * total - 6, 1.0))
    spread = seen - explained
    pooled = max(float(spread.mean()), 1e-3 * float(seen.mean()), 1e-9)
    variances: Array = (total * spread + AXIS_FREEDOM * pooled) / (total + AXIS_FREEDOM)
    return np.maximum(variances, 0.1 * pooled)
