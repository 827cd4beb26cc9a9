"""References, prepared once for all tomograms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from tomopolish.dataset.model import References
from tomopolish.dataset.species import SpeciesReferences
from tomopolish.imaging.half_map_noise import envelope_variance, independent_coefficients, noise_extent
from tomopolish.imaging.reference import (
    ReferenceTransform,
    cropped,
    interpolation_gain,
    prepare_half_maps,
)
from tomopolish.imaging.weights import ReferenceWeight, reference_weight
from tomopolish.results import doubts
from tomopolish.settings.alignment import AlignSettings
from tomopolish.shapes import Array, Float

SAME = 0.9999
"""Correlation of two half maps from which on they are the same map."""
RELATED, FIRST_SHELLS = 0.3, 5
"""Correlation in the first shells below which two half maps are not of the same structure."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedReferences:
    """Prepared references for the comparison with images.

    Attributes
    ----------
    noise_extent
        Part of the box that the noise of the half maps fills; None where nothing but the geometry is refined.
    interpolation_gain
        Factor that makes predictions as strong as the map; 1 where nothing but the geometry is refined.
    """

    transform: ReferenceTransform
    weight: ReferenceWeight
    noise_extent: float | None
    interpolation_gain: float

    @property
    def box_px(self) -> int:
        """Edge of the boxes that are cut from the images."""
        return self.transform.box_px

    @cached_property
    def shell_power(self) -> Float[Array, "shells"]:
        """Mean power of the half maps' frequencies in each shell; of large maps, of evenly spread ones."""
        reach = self.transform.reach
        spread = slice(reach % (step := max(1, reach // 32)), None, step)
        near = np.arange(-reach, reach + 1)[spread].astype(np.float64)
        radius = np.sqrt(near[:, None, None] ** 2 + near[:, None] ** 2 + np.arange(reach + 1) ** 2)
        shell = np.round(radius).astype(np.int64).ravel()
        power = np.mean(np.abs(self.transform.values[:, spread, spread]) ** 2, axis=0).ravel()
        summed, counts = np.bincount(shell, weights=power), np.bincount(shell)
        return np.divide(summed, counts, out=np.zeros(len(counts)), where=counts > 0)[: reach + 1]

    @property
    def envelope_variance(self) -> Float[Array, "shells"]:
        """Variance of the relative error of predictions in each shell, which all images share."""
        assert self.noise_extent is not None, "only joint refinements ask for it"
        shells = len(self.shell_power)
        coefficients = independent_coefficients(shells, self.noise_extent)
        return envelope_variance(self.weight.shell_fraction[:shells], coefficients)

    @cached_property
    def doubts(self) -> tuple[str, ...]:
        """Doubts about the half maps, from the maps themselves (`results.doubts`)."""
        first, second = self.transform.values
        reach, found = self.transform.reach, []
        near = slice(max(reach - FIRST_SHELLS, 0), reach + FIRST_SHELLS + 1)
        low = (near, near, slice(0, FIRST_SHELLS + 1))
        if _correlation(first, second) > SAME:
            found.append(doubts.SAME_HALVES)
        if _correlation(first[low], second[low]) < RELATED:
            found.append(doubts.UNRELATED_HALVES)
        return tuple(found)


def _correlation(first: Array, second: Array) -> float:
    """Return the normalised correlation of two sets of Fourier coefficients."""
    power = float(np.sum(np.abs(first) ** 2)) * float(np.sum(np.abs(second) ** 2))
    together = float(np.sum((first * second.conj()).real))
    return together / np.sqrt(power) if power > 0 else 0.0


def weight_of(references: References, settings: AlignSettings) -> ReferenceWeight:
    """Return the frequencies that are used, without other preparation; with an FSC this takes no time.

    Raises InputError when no frequency is left.
    """
    box = settings.windows.box_px
    if references.fsc is not None:
        return reference_weight(references, box, settings.weights)
    return prepare(references, settings).weight


def prepare(references: References, settings: AlignSettings) -> PreparedReferences:
    """Return the half maps' transforms and the frequencies that are used."""
    box, threads = settings.windows.box_px, settings.run.threads
    if references.fsc is not None and references.fsc_box is not None:
        weight = reference_weight(references, box, settings.weights)
        transform = prepare_half_maps(references, box, weight.last_frequency, threads)
    else:
        whole = prepare_half_maps(references, box, box / 2, threads)
        weight = reference_weight(references, box, settings.weights, whole)
        transform = cropped(whole, weight.last_frequency)
    extent, gain = None, 1.0
    if settings.joint.any:
        extent, gain = noise_extent(references, box), interpolation_gain(references, box)
    return PreparedReferences(
        transform=transform, weight=weight, noise_extent=extent, interpolation_gain=gain
    )


def prepare_species(
    references: Sequence[SpeciesReferences], settings: AlignSettings
) -> tuple[PreparedReferences, ...]:
    """Return the prepared references of each species, in its own box."""
    return tuple(
        prepare(r.references, replace(settings, windows=replace(settings.windows, box_px=r.box_px)))
        for r in references
    )
