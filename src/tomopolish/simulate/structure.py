"""The simulated structure: its map on the images' intensity scale, its references, its slices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from tomopolish.dataset.model import References
from tomopolish.dataset.mrc import read_header
from tomopolish.errors import InputError
from tomopolish.physics.optics import aberration_phase, ctf_phase, dose_weight
from tomopolish.settings.simulated_structure import MoleculeSettings
from tomopolish.settings.simulation import NoiseSettings, SimulationSettings
from tomopolish.shapes import Array, Float, Float32
from tomopolish.simulate.acquisition import (
    inelastic_amplitude,
    microscope,
    pre_exposures,
    tilt_angles_degrees,
    tilt_ctf,
)
from tomopolish.simulate.molecule import synthesise_molecule
from tomopolish.simulate.noise import noise_power
from tomopolish.simulate.references import make_references, molecule_mask, shell_power
from tomopolish.simulate.scene import random_stream
from tomopolish.simulate.slices import SliceVolume, slice_volume


@dataclass(frozen=True, kw_only=True, eq=False)
class Structure:
    """The simulated structure.

    Attributes
    ----------
    density
        True map, on the images' intensity scale: a projection is its sum along the beam times s^−½.
    diameter_px
        Diameter of the sphere about the origin that contains the molecule.
    """

    density: Float32[Array, "s s s"]
    diameter_px: float
    references: References
    volume: SliceVolume

    @property
    def box_px(self) -> int:
        """Edge of the map."""
        return int(self.density.shape[0])


@lru_cache(maxsize=4)
def build_structure(settings: SimulationSettings) -> Structure:
    """Make the structure of a simulation; raises InputError when its map cannot be used.

    The structure does not depend on the number of tomograms; the latest ones are cached for further
    tomograms.
    """
    molecule, pixel = settings.molecule, settings.acquisition.pixel_size_angstrom
    raw = _read_map(molecule.map_path, pixel) if molecule.map_path else _synthetic_map(molecule)
    mask = molecule_mask(raw, molecule.mask)
    if molecule.map_path:
        raw = raw * mask
    noise = NoiseSettings() if settings.noise.is_silent else settings.noise  # the default without noise
    density = raw * np.float32(np.sqrt(noise.pair_snr / pair_snr(raw, settings)))
    size = density.shape[0]
    return Structure(
        density=density,
        diameter_px=_diameter_px(mask),
        references=make_references(density, mask, molecule, pixel, random_stream(settings.seed, "reference")),
        volume=slice_volume(density, size**-0.5),
    )


def pair_snr(density: Float32[Array, "s s s"], settings: SimulationSettings) -> float:
    """Return the expected Σ|S|²/N of a pair (see `NoiseSettings`), mean over tilts, for a map.

    The map has the images' intensity scale. Its power is averaged over directions; the CTF is that at the
    tomogram's centre.
    """
    size, pixel = density.shape[0], settings.acquisition.pixel_size_angstrom
    signed = np.fft.fftfreq(size)
    kx, ky = np.meshgrid(signed, signed)
    k = np.hypot(kx, ky)
    used = (k > 0) & (k <= 1 / settings.molecule.resolution_px)
    kx, ky, k = kx[used], ky[used], k[used]
    power = np.interp(k * size, np.arange(size // 2 + 1), shell_power(density))
    transfer = _mean_transfer_over_noise(settings, kx / pixel, ky / pixel, k)
    return float(np.sum(power * transfer))


def _mean_transfer_over_noise(
    settings: SimulationSettings,
    kx: Float[Array, "n"],
    ky: Float[Array, "n"],
    k_per_px: Float[Array, "n"],
) -> Float[Array, "n"]:
    """Return (CTF · dose weight)²/noise power, mean over tilts; kx, ky in 1/Å."""
    acquisition = settings.acquisition
    angles, doses = tilt_angles_degrees(acquisition), pre_exposures(acquisition)
    ctf = tilt_ctf(acquisition, angles, np.zeros(len(angles)))
    scale = ctf.scale * inelastic_amplitude(acquisition, angles)
    even = aberration_phase(acquisition.even_zernike, "even", kx, ky)
    k2 = kx**2 + ky**2
    total = np.zeros_like(kx)
    for tilt, angle in enumerate(angles):
        phase = even + ctf_phase(
            kx,
            ky,
            ctf.astigmatism_angstrom()[tilt],
            microscope(acquisition),
            acquisition.phase_shift_degrees,
        )
        envelope = scale[tilt] * np.exp(-acquisition.bfactor_angstrom2 * k2 / 4)
        envelope = envelope * dose_weight(np.sqrt(k2), doses[tilt], acquisition.bfactor_per_dose)
        total += (np.sin(phase) * envelope) ** 2 / noise_power(settings, k_per_px, float(angle))
    return total / len(angles)


def _synthetic_map(settings: MoleculeSettings) -> Float32[Array, "s s s"]:
    molecule = synthesise_molecule(
        seed=settings.seed,
        diameter_px=settings.diameter_fraction * settings.box_px,
        blobs=settings.blobs,
        blob_sigma_px=settings.blob_sigma_px,
    )
    return molecule.density_map(settings.box_px)


def _read_map(path: Path, pixel_size_angstrom: float) -> Float32[Array, "s s s"]:
    header = read_header(path)
    size = header.shape[0]
    if header.shape != (size, size, size) or size % 2 or size < 16:
        shown = " x ".join(str(n) for n in reversed(header.shape))
        raise InputError(f"{path}: a map of {shown} px cannot be simulated; give an even cube, 16 px or more")
    stated = header.pixel_size_angstrom
    if stated and abs(stated - pixel_size_angstrom) > 0.01 * pixel_size_angstrom:
        raise InputError(
            f"{path}: the map has {stated:g} Å per pixel, the simulation {pixel_size_angstrom:g}; "
            "give the map's pixel size, or resample the map"
        )
    density = header.read_volume()
    if not np.isfinite(density).all() or density.max() == density.min():
        raise InputError(f"{path}: the map is constant or has values that are not numbers; give another")
    return density - np.float32(np.median(density))


def _diameter_px(mask: Float32[Array, "s s s"]) -> float:
    """Return the diameter of the sphere about the origin that contains mask values above one half."""
    where = np.argwhere(mask > 0.5) - mask.shape[0] // 2
    return float(2 * np.sqrt(np.max(np.sum(where**2, axis=1))))
