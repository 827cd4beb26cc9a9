"""Fourier shell correlation of half maps, corrected for the effect of the mask (Chen et al. 2013)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy.fft

from tomopolish.physics.fourier import FSC_THRESHOLD, last_shell_above, radius_half_space, shell_sums
from tomopolish.shapes import Array, Complex, Float, Float32

RANDOMISE_BELOW = 0.8


@dataclass(frozen=True, kw_only=True, eq=False)
class ShellCorrelation:
    """FSC curves in shells 0 … s/2.

    Attributes
    ----------
    corrected
        Masked curve, corrected for the correlation that the mask alone produces.
    unmasked, masked, randomised
        Curves of the maps without mask, with mask, and with mask after randomising their phases.
    """

    corrected: Float[Array, "shells"]
    unmasked: Float[Array, "shells"]
    masked: Float[Array, "shells"]
    randomised: Float[Array, "shells"]
    box_px: int
    is_masked: bool

    @classmethod
    def from_curves(cls, curves: Mapping[str, Float[Array, "shells"]]) -> ShellCorrelation:
        """Make the record from curves by name, of which only ``corrected`` and ``unmasked`` are required."""
        unmasked = curves.get("unmasked", curves["corrected"])
        return cls(
            corrected=curves["corrected"],
            unmasked=unmasked,
            masked=curves.get("masked", unmasked),
            randomised=curves.get("randomised", 0 * unmasked),
            box_px=2 * (len(unmasked) - 1),
            is_masked="masked" in curves,
        )

    def by_name(self) -> dict[str, Float[Array, "shells"]]:
        """Return the curves by name; without a mask, only those that do not involve a mask."""
        curves = {"corrected": self.corrected, "unmasked": self.unmasked}
        return curves | {"masked": self.masked, "randomised": self.randomised} if self.is_masked else curves

    def resolution_angstrom(self, pixel_size_angstrom: float, threshold: float = FSC_THRESHOLD) -> float:
        """Return the resolution, Å, of the last shell before the corrected curve falls below a threshold."""
        shell = last_shell_above(self.corrected, threshold)
        return self.box_px * pixel_size_angstrom / max(shell, 1)


def shell_correlation(
    half_maps: Float32[Array, "2 s s s"], mask: Float32[Array, "s s s"] | None, seed: int = 0
) -> ShellCorrelation:
    """Return the FSC of two half maps; with a mask, corrected by randomised phases.

    Phases are randomised from the first shell in which the unmasked curve is below 0.8; the correction
    applies from two shells further.
    """
    size = half_maps.shape[-1]
    transforms = [scipy.fft.rfftn(volume) for volume in half_maps]
    unmasked = transform_correlation(*transforms)
    if mask is None:
        return ShellCorrelation.from_curves({"corrected": unmasked, "unmasked": unmasked})
    masked = transform_correlation(*[scipy.fft.rfftn(volume * mask) for volume in half_maps])
    below = np.flatnonzero(unmasked[1:] < RANDOMISE_BELOW)
    first = int(below[0]) + 1 if len(below) else size
    beyond = np.rint(radius_half_space(size)) >= first
    rng = np.random.default_rng(seed)
    noise = []
    for transform in transforms:
        phases = np.angle(scipy.fft.rfftn(rng.standard_normal((size,) * 3)))  # of a real map
        random = np.where(beyond, np.abs(transform) * np.exp(1j * phases), transform)
        noise.append(scipy.fft.rfftn(scipy.fft.irfftn(random, s=(size,) * 3) * mask))
    randomised = transform_correlation(*noise)
    corrected = masked.copy()
    corrected[first + 2 :] = ((masked - randomised) / np.maximum(1 - randomised, 1e-3))[first + 2 :]
    return ShellCorrelation(
        corrected=np.clip(corrected, -1, 1),
        unmasked=unmasked,
        masked=masked,
        randomised=np.where(np.arange(len(masked)) >= first, randomised, 0),
        box_px=size,
        is_masked=True,
    )


def transform_correlation(
    first: Complex[Array, "s s h"], second: Complex[Array, "s s h"]
) -> Float[Array, "shells"]:
    """Return the FSC, in shells 0 … s/2, of two maps given as the half spaces of their transforms."""
    power = np.sqrt(shell_sums(np.abs(first) ** 2) * shell_sums(np.abs(second) ** 2))
    cross = shell_sums((first * np.conj(second)).real)
    fsc: Array = np.divide(cross, power, out=np.zeros_like(power), where=power > 0)
    fsc[0] = 1.0
    return fsc


def map_correlation(fsc: Float[Array, "shells"]) -> Float[Array, "shells"]:
    """Return √(2 FSC/(1 + FSC)), the expected correlation of two half maps' mean with a perfect map.

    See Rosenthal & Henderson (2003), J. Mol. Biol. 333:721.
    """
    weight: Array = np.sqrt(2 * fsc / (1 + fsc))
    return weight


def weighted_slices(
    halves: Float32[Array, "2 s s s"], correlation: ShellCorrelation
) -> Float32[Array, "3 s s"]:
    """Return central slices, across z, y and x, of the mean of half maps weighted by their FSC.

    Each shell is multiplied by `map_correlation`; shells from the first below `FSC_THRESHOLD` on are
    left out.
    """
    curve = np.clip(correlation.corrected, 0, 1)
    curve = np.where(np.arange(len(curve)) <= last_shell_above(curve, FSC_THRESHOLD), curve, 0.0)
    size = halves.shape[-1]
    shell = np.minimum(np.round(radius_half_space(size)), len(curve) - 1).astype(np.int64)
    transform = scipy.fft.rfftn(halves.mean(axis=0))
    transform *= map_correlation(curve)[shell]
    volume = scipy.fft.irfftn(transform, s=halves.shape[1:])
    middle = size // 2
    return np.stack([volume[middle], volume[:, middle], volume[:, :, middle]]).astype(np.float32)
