"""What CTF scales and B factors follow of the images' noise, and solutions without it.

Views and geometry are fitted to the signal of the images and to their noise, with which predictions then
agree better than those of the truth would. They agree best at high frequencies, where turns and shifts change
a prediction most, so that scales come out too large and B factors too small. Averaged over all views and
geometry that are probable, instead of at the most probable ones, the gradient of the log-likelihood by ln s
and B is smaller by

    ½ tr(Jᵀ D J C),  D = 1 for ln s and −k²/4 for B,

with J the derivatives of a prediction by its views and geometry, and C their posterior covariance. Without D,
this is half the number of unknowns that the images determine. Turns and shifts change the prediction by an
amount that is proportional to k, so that D is its mean over the information times k². See
docs/dev/conventions.md, Joint refinement.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tomopolish.imaging.derivatives import GEOMETRY
from tomopolish.pipeline.joint.shared import ENVELOPE, Envelopes, Predicted
from tomopolish.pipeline.joint.state import JointState
from tomopolish.pipeline.joint.steps import Point, Refiner
from tomopolish.shapes import Array, Float


def without_overfitting(
    refiner: Refiner, point: Point, envelopes: Envelopes, state: JointState
) -> JointState:
    """Return a state whose scales and B factors follow the images' noise no longer.

    Parameters
    ----------
    point
        Close to the solution, with variances.
    envelopes
        At that point.
    state
        The solution.
    """
    gradient = np.zeros((len(state.optics), len(ENVELOPE)))
    unknowns = determined_unknowns(refiner, point, envelopes)
    for one, determined in zip(envelopes.species, unknowns, strict=True):
        gradient += gradient_by_noise(one, determined)
    optics = state.optics.copy()
    columns = [state.names.index(name) for name in ENVELOPE]
    optics[:, columns] -= envelopes.changes_by(gradient[..., None])[..., 0]
    return replace(state, optics=optics)


def gradient_by_noise(predicted: Predicted, unknowns: Float[Array, "F"]) -> Float[Array, "F 2"]:
    """Return the gradient by ln s and B that is due to unknowns of views and geometry that follow noise.

    Parameters
    ----------
    unknowns
        Number of unknowns that each image determines.
    """
    curvature = predicted.curvature
    once, twice = curvature[:, 0, 1], curvature[:, 1, 1]
    damping = np.divide(twice, once, out=np.zeros_like(once), where=once < 0)
    return unknowns[:, None] / 2 * np.stack([np.ones_like(damping), damping], axis=-1)


def determined_unknowns(refiner: Refiner, point: Point, envelopes: Envelopes) -> list[Float[Array, "F"]]:
    """Return the number of unknowns of views and geometry that each image determines, by species.

    Each particle's unknowns, as far as its pairs and not its prior determine them, count in its images in
    proportion to the information that they have on it, and an image's own count in that image.
    """
    images, prior = refiner.images, refiner.prior()
    # Variances of particles are those of full weight, and so must the precision be.
    weight = images.particle_weights[:, None]
    own = (1 - prior.particle_precision / weight * point.step.particle_variance) * prior.particle_free
    shared = (1 - prior.tilt_precision * point.step.tilt_variance) * prior.tilt_free
    by_images = np.clip(shared[:, :GEOMETRY], 0, 1).sum(axis=1)
    by_particles = np.clip(own, 0, 1).sum(axis=1)
    weights = np.where(images.visible, images.pair_weights, 0.0)
    changed = [-one.curvature[:, 0, 1] for one in envelopes.species]
    total = np.maximum(np.sum(changed, axis=0), np.finfo(float).tiny)
    found = []
    for part, information in zip(images.tomogram.parts, changed, strict=True):
        pairs = weights[:, part]
        count = pairs.sum(axis=1)
        each = np.divide(information, count, out=np.zeros_like(information), where=count > 0)
        of_pairs = pairs * each[:, None]
        of_particles = np.maximum(of_pairs.sum(axis=0), np.finfo(float).tiny)
        found.append((of_pairs / of_particles) @ by_particles[part] + by_images * information / total)
    return found
