"""The frequencies in use in one tilt image, with all weights and phases that its particles share.

See docs/dev/conventions.md, Optics, Correlation windows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tomopolish.dataset.model import OpticsGroup, TiltSeries
from tomopolish.errors import UnusableImageError
from tomopolish.imaging.weights import used_columns
from tomopolish.physics.fourier import column_multiplicity, radius_half_plane, row_frequencies
from tomopolish.physics.optics import aberration_phases, ctf_phase, dose_weight
from tomopolish.shapes import Array, Complex64, Float, Float32, Int

LARGEST_WEIGHT = 1e25
"""Weight whose products with images and references single precision still holds."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TiltFrequencies:
    """Frequencies, weights and optics of one tilt image, in Fourier px of the box.

    The first axis is rows ky and rows −ky, the second |ky| = 0 … R − 1, the last kx = 0 … C − 1; R and C are
    the smallest sizes that include all frequencies in use.

    Attributes
    ----------
    columns_used
        Number of columns in use in each row.
    weight
        Product of all real factors: frequency weight, dose weight, CTF scale and damping, normalisation.
    signal_weight
        Product of all real factors of the prediction's weighted power, with the full plane's multiplicity.
    defocus
        Phase per kx², kx·ky and ky² at the tomogram's centre.
    defocus_per_angstrom
        Phase per k² and Å of defocus.
    phase
        γ without defocus, of each optics group.
    odd
        Complex factor of each optics group's prediction; without columns where all factors are 1.
    """

    columns_used: Int[Array, "2 R"]
    weight: Float32[Array, "2 R C"]
    signal_weight: Float32[Array, "2 R C"]
    defocus: Float[Array, "3"]
    defocus_per_angstrom: float
    phase: Float32[Array, "G 2 R C"]
    odd: Complex64[Array, "G 2 R A"]


def tilt_frequencies(
    series: TiltSeries,
    tilt: int,
    weight: Float[Array, "box columns"],
    groups: tuple[OpticsGroup, ...],
    cutoff_fraction: float,
) -> TiltFrequencies:
    """Return the frequencies in use in one tilt image.

    Parameters
    ----------
    weight
        Frequency weight w(k), half plane.
    groups
        Optics groups of the particles.

    Raises
    ------
    UnusableImageError
        When the weights exceed single precision.
    """
    box_px = weight.shape[0]
    unit = 1 / (box_px * series.pixel_size_angstrom)
    k = radius_half_plane(box_px) * unit
    dose = dose_weight(k, float(series.pre_exposure[tilt]), float(series.bfactor_per_dose[tilt]))
    used = used_columns(weight, dose, box_px, cutoff_fraction)
    ctf, microscope = series.ctf, series.microscope
    with np.errstate(over="ignore"):
        damping = float(ctf.scale[tilt]) * np.exp(-ctf.bfactor_angstrom2[tilt] * k**2 / 4)
    rows = int(np.abs(row_frequencies(box_px)[used > 0]).max(initial=0)) + 1
    columns = max(int(used.max()), 1)
    ky = np.stack([np.arange(rows), -np.arange(rows)])
    columns_used = used[ky % box_px]
    columns_used[1, box_px // 2 :] = 0  # ky = s/2 and −s/2 are one row of the full plane
    # 1/s makes the image's transform unitary. The signs of −Re…, of the dark contrast and of the CTF's −sin γ
    # together give +sin γ.
    with np.errstate(over="ignore", invalid="ignore"):
        envelope = dose * damping
        signal = column_multiplicity(box_px) * weight * envelope**2
    total, signal = ((plane[ky % box_px, :columns]) for plane in (weight * envelope / box_px, signal))
    for plane in (total, signal):
        plane[np.arange(columns) >= columns_used[..., None]] = 0
        plane[:, 0, 0] = 0  # DC is never used
        if not np.abs(plane).max() < LARGEST_WEIGHT:
            raise UnusableImageError(
                "its B factor, CTF scale or exposure gives weights beyond single precision; correct its row"
            )
    wavelength = microscope.wavelength_angstrom
    per_angstrom = -np.pi * wavelength * unit**2
    xx, xy, yy = ctf.astigmatism_angstrom()[tilt]
    frequency = (np.arange(columns) * unit, ky[..., None] * unit)
    in_focus = ctf_phase(*frequency, np.zeros(3), microscope, float(ctf.phase_shift_degrees[tilt]))
    return TiltFrequencies(
        columns_used=columns_used,
        weight=total.astype(np.float32),
        signal_weight=signal.astype(np.float32),
        defocus=per_angstrom * np.array([xx, 2 * xy, yy]),
        defocus_per_angstrom=per_angstrom,
        phase=_phases(groups, in_focus, *frequency),
        odd=np.exp(1j * _aberrations(groups, "odd", *frequency)).astype(np.complex64),
    )


def _phases(groups: tuple[OpticsGroup, ...], in_focus: Array, kx: Array, ky: Array) -> Array:
    """Return γ of each group without defocus, from the part that all groups share."""
    even = _aberrations(groups, "even", kx, ky)
    phases = np.empty((len(groups), *in_focus.shape), dtype=np.float32)
    phases[...] = in_focus + even if even.size else in_focus
    return phases


def _aberrations(groups: tuple[OpticsGroup, ...], parity: str, kx: Array, ky: Array) -> Array:
    coefficients = [g.even_zernike if parity == "even" else g.odd_zernike for g in groups]
    if not any(any(c) for c in coefficients):
        return np.zeros((len(groups), *ky.shape[:2], 0))
    return aberration_phases(coefficients, parity, kx, ky)
