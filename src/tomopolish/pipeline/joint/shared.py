"""Errors of CTF scale and B factor that all images of a tomogram share.

See docs/dev/conventions.md, Joint refinement.

Noise of the half maps changes the envelope of the predictions (`imaging.half_map_noise`), and scales and B
factors make up for it by weighted least squares over the shells. Other unknowns hardly respond: turns, shifts
and defocus move phases and the CTF's zeros, which no change of a shell's power does. Images that determine
little follow the mean of all, which is an estimate itself. Errors of orientations blur all images alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from tomopolish.imaging.derivatives import GEOMETRY
from tomopolish.pipeline.joint.images import JointImages
from tomopolish.pipeline.joint.priors import HAVE_A_MEAN
from tomopolish.pipeline.joint.state import JointState
from tomopolish.pipeline.joint.steps import Point, Refiner
from tomopolish.shapes import Array, Bool, Float
from tomopolish.solve.joint import NormalEquations

ENVELOPE = HAVE_A_MEAN
"""Unknowns of a tilt image that change the envelope of predictions."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Predicted:
    """What one species' predictions say of the envelope.

    Attributes
    ----------
    information
        Weighted power of the predictions in each tilt image and shell.
    damping
        Derivative of the logarithm of the envelope by B, −k²/4 (1/Å²).
    variance
        Of the relative error of the predictions in each shell, which all images share.
    """

    information: Float[Array, "F shells"]
    damping: Float[Array, "shells"]
    variance: Float[Array, "shells"]

    @property
    def changes(self) -> Float[Array, "2 shells"]:
        """Derivatives of the logarithm of the envelope by ln s and B."""
        return np.stack([np.ones_like(self.damping), self.damping])

    @property
    def curvature(self) -> Float[Array, "F 2 2"]:
        """Expected curvature by ln s and B."""
        curvature: Array = np.einsum("fk,ik,jk->fij", self.information, self.changes, self.changes)
        return curvature


@dataclass(frozen=True, kw_only=True, eq=False)
class Envelopes:
    """Weighted least squares of each image's ln s and B, with priors whose mean follows them.

    The unknowns minimise Σ I (ln s − B k²/4 + e)² + (θ − μ)ᵀ Λ (θ − μ), with I the information, e relative
    errors of the predictions, Λ the prior's precision and μ its mean.

    Attributes
    ----------
    precision
        Inverse variance of the prior of each unknown.
    mean_weights
        Weights, of sum 1, with which each image's unknowns determine the prior's mean; zeros of an unknown
        whose mean is known.
    """

    species: Sequence[Predicted]
    precision: Float[Array, "2"]
    mean_weights: Float[Array, "F 2"]

    @property
    def has_mean(self) -> Bool[Array, "2"]:
        """Unknowns whose mean is estimated."""
        return np.asarray(self.mean_weights.any(axis=0))

    @cached_property
    def curvature(self) -> Float[Array, "F 2 2"]:
        """Expected curvature without the prior."""
        return np.sum([one.curvature for one in self.species], axis=0)

    @cached_property
    def posterior(self) -> Float[Array, "F 2 2"]:
        """Covariance at a known mean."""
        inverse: Array = np.linalg.inv(self.curvature + np.diag(self.precision))
        return inverse

    @cached_property
    def by_mean(self) -> Float[Array, "F 2 2"]:
        """Change of the unknowns by that of the prior's mean, if it is not known; unseen images stay."""
        seen = self.curvature[:, 0, 0] > 0
        return self.posterior * self.precision * self.has_mean * seen[:, None, None]

    def changes_by(self, gradients: Float[Array, "F 2 N"]) -> Float[Array, "F 2 N"]:
        """Return the changes of each image's ln s and B by N more gradients of its log-likelihood."""
        own = np.einsum("fi,fij->ij", self.mean_weights, self.posterior @ self.curvature)
        alone = self.posterior @ gradients
        moved = np.einsum("fi,fik->ik", self.mean_weights, alone)
        mean = np.linalg.solve(_among(self.has_mean, own), moved)
        changed: Array = alone + self.by_mean @ mean
        return changed

    def responses(self) -> list[Float[Array, "F 2 shells"]]:
        """Return the change of ln s and B of each image by the errors of each species' predictions."""
        return [
            self.changes_by(-np.einsum("jk,fk->fjk", one.changes, one.information)) for one in self.species
        ]

    def variance_by_mean(self) -> Float[Array, "F 2"]:
        """Return the variance of ln s and B by that of the prior's mean."""
        own = np.einsum("i,fij->ij", self.precision, self.posterior @ self.curvature)
        covariance = np.linalg.inv(_among(self.has_mean, own))
        return np.einsum("fij,jk,fik->fi", self.by_mean, covariance, self.by_mean)


def _among(chosen: Bool[Array, "2"], matrix: Float[Array, "2 2"]) -> Float[Array, "2 2"]:
    """Return the identity, but for the rows and columns of the unknowns that are chosen."""
    return np.where(chosen[:, None] & chosen, matrix, np.eye(2))


def shared_errors(envelopes: Envelopes) -> dict[str, Float[Array, "F"]]:
    """Return the standard errors of each image's ln s and B by what all images share, by name.

    The blur by errors of orientations is not among it (`blur_by_turns`).
    """
    shared = envelopes.variance_by_mean()
    for response, one in zip(envelopes.responses(), envelopes.species, strict=True):
        shared += response**2 @ one.variance
    return dict(zip(ENVELOPE, np.sqrt(shared).T, strict=True))


def envelopes_at(refiner: Refiner, point: Point, limit: float) -> Envelopes:
    """Return the least squares of ln s and B at a point of a joint refinement.

    Parameters
    ----------
    point
        Close to the solution, with variances.
    limit
        Largest frequency, 1/px.
    """
    images, priors = refiner.images, refiner.priors
    places = [GEOMETRY + point.state.names.index(name) for name in ENVELOPE]
    weights = np.multiply.outer(
        images.visible.any(axis=1), [float(name not in priors.put_back) for name in ENVELOPE]
    )
    species = _with_moments(
        [_predicted(images, point.state, number, limit) for number in range(len(images.references))],
        point.equations.tilts[:, places[0], places],
    )
    return Envelopes(
        species=species,
        precision=np.array([priors.precision(name) for name in ENVELOPE]),
        mean_weights=weights / np.maximum(weights.sum(axis=0), np.finfo(float).tiny),
    )


def blur_by_turns(equations: NormalEquations, variance: Float[Array, "P 3"]) -> float:
    """Return the variance of pairs' 2D positions (px², both axes) that blurs as turns of known variance do.

    Both blur by half the curvature of the pairs' log-likelihood times their covariance.
    """
    curvature = np.einsum("pii->pi", equations.particles)
    by_shifts = float(curvature[:, 3:].sum()) / 2  # a shift along the view does not count
    return float(np.sum(curvature[:, :3] * variance)) / by_shifts if by_shifts > 0 else 0.0


def _predicted(images: JointImages, state: JointState, number: int, limit: float) -> Predicted:
    """Return what one species' predictions say, with the CTF of particles at the tomogram's centre."""
    reference, part = images.references[number], images.tomogram.parts[number]
    shell_power = reference.shell_power
    shells = np.arange(len(shell_power))
    pairs = np.where(images.visible, images.pair_weights, 0.0)[:, part].sum(axis=1)
    information = np.zeros((len(pairs), len(shell_power)))
    for tilt in np.flatnonzero(pairs > 0).tolist():
        used = images.frequencies(number, tilt, limit, state.names).changed(state.optics[tilt])
        kx, ky = used.kx, used.ky
        xx, xy, yy = used.frequencies.defocus
        ctf = np.sin(used.phase[0] + kx * (kx * xx + ky * xy) + ky * ky * yy)
        radius = np.hypot(kx, ky)
        power = (used.amplitude * ctf) ** 2 * np.interp(radius, shells, shell_power)
        summed = np.bincount(np.rint(radius).astype(np.int64), power, len(shells))
        information[tilt] = pairs[tilt] * summed[: len(shells)]
    k = shells / (reference.box_px * images.tomogram.series.pixel_size_angstrom)
    return Predicted(information=information, damping=-(k**2) / 4, variance=reference.envelope_variance)


def _with_moments(species: Sequence[Predicted], known: Float[Array, "F 2"]) -> list[Predicted]:
    """Return predictions whose information has known moments in each image, the sum and that times −k²/4.

    That of particles at other depths has less distinct zeros and maxima.
    """
    moments = np.sum([one.curvature for one in species], axis=0)
    factors = (np.linalg.pinv(moments, hermitian=True) @ known[..., None])[..., 0]
    return [
        replace(one, information=one.information * np.maximum(factors @ one.changes, 0.0)) for one in species
    ]
