"""A synthetic molecule of Gaussian blobs, whose transform is known exactly at every frequency."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tomopolish.shapes import Array, Complex, Float, Float32
from tomopolish.simulate.specimen import random_directions

_PHASES_AT_ONCE = 4_000_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Molecule:
    """A sum of isotropic Gaussians, in px about the particle's origin.

    Attributes
    ----------
    centres_px, sigmas_px
        Centres and widths of the blobs.
    weights
        Integral of each blob.
    """

    centres_px: Float[Array, "B 3"]
    sigmas_px: Float[Array, "B"]
    weights: Float[Array, "B"]

    def __len__(self) -> int:
        return len(self.weights)

    def transform(self, frequencies_per_px: Float[Array, "... 3"]) -> Complex[Array, "..."]:
        """Return the Fourier transform ∫ρ(x) exp(−2πi k·x) dx at any frequencies (x, y, z), 1/px."""
        shape = frequencies_per_px.shape[:-1]
        k = frequencies_per_px.reshape(-1, 3)
        total = np.empty(len(k), dtype=np.complex128)
        step = max(1, _PHASES_AT_ONCE // len(self))
        for start in range(0, len(k), step):
            part = k[start : start + step]
            decay = -2 * np.pi**2 * np.sum(part**2, axis=1)[:, None] * self.sigmas_px**2
            total[start : start + step] = (
                np.exp(decay - 2j * np.pi * (part @ self.centres_px.T)) @ self.weights
            )
        return total.reshape(shape)

    def density_map(self, box_px: int) -> Float32[Array, "s s s"]:
        """Return the band-limited density on a grid, `[z, y, x]`, with the origin at voxel ⌊s/2⌋.

        The map's discrete transform is the molecule's own up to Nyquist.
        """
        signed, half = np.fft.fftfreq(box_px), np.fft.rfftfreq(box_px)
        along_z, along_y = (self._factors(axis, signed) for axis in (2, 1))
        along_x = self._factors(0, half) * self.weights[:, None]
        spectrum = np.empty((box_px, box_px, len(half)), dtype=np.complex128)
        for z in range(box_px):
            spectrum[z] = (along_y * along_z[:, z, None]).T @ along_x
        density = np.fft.fftshift(np.fft.irfftn(spectrum, s=(box_px,) * 3, axes=(0, 1, 2)))
        return np.asarray(density, dtype=np.float32)

    def _factors(self, axis: int, frequencies_per_px: Float[Array, "n"]) -> Complex[Array, "B n"]:
        """Return each blob's transform along one axis; a Gaussian is the product of three such factors."""
        decay = -2 * np.pi**2 * self.sigmas_px[:, None] ** 2 * frequencies_per_px**2
        return np.exp(decay - 2j * np.pi * self.centres_px[:, axis, None] * frequencies_per_px)


def synthesise_molecule(
    *, seed: int, diameter_px: float, blobs: int = 250, blob_sigma_px: float = 0.9
) -> Molecule:
    """Make a compact, asymmetric molecule, which depends on the seed.

    A few lobes of unequal size, each of which touches an earlier one, are filled with blobs. The blobs' width
    varies by ±40 %. The centre of mass is the origin, and the 2σ contours of all blobs are within the
    diameter, which must exceed 6 `blob_sigma_px`.
    """
    rng = np.random.default_rng([seed, 0x6D6F6C])
    lobes = int(rng.integers(4, 8))
    radii = np.sort(rng.uniform(0.45, 1.0, lobes))[::-1]
    centres = np.zeros((lobes, 3))
    for i in range(1, lobes):
        j = int(rng.integers(0, i))
        centres[i] = centres[j] + 0.85 * (radii[i] + radii[j]) * random_directions(1, rng)[0]
    share = radii**3 / np.sum(radii**3)
    lobe = rng.choice(lobes, size=blobs, p=share)
    within = random_directions(blobs, rng) * np.cbrt(rng.uniform(0, 1, (blobs, 1)))
    points = centres[lobe] + radii[lobe, None] * within
    weights = rng.uniform(0.5, 1.5, blobs)
    sigmas = blob_sigma_px * rng.uniform(0.6, 1.4, blobs)
    points -= weights @ points / weights.sum()
    points *= np.min((diameter_px / 2 - 2 * sigmas) / np.linalg.norm(points, axis=1))
    return Molecule(centres_px=points, sigmas_px=sigmas, weights=weights)
