"""Gauss–Newton steps of views, geometry and optics together (docs/dev/conventions.md, Joint refinement).

Each particle has six unknowns, which are eliminated: a rotation about its own axes and a shift. Each tilt
image has those of its projection and its optics.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from scipy.linalg import cho_solve, solve_triangular

from tomopolish.imaging.derivatives import GEOMETRY, PairDerivatives
from tomopolish.physics.geometry import cross_matrix
from tomopolish.shapes import Array, Bool, Float, Int
from tomopolish.solve.elimination import definite_cholesky

PARTICLE = 6
"""Unknowns of a particle: rotation about its own axes (rad), shift in the tomogram (px)."""

POOLED = 10.0
"""Number of members of a group of unknowns, here turns of a species, as which those of all groups count."""

SMALLEST_WIDTH, WIDTHS = 1e-5, 240
"""Widths of priors are tried from this part of the greatest one on, and as many."""

RIDGE = 1e-9
"""Precision added to every unknown, as a fraction of the largest of its kind, for what no image shows."""


@dataclass(kw_only=True, eq=False)
class NormalEquations:
    """Gradient and expected curvature of the log-likelihood, tilt image by tilt image.

    Attributes
    ----------
    particles, particle_gradient
        Blocks of the particles.
    tilts, tilt_gradient
        Blocks of the tilt images: rotation about the image's axes (3), shift (2), optics.
    cross
        Curvature between particles and tilt images.
    log_likelihood
        Of each particle's pairs.
    """

    particles: Float[Array, "P 6 6"]
    particle_gradient: Float[Array, "P 6"]
    tilts: Float[Array, "F T T"]
    tilt_gradient: Float[Array, "F T"]
    cross: Float[Array, "P 6 F T"]
    log_likelihood: Float[Array, "P"]

    @classmethod
    def zero(cls, tilts: int, particles: int, optics: int) -> NormalEquations:
        """Return equations without any pair."""
        size = GEOMETRY + optics
        return cls(
            particles=np.zeros((particles, PARTICLE, PARTICLE)),
            particle_gradient=np.zeros((particles, PARTICLE)),
            tilts=np.zeros((tilts, size, size)),
            tilt_gradient=np.zeros((tilts, size)),
            cross=np.zeros((particles, PARTICLE, tilts, size)),
            log_likelihood=np.zeros(particles),
        )

    def joined_with(self, more: NormalEquations) -> NormalEquations:
        """Return the equations of these pairs and of further pairs, at the same point."""
        return NormalEquations(
            **{f.name: getattr(self, f.name) + getattr(more, f.name) for f in fields(self)}
        )

    def rise(self, particles: Float[Array, "P 6"], tilts: Float[Array, "F T"]) -> float:
        """Return the rise of the log-likelihood that the quadratic model predicts for a step."""
        crossed = self.cross.reshape(particles.size, tilts.size) @ tilts.reshape(-1)
        curved_own = np.einsum("pij,pj->pi", self.particles, particles) / 2
        curved_shared = np.einsum("fij,fj->fi", self.tilts, tilts) / 2
        return float(
            np.sum(particles * (self.particle_gradient - curved_own))
            + np.sum(tilts * (self.tilt_gradient - curved_shared))
            - particles.reshape(-1) @ crossed
        )

    def add(
        self,
        tilt: int,
        chosen: Int[Array, "B"],
        pairs: PairDerivatives,
        rotation: Float[Array, "3 3"],
        views: Float[Array, "B 3 3"],
        arms_px: Float[Array, "B 3"],
    ) -> None:
        """Add pairs of one tilt image.

        A warp's own derivatives, which are small, are neglected.

        Parameters
        ----------
        rotation
            Of the projection.
        views
            Rotation · orientation of each pair.
        arms_px
            Position of each particle relative to the tomogram's projected centre, in the image's frame.
        """
        size = pairs.matched.shape[1]
        own = np.zeros((size, PARTICLE))
        own[:3, :3] = np.eye(3)
        own[3:5, 3:] = rotation[:2]
        shared = np.zeros((len(chosen), size, size))
        shared[:, :3, :3] = np.swapaxes(views, 1, 2)
        shared[:, 3:5, :3] = -cross_matrix(arms_px)[:, :2]
        shared[:, np.arange(3, size), np.arange(3, size)] = 1
        gradient, curved = pairs.gradient, pairs.normal @ shared
        self.particles[chosen] += own.T @ pairs.normal @ own
        self.particle_gradient[chosen] += gradient @ own
        self.tilts[tilt] += np.tensordot(shared, curved, axes=([0, 1], [0, 1]))
        self.tilt_gradient[tilt] += np.tensordot(gradient, shared, axes=([0, 1], [0, 1]))
        self.cross[chosen, :, tilt] += own.T @ curved
        self.log_likelihood[chosen] += pairs.log_likelihood


@dataclass(frozen=True, kw_only=True, eq=False)
class JointPrior:
    """Gaussian priors and the unknowns that may move.

    Attributes
    ----------
    particle_precision, tilt_precision
        Inverse variances.
    particle_free, tilt_free
        Masks of the unknowns that are refined.
    """

    particle_precision: Float[Array, "P 6"]
    tilt_precision: Float[Array, "F T"]
    particle_free: Bool[Array, "6"]
    tilt_free: Bool[Array, "F T"]


@dataclass(frozen=True, kw_only=True, eq=False)
class JointStep:
    """A Gauss–Newton step.

    Attributes
    ----------
    predicted
        Rise of the log-posterior that the quadratic model predicts for it.
    particle_variance, tilt_variance
        Posterior variance of each unknown; zero where it is fixed, and everywhere if they were not wanted.
    """

    particles: Float[Array, "P 6"]
    tilts: Float[Array, "F T"]
    predicted: float
    particle_variance: Float[Array, "P 6"]
    tilt_variance: Float[Array, "F T"]


def joint_step(
    equations: NormalEquations,
    prior: JointPrior,
    particle_departure: Float[Array, "P 6"],
    tilt_departure: Float[Array, "F T"],
    *,
    variances: bool = True,
    frames: Float[Array, "P 3 3"] | None = None,
) -> JointStep:
    """Solve for the step; particles are eliminated.

    Parameters
    ----------
    particle_departure, tilt_departure
        Unknowns at the current point, relative to the prior's mean.
    variances
        Whether posterior variances are wanted, which take about as long as the step.
    frames
        Rotations of the particles, if variances of their turns are wanted without what all turn together with
        the projections, which changes no image (`without_net_turn`); None: with it.
    """
    count, (tilts, size) = len(equations.particles), equations.tilt_gradient.shape
    own_free, shared_free = prior.particle_free, prior.tilt_free.reshape(-1)
    own = _fixed(_with_prior(equations.particles, prior.particle_precision), own_free)
    own_gradient = np.where(
        own_free, equations.particle_gradient - prior.particle_precision * particle_departure, 0.0
    )
    gradient = np.where(
        prior.tilt_free, equations.tilt_gradient - prior.tilt_precision * tilt_departure, 0.0
    ).reshape(-1)
    root = np.linalg.inv(np.linalg.cholesky(own))  # small blocks: products are faster than solutions
    cross = equations.cross.reshape(count, PARTICLE, -1) * own_free[:, None] * shared_free
    whitened = (root @ cross).reshape(-1, tilts * size)
    whitened_gradient = (root @ own_gradient[..., None]).reshape(-1)
    reduced = -(whitened.T @ whitened)
    blocks = _with_prior(equations.tilts, prior.tilt_precision)
    for tilt in range(tilts):
        part = slice(tilt * size, (tilt + 1) * size)
        reduced[part, part] += blocks[tilt]
    reduced = _fixed(reduced, shared_free)
    factor = definite_cholesky(reduced)
    shared_step = cho_solve((factor, True), gradient - whitened.T @ whitened_gradient)
    shared_step[~shared_free] = 0
    rest = (whitened_gradient - whitened @ shared_step).reshape(count, PARTICLE, 1)
    back = np.swapaxes(root, 1, 2)
    own_step = (back @ rest)[..., 0]
    own_variance, shared_variance = np.zeros((count, PARTICLE)), np.zeros(tilts * size)
    if variances:
        inverse = solve_triangular(factor, np.eye(len(factor)), lower=True)
        spread = back @ (whitened @ inverse.T).reshape(count, PARTICLE, -1)
        own_variance = np.sum(root**2, axis=1) + np.sum(spread**2, axis=-1)
        if frames is not None:
            seen = equations.particles[:, 0, 0] > 0
            own_variance[:, :3] = _variance_without_net_turn((back @ root)[:, :3, :3], spread, frames, seen)
        own_variance = np.where(own_free, own_variance, 0.0)
        shared_variance = np.where(shared_free, np.sum(inverse**2, axis=0), 0.0)
    return JointStep(
        particles=own_step,
        tilts=shared_step.reshape(tilts, size),
        predicted=0.5 * float(np.sum(own_step * own_gradient) + shared_step @ gradient),
        particle_variance=own_variance,
        tilt_variance=shared_variance.reshape(tilts, size),
    )


def without_net_turn(
    turns: Float[Array, "P 3 ..."], frames: Float[Array, "P 3 3"], seen: Bool[Array, "P"]
) -> Float[Array, "P 3 ..."]:
    """Return turns about the particles' own axes without the mean turn, in the tomogram, of those seen."""
    if not seen.any():
        return turns
    mean = np.einsum("pij,pj...->i...", frames[seen], turns[seen]) / seen.sum()
    return turns - np.einsum("pij,i...->pj...", frames, mean)


def _variance_without_net_turn(
    alone: Float[Array, "P 3 3"],
    shared: Float[Array, "P 6 N"],
    frames: Float[Array, "P 3 3"],
    seen: Bool[Array, "P"],
) -> Float[Array, "P 3"]:
    """Return the variances of particles' turns without their mean.

    Parameters
    ----------
    alone
        Covariance of each particle's turn at known tilt images.
    shared
        Unknowns of the particles for independent unit errors of the tilt images.
    """
    count = max(int(seen.sum()), 1)
    of_mean = np.einsum("pij,pjk,plk->il", frames[seen], alone[seen], frames[seen]) / count**2
    own = np.einsum("pii->pi", alone) * np.where(seen, 1 - 2 / count, 1.0)[:, None]
    own = own + np.einsum("pij,ik,pkj->pj", frames, of_mean, frames)
    return own + np.sum(without_net_turn(shared[:, :3], frames, seen) ** 2, axis=-1)


def _with_prior(blocks: Float[Array, "N n n"], precision: Float[Array, "N n"]) -> Float[Array, "N n n"]:
    """Return blocks with the prior, and the ridge, on their diagonals."""
    index = np.arange(blocks.shape[-1])
    total = blocks.copy()
    largest = total[:, index, index].max(axis=0, initial=0.0)
    total[:, index, index] += precision + RIDGE * largest
    return total


def _fixed(matrix: Float[Array, "... n n"], free: Bool[Array, "n"]) -> Float[Array, "... n n"]:
    """Return matrices in which unknowns that are not free have no effect."""
    index = np.flatnonzero(~free)
    result = matrix * (free[:, None] & free)
    result[..., index, index] = 1
    return result


def estimated_width(
    departures: Float[Array, "N"],
    variances: Float[Array, "N"],
    width: Float[Array, "N"] | float,
    scale: tuple[float, float],
    weights: Float[Array, "N"] | float = 1.0,
) -> float:
    """Return the width of a zero-mean prior: the root of the mean square of widths, by their probability.

    The most probable width alone (MacKay 1992, Neural Comput. 4:415) is often zero where the members' own
    errors are as large as they, and then states much smaller errors than they have. Widths have a half-Cauchy
    prior themselves (Gelman 2006, Bayesian Anal. 1:515).

    Parameters
    ----------
    departures, variances
        Estimates and their posterior variances under the present width.
    width
        The present width, which members may have each their own of.
    scale
        That of the widths' own prior, and the greatest width.
    weights
        How much each member counts.
    """
    usual, largest = scale
    curvature = np.maximum(1 / variances - 1 / np.square(width), 0.0)
    squares = (departures / variances) ** 2  # of the gradients where nothing departs
    widths = largest * np.geomspace(SMALLEST_WIDTH, 1.0, WIDTHS)
    explained = np.multiply.outer(widths**2, curvature)
    gain = np.multiply.outer(widths**2, squares) / (1 + explained) - np.log1p(explained)
    evidence = gain @ np.broadcast_to(weights, departures.shape) / 2 - np.log1p((widths / usual) ** 2)
    probable = np.exp(evidence - evidence.max()) * np.gradient(widths)
    return float(np.sqrt(probable @ widths**2 / probable.sum()))


def estimated_mean(
    curvature: Float[Array, "N n n"],
    precision: Float[Array, "n"],
    departures: Float[Array, "N n"],
    hyperprior: tuple[Float[Array, "n"], Float[Array, "n"]],
) -> tuple[Float[Array, "n"], Float[Array, "N n"]]:
    """Return the change of a prior's mean that makes its members most probable, and how they follow it.

    The mean of N members, which is an unknown as they are, is theirs; each follows it by the share that the
    prior has in it.

    Parameters
    ----------
    curvature
        Of the log-likelihood by each member's n unknowns.
    precision
        Inverse variances of the prior, the same for all members.
    departures
        Estimates under the present mean, relative to it.
    hyperprior
        Inverse variances of the mean, around zero, and the present mean.
    """
    of_mean, mean = hyperprior
    posterior = np.linalg.inv(curvature + np.diag(precision))
    held = np.diag(of_mean / precision)
    change = np.linalg.solve((posterior @ curvature).sum(axis=0) + held, departures.sum(axis=0) - held @ mean)
    return change, posterior @ (precision * change)


def estimated_widths(
    departures: Float[Array, "N 3"],
    variances: Float[Array, "N 3"],
    owner: Int[Array, "N"],
    widths: tuple[float, ...],
    scale: tuple[float, float],
) -> tuple[float, tuple[float, ...]]:
    """Return the width of the prior of several groups together, and that of each, if there are several.

    All groups together count as `POOLED` members of each, which decide where it has few of its own.

    Parameters
    ----------
    departures, variances, scale
        As in `estimated_width`.
    owner
        Group of each member.
    widths
        The present width of each group.
    """
    group = np.repeat(owner, 3)
    members = departures.ravel(), variances.ravel(), np.array(widths)[group], scale
    together = estimated_width(*members)
    if len(widths) == 1:
        return together, ()
    pooled = POOLED / max(group.size, 1)
    return together, tuple(
        estimated_width(*members, weights=(group == number) + pooled) for number in range(len(widths))
    )
