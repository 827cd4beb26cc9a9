"""Noise-free tilt images: every particle's projection, at its exact place, with the optics of spec §3."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft

from tomopolish.dataset.model import OpticsGroup, Particles, TiltSeries
from tomopolish.physics import optics
from tomopolish.physics.geometry import depth_px
from tomopolish.shapes import Complex64, Float, Float32, Int
from tomopolish.simulate.kernels import particle_spectrum
from tomopolish.simulate.slices import SliceVolume, next_even_fast_size

Array = np.ndarray

_NEGLIGIBLE = 1e-5  # envelope below which frequencies are left out
_EDGE_FRACTION = 1 / 16  # of the painted box that fades out, so that wrapped tails leave no step


@dataclass(frozen=True, kw_only=True, eq=False)
class Transfer:
    """What one tilt image does to the frequencies of one optics group's particles; half planes of a box.

    Attributes
    ----------
    phase, phase_per_defocus
        γ at the centre's depth, and its change per Å of additional defocus.
    envelope
        Real factors: CTF scale, B factor, dose.
    odd
        exp(i · odd aberration).
    last_column
        Number of columns of each row that carry signal.
    """

    phase: Float[Array, "B h"]
    phase_per_defocus: Float[Array, "B h"]
    envelope: Float32[Array, "B h"]
    odd: Complex64[Array, "B h"]
    last_column: Int[Array, "B"]


def tilt_transfer(series: TiltSeries, tilt: int, group: OpticsGroup, box_px: int) -> Transfer:
    """Transfer of one tilt image for one optics group, on the half plane of a box (spec §3)."""
    k_step = 1 / (box_px * series.pixel_size_angstrom)
    ky = (scipy.fft.fftfreq(box_px, 1 / box_px) * k_step)[:, None]
    kx = (np.arange(box_px // 2 + 1) * k_step)[None, :]
    k = np.hypot(kx, ky)
    phase = optics.ctf_phase(
        kx,
        ky,
        series.ctf.astigmatism_angstrom()[tilt],
        series.microscope,
        float(series.ctf.phase_shift_degrees[tilt]),
    ) + optics.aberration_phase(group.even_zernike, "even", kx, ky)
    odd = np.exp(1j * optics.aberration_phase(group.odd_zernike, "odd", kx, ky))
    envelope = (
        float(series.ctf.scale[tilt])
        * np.exp(-float(series.ctf.bfactor_angstrom2[tilt]) * k**2 / 4)
        * optics.dose_weight(k, float(series.pre_exposure[tilt]), float(series.bfactor_per_dose[tilt]))
    )
    inside = k < box_px / 2 * k_step
    carries = inside & (np.abs(envelope) > _NEGLIGIBLE * np.abs(envelope).max())
    return Transfer(
        phase=np.broadcast_to(phase, k.shape).copy(),
        phase_per_defocus=-np.pi * series.microscope.wavelength_angstrom * k**2,
        envelope=np.where(inside, envelope, 0).astype(np.float32),
        odd=np.broadcast_to(odd, k.shape).astype(np.complex64),
        last_column=np.max(np.where(carries, np.arange(1, k.shape[1] + 1), 0), axis=1),
    )


def painting_box_px(map_px: int, series: TiltSeries) -> int:
    """Return a box in which a particle's image fits together with what the CTF spreads around it.

    The CTF moves frequency k by λ Δf k; at Nyquist, but no farther than one map size, as a wrapped tail then
    stays clear of the particle.
    """
    defocus = np.max(
        np.abs(np.concatenate([series.ctf.defocus_u_angstrom, series.ctf.defocus_v_angstrom])), initial=0.0
    )
    wavelength, pixel = series.microscope.wavelength_angstrom, series.pixel_size_angstrom
    spread_px = int(np.ceil(wavelength * defocus / (2 * pixel**2)))
    return next_even_fast_size(map_px + 2 * min(spread_px, map_px) + 2)


@dataclass(frozen=True, kw_only=True, eq=False)
class TiltPainter:
    """Paints the tilt images of one series, any of them at any time; safe to call from several threads.

    Attributes
    ----------
    series, particles
        The true geometry: projections, positions, orientations.
    positions_2d_px
        Where each particle appears in each tilt image, trajectories and warp included.
    box_px
        Edge of the square in which a particle is painted.
    """

    volume: SliceVolume
    series: TiltSeries
    particles: Particles
    positions_2d_px: Float[Array, "F P 2"]
    box_px: int

    def paint(self, tilt: int) -> Float32[Array, "h w"]:
        """Return a noise-free tilt image: minus the sum of all particles' predictions."""
        w, h = self.series.image_size_px
        image = np.zeros((h, w), dtype=np.float32)
        transfers = [tilt_transfer(self.series, tilt, g, self.box_px) for g in self.particles.optics_groups]
        defocus = self.extra_defocus_angstrom(tilt)
        edge = _soft_edge(self.box_px)
        for particle in range(len(self.particles)):
            centre = self.positions_2d_px[tilt, particle]
            corner = np.floor(centre + 0.5).astype(int) - self.box_px // 2
            if np.any(corner >= (w, h)) or np.any(corner + self.box_px <= 0):
                continue
            transfer = transfers[self.particles.optics_group[particle]]
            box = self._paint_particle(tilt, particle, transfer, float(defocus[particle]))
            _subtract(image, box * edge, corner)
        return image

    def extra_defocus_angstrom(self, tilt: int) -> Float[Array, "P"]:
        """Defocus of each particle beyond the tilt image's own, from its depth (spec §3)."""
        series = self.series
        depth = depth_px(
            series.projections_px[tilt : tilt + 1], self.particles.positions_px, series.tomogram_size_px
        )[0]
        return series.hand * series.pixel_size_angstrom * series.defocus_slope * depth

    def particle_spectrum(
        self, tilt: int, particle: int, transfer: Transfer, extra_defocus_angstrom: float
    ) -> Complex64[Array, "B h"]:
        """Transform Σ I exp(−2πi k·x) of a particle's prediction, at its place in the box around it."""
        box = self.box_px
        view = self.series.projections_px[tilt, :3, :3] @ self.particles.rotations[particle]
        centre = self.positions_2d_px[tilt, particle]
        in_box = centre - np.floor(centre + 0.5) + box // 2
        ramp_x = np.exp(-2j * np.pi * np.arange(box // 2 + 1) * in_box[0] / box)
        ramp_y = np.exp(-2j * np.pi * scipy.fft.fftfreq(box, 1 / box) * in_box[1] / box)
        spectrum = np.empty((box, box // 2 + 1), dtype=np.complex64)
        particle_spectrum(
            self.volume.grid,
            self.volume.zero,
            self.volume.zero_x,
            np.ascontiguousarray(view[:2]) * (self.volume.padded_px / box),
            transfer.phase,
            transfer.phase_per_defocus,
            extra_defocus_angstrom,
            transfer.envelope,
            transfer.odd,
            ramp_x.astype(np.complex64),
            ramp_y.astype(np.complex64),
            transfer.last_column,
            spectrum,
        )
        return spectrum

    def _paint_particle(
        self, tilt: int, particle: int, transfer: Transfer, extra_defocus_angstrom: float
    ) -> Float32[Array, "B B"]:
        spectrum = self.particle_spectrum(tilt, particle, transfer, extra_defocus_angstrom)
        painted: Array = scipy.fft.irfft2(spectrum, s=(self.box_px, self.box_px), overwrite_x=True)
        return painted


def _soft_edge(box_px: int) -> Float32[Array, "B B"]:
    """1 inside, a raised cosine to 0 along the border."""
    width = max(2, round(box_px * _EDGE_FRACTION))
    border = np.minimum(np.arange(box_px), np.arange(box_px)[::-1]) + 0.5
    profile = 0.5 - 0.5 * np.cos(np.pi * np.clip(border / width, 0, 1))
    return np.outer(profile, profile).astype(np.float32)


def _subtract(image: Float32[Array, "h w"], box: Float32[Array, "B B"], corner: Int[Array, "2"]) -> None:
    """Subtract a box from the part of the image that it overlaps."""
    h, w = image.shape
    size = len(box)
    x0, y0 = int(corner[0]), int(corner[1])
    left, right = max(x0, 0), min(x0 + size, w)
    top, bottom = max(y0, 0), min(y0 + size, h)
    image[top:bottom, left:right] -= box[top - y0 : bottom - y0, left - x0 : right - x0]
