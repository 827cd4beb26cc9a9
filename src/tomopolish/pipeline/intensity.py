"""The factor by which references must be multiplied to fit the images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tomopolish.imaging.windows import CorrelationWindows
from tomopolish.physics.fourier import column_multiplicity, radius_half_plane
from tomopolish.pipeline.references import PreparedReferences
from tomopolish.shapes import Array, Bool, Float, Int
from tomopolish.solve.problem import pair_values
from tomopolish.solve.refine import Refinement

SCALE_TOLERANCE = 1.5
SCALE_CORRECTIONS = 3
MOST_BY_NOISE = 4.0
"""Factor by which noise of half maps may make references seem too strong at most."""
SEARCHED_AGAIN = 4.0
"""Change of the intensity, as a factor, from which on the next fit begins with another search."""


def ratio(factors: Float[Array, "S"]) -> Float[Array, "S"]:
    """Return factors, or their inverse where they are below 1."""
    return np.maximum(factors, 1 / np.maximum(factors, 1e-12))


def are_off(factors: Float[Array, "S"]) -> Bool[Array, "S"]:
    """Return which factors differ from 1 by more than references may differ from the images."""
    return (factors > 0) & (ratio(factors) > SCALE_TOLERANCE)


def intensity_scales(
    windows: CorrelationWindows, refinement: Refinement, owner: Int[Array, "P"]
) -> Float[Array, "S"]:
    """Return the factor of each species' predictions that fits the images best.

    Weighted least squares of the images on the predictions at the solution: the log-likelihood gained over
    the predictions' own weighted power.
    """
    gained = pair_values(refinement.problem, refinement.vector)
    power = np.where(windows.visible, windows.power, 0.0)
    if refinement.problem.pair_weights is not None:
        gained, power = gained * refinement.problem.pair_weights, power * refinement.problem.pair_weights
    gained, power = gained.sum(axis=0), power.sum(axis=0)
    gained, power = np.bincount(owner, weights=gained), np.bincount(owner, weights=power)
    return np.divide(gained, power, out=np.ones_like(power), where=power > 0)


def explained_by_noise(reference: PreparedReferences, weights: Float[Array, "G box columns"]) -> float:
    """Return the factor that fits half maps to images of their signal, by the noise of the half maps alone.

    Windows are made with the half maps as they are, noise and all, and so a fit to them finds this factor
    where the references have the intensity of the images. It is the share of signal in the half maps' power,
    as frequencies are weighted; the CTF and the dose, which weight them further, are left out.

    Parameters
    ----------
    weights
        Of the frequencies in each tilt image, or in all.
    """
    box_px, power = reference.box_px, reference.shell_power
    radius = radius_half_plane(box_px)
    used = weights.mean(axis=0) * column_multiplicity(box_px)
    used = used * np.interp(radius, np.arange(len(power)), power, right=0.0)
    total = float(used.sum())
    return float((used * reference.weight.signal_fraction).sum()) / total if total > 0 else 1.0


def factors_without_noise(
    best: Sequence[float],
    references: Sequence[PreparedReferences],
    weights: Sequence[Float[Array, "G box columns"]],
) -> tuple[float, ...]:
    """Return the factor of each species' references for predictions from which their noise is filtered.

    Parameters
    ----------
    best
        Factors of the references, noise and all, that fit the images best.
    weights
        Of the frequencies, by species.

    Returns
    -------
    1 for references that have the intensity of the images within a factor of `SCALE_TOLERANCE`, so that CTF
    scales count from the references as they are.
    """
    found = [
        factor / max(explained_by_noise(reference, weight), 1 / MOST_BY_NOISE)
        for factor, reference, weight in zip(best, references, weights, strict=True)
    ]
    return tuple(1.0 if ratio(np.array([factor]))[0] <= SCALE_TOLERANCE else factor for factor in found)
