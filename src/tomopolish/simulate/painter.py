"""Noise-free tilt images: every particle's projection at its exact position, with the microscope's optics.

A particle's contrast transfer differs from that of its tilt image only by the defocus δ of its depth:
sin(γ + δφ) = sin γ cos δφ + cos γ sin δφ. The factors of δφ spread a particle by a few pixels; they are
applied particle by particle, in a box slightly larger than the molecule. The factors of γ, which spread it
widely, are applied to the sum of all particles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.fft

from tomopolish.dataset.model import OpticsGroup, Particles, TiltSeries
from tomopolish.physics import optics
from tomopolish.physics.geometry import depth_px
from tomopolish.shapes import Array, Complex64, Float, Float32, Int
from tomopolish.simulate.kernels import add_parts, particle_plane
from tomopolish.simulate.slices import SliceVolume, next_even_fast_size

FAINTEST = 1e-3
"""Attenuation, relative to that of low frequencies, beyond which particles are not painted."""

_ROWS_AT_ONCE = 128  # rows of a transform in one block, so that the arrays of the optics stay small


def spread_px(defocus_angstrom: float, series: TiltSeries) -> int:
    """Return the distance, px, by which a defocus Δf moves the highest frequency: λ Δf k, k at Nyquist."""
    wavelength, pixel = series.microscope.wavelength_angstrom, series.pixel_size_angstrom
    return int(np.ceil(wavelength * abs(defocus_angstrom) / (2 * pixel**2)))


@dataclass(frozen=True, kw_only=True, eq=False)
class TiltPainter:
    """Painter of the tilt images of one series, in any order; safe to call from several threads.

    Attributes
    ----------
    series, particles
        The true geometry: projections, positions, orientations.
    positions_2d_px
        2D position of each particle in each tilt image, trajectories and warp included.
    """

    volume: SliceVolume
    series: TiltSeries
    particles: Particles
    positions_2d_px: Float[Array, "F P 2"]

    def paint(self, tilt: int) -> Float32[Array, "h w"]:
        """Return a noise-free tilt image: minus the sum of all particles' predictions."""
        series, (w, h) = self.series, self.series.image_size_px
        spread = spread_px(
            max(abs(series.ctf.defocus_u_angstrom[tilt]), abs(series.ctf.defocus_v_angstrom[tilt])), series
        )
        defocus = self.extra_defocus_angstrom(tilt)
        deepest = spread_px(float(np.max(np.abs(defocus), initial=0.0)), series)
        box_px = next_even_fast_size(self.volume.support_px + 2 * deepest + 2)
        margin = box_px + spread  # every particle that reaches into the image lies completely on the canvas
        shape = next_even_fast_size(h + 2 * margin), next_even_fast_size(w + 2 * margin)
        centres = self.positions_2d_px[tilt] + margin
        reach = spread + box_px // 2
        reaching = np.all(
            np.abs(self.positions_2d_px[tilt] - [w / 2, h / 2]) < [w / 2 + reach, h / 2 + reach], axis=1
        )
        spectrum = np.zeros((shape[0], shape[1] // 2 + 1), dtype=np.complex64)
        for number in np.unique(self.particles.optics_group):
            members = np.flatnonzero(reaching & (self.particles.optics_group == number))
            cosine, sine = self._sums(
                tilt, members, centres, defocus, np.empty((box_px, box_px), np.complex64), shape
            )
            group = self.particles.optics_groups[number]
            for rows, in_phase, out_of_phase in self._transfer(tilt, group, shape):
                spectrum[rows] += in_phase * cosine[rows] + out_of_phase * sine[rows]
        canvas: Array = scipy.fft.irfft2(spectrum, s=shape, overwrite_x=True)
        return np.ascontiguousarray(canvas[margin : margin + h, margin : margin + w])

    def extra_defocus_angstrom(self, tilt: int) -> Float[Array, "P"]:
        """Return the defocus of each particle beyond the tilt image's own, from its depth.

        See docs/dev/conventions.md, Optics.
        """
        series = self.series
        depth = depth_px(
            series.projections_px[tilt : tilt + 1], self.particles.positions_px, series.tomogram_size_px
        )[0]
        return series.hand * series.pixel_size_angstrom * series.defocus_slope * depth

    def _sums(
        self,
        tilt: int,
        members: Int[Array, "M"],
        centres_px: Float[Array, "P 2"],
        defocus_angstrom: Float[Array, "P"],
        plane: Complex64[Array, "B B"],
        shape: tuple[int, int],
    ) -> tuple[Complex64[Array, "H V"], Complex64[Array, "H V"]]:
        """Transform the sums of some particles' projections times cos δφ, and times sin δφ.

        Parameters
        ----------
        members
            Indices of the particles to add.
        centres_px, defocus_angstrom
            Position on the canvas, and δ, of all particles.
        plane
            Overwritten; its size is the box in which each particle is painted.
        """
        sums = np.zeros((2, *shape), dtype=np.float32)
        box_px, grid = len(plane), self.volume.grid.view(np.float32)
        # φ = ∂γ/∂Δf at one Fourier px, radians per Å; it grows with the square of the frequency.
        wavelength = self.series.microscope.wavelength_angstrom
        phase = -np.pi * wavelength * (1 / box_px / self.series.pixel_size_angstrom) ** 2
        limit = box_px * self._last_frequency_per_px(tilt)
        for particle in members:
            corner = np.floor(centres_px[particle] + 0.5).astype(int) - box_px // 2
            view = self.series.projections_px[tilt, :3, :3] @ self.particles.rotations[particle]
            particle_plane(
                grid,
                self.volume.zero,
                self.volume.zero_x,
                np.ascontiguousarray(view[:2]) * (self.volume.padded_px / box_px),
                centres_px[particle] - corner,
                float(defocus_angstrom[particle]) * phase,
                limit,
                8,
                plane,
            )
            add_parts(scipy.fft.ifft2(plane, overwrite_x=True), int(corner[0]), int(corner[1]), sums)
        cosine, sine = (scipy.fft.rfft2(part, overwrite_x=True) for part in sums)
        return cosine, sine

    def _last_frequency_per_px(self, tilt: int) -> float:
        """Return the frequency beyond which damping and dose leave less than `FAINTEST`, at most Nyquist."""
        k_per_px = np.linspace(0, 0.5, 201)
        envelope = self._envelope(tilt, k_per_px / self.series.pixel_size_angstrom)
        visible = np.flatnonzero(envelope >= FAINTEST * envelope.max())
        return float(k_per_px[min(visible[-1] + 1, len(k_per_px) - 1)])

    def _envelope(self, tilt: int, k: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return scale, B factor and dose weight at frequencies in 1/Å."""
        series, ctf = self.series, self.series.ctf
        envelope: Array = (
            float(ctf.scale[tilt])
            * np.exp(-float(ctf.bfactor_angstrom2[tilt]) * k**2 / 4)
            * optics.dose_weight(k, float(series.pre_exposure[tilt]), float(series.bfactor_per_dose[tilt]))
        )
        return envelope

    def _transfer(
        self, tilt: int, group: OpticsGroup, shape: tuple[int, int]
    ) -> Iterator[tuple[slice, Complex64[Array, "r V"], Complex64[Array, "r V"]]]:
        """Yield rows of a canvas' transform, and the factors of the sums of cos δφ and sin δφ there.

        The factors are the product of all that particles of one group share: sine or cosine of γ, scale,
        B factor, dose and odd aberrations. They are zero beyond the Nyquist frequency.
        """
        series, ctf = self.series, self.series.ctf
        height, width = shape
        pixel = series.pixel_size_angstrom
        kx = (np.arange(width // 2 + 1) / (width * pixel))[None, :]
        for start in range(0, height, _ROWS_AT_ONCE):
            rows = slice(start, min(start + _ROWS_AT_ONCE, height))
            ky = (scipy.fft.fftfreq(height, pixel)[rows])[:, None]
            k = np.hypot(kx, ky)
            phase = optics.ctf_phase(
                kx,
                ky,
                ctf.astigmatism_angstrom()[tilt],
                series.microscope,
                float(ctf.phase_shift_degrees[tilt]),
            )
            if group.even_zernike:
                phase = phase + optics.aberration_phase(group.even_zernike, "even", kx, ky)
            shared = self._envelope(tilt, k) * (k < 0.5 / pixel)
            if group.odd_zernike:
                shared = shared * np.exp(1j * optics.aberration_phase(group.odd_zernike, "odd", kx, ky))
            yield (
                rows,
                (shared * np.sin(phase)).astype(np.complex64),
                (shared * np.cos(phase)).astype(np.complex64),
            )
