"""Errors of the references' envelope by the noise of the half maps, which all images share.

A prediction is a half map h = s + n, multiplied in each shell by the share of signal f, which is the
correlation of both half maps: f = S/(S + N), with S and N the power of signal and noise. In a finite shell, f
contains the chance correlations of both noises with each other and with the signal. Images of the signal fit
best a prediction that is smaller by a factor of 1 + e. To first order, in the mean of both half sets,

    e = [⟨n₁, n₂⟩ + (⟨s, n₁⟩ + ⟨s, n₂⟩)/2] / S.

Chance correlations of M independent complex coefficients have the variances N²/2M and SN/2M, so that

    var e = [(N/S)² + (N/S)/2] / 2M,  N/S = (1 − f)/f.

The correlation of two half maps normalised by the mean of their powers, which takes the place of an FSC where
there is none, differs from their FSC in second order only. See docs/dev/conventions.md, Joint refinement.
"""

from __future__ import annotations

import numpy as np

from tomopolish.dataset.model import References
from tomopolish.imaging.reference import TAPER_WIDTH_PX, falloff, sampled_slices
from tomopolish.shapes import Array, Float


def noise_extent(references: References, box_px: int) -> float:
    """Return the part of a box that the noise of the half maps fills, within mask and taper.

    Gaussian noise d of variance σ²(x) has as many independent values as a volume (Σσ²)²/Σσ⁴ of equal noise,
    which is 3(Σd²)²/Σd⁴. Noise is the difference of the half maps; the result is 1 where they do not differ.
    """
    first, second = references.half_maps
    size = len(first)
    square = (np.arange(size) - size // 2).astype(np.float64) ** 2
    plane = square[:, None] + square
    count = squares = fourths = 0.0
    for z in sampled_slices(size):
        noise = first[z].astype(np.float64) - second[z]
        if references.mask is not None:
            noise *= references.mask[z]
        noise *= falloff(plane + square[z], box_px / 2 - TAPER_WIDTH_PX, box_px / 2)
        noise *= noise
        count, squares, fourths = count + noise.size, squares + noise.sum(), fourths + np.vdot(noise, noise)
    if not fourths > 0:
        return 1.0
    return float(min(3 * squares**2 / fourths / count, 1.0)) * (size / box_px) ** 3


def independent_coefficients(shells: int, extent: float) -> Float[Array, "shells"]:
    """Return the number of independent complex coefficients in the half space of each shell of a box.

    Parameters
    ----------
    extent
        Part of the box that the noise fills.
    """
    return extent * 2 * np.pi * (np.arange(shells) ** 2 + 1 / 12)


def envelope_variance(
    signal_fraction: Float[Array, "shells"], coefficients: Float[Array, "shells"]
) -> Float[Array, "shells"]:
    """Return the variance of the prediction's relative error in each shell; 0 where nothing is predicted.

    Parameters
    ----------
    signal_fraction
        Share of signal in the power of a half map.
    coefficients
        Number of independent complex coefficients.
    """
    known = signal_fraction > 0
    share = np.where(known, signal_fraction, 1.0)
    noise = (1 - share) / share
    return np.where(known, (noise**2 + noise / 2) / (2 * coefficients), 0.0)
