"""The frequencies in use in one tilt image, with everything about them that particles share (spec §3–§5)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex64, Float, Float32, Int

from tomopolish.correlation.weights import used_columns
from tomopolish.dataset.model import OpticsGroup, TiltSeries
from tomopolish.fourier import radius_half_plane, row_frequencies
from tomopolish.optics import aberration_phase, dose_weight

Array = np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class TiltFrequencies:
    """Frequencies, weights and optics of one tilt image, in Fourier px of the box.

    Rows run over the signed ky in use, columns over kx = 0 … C − 1.

    Attributes
    ----------
    row_index, row_ky, row_columns
        Row in the transform's layout, signed ky, and number of columns in use.
    weight
        All real factors: frequency weight, dose weight, CTF scale and damping, transform normalisation.
    defocus
        Phase per kx², kx·ky and ky² at the tomogram's centre.
    defocus_per_angstrom
        Phase per k² and Å of defocus.
    even, odd
        Per optics group: phase added to γ, and complex factor of the prediction; no rows where all are none.
    """

    row_index: Int[Array, "R"]
    row_ky: Int[Array, "R"]
    row_columns: Int[Array, "R"]
    weight: Float32[Array, "R C"]
    defocus: Float[Array, "3"]
    defocus_per_angstrom: float
    quartic: float
    constant_phase: float
    even: Float32[Array, "G A B"]
    odd: Complex64[Array, "G A B"]


def tilt_frequencies(
    series: TiltSeries,
    tilt: int,
    weight: Float[Array, "box columns"],
    groups: tuple[OpticsGroup, ...],
    cutoff_fraction: float,
    rows: Int[Array, "R"],
    columns: int,
) -> TiltFrequencies:
    """Gather what all particles of a tilt image share.

    Parameters
    ----------
    weight
        Frequency weight w(k), half plane.
    groups
        Optics groups of the particles.
    rows
        Signed ky of the rows to keep: a superset of those in use, the same for all tilt images.
    columns
        Columns to keep, likewise.
    """
    box = weight.shape[0]
    unit = 1 / (box * series.pixel_size_angstrom)
    k = radius_half_plane(box) * unit
    dose = dose_weight(k, float(series.pre_exposure[tilt]), float(series.bfactor_per_dose[tilt]))
    used = used_columns(weight, dose, box, cutoff_fraction)
    ctf, microscope = series.ctf, series.microscope
    damping = float(ctf.scale[tilt]) * np.exp(-ctf.bfactor_angstrom2[tilt] * k**2 / 4)
    # The image's transform is unitary: 1/s. Two minus signs, of the CTF and of the contrast, cancel one of
    # the three with cc = −Re…: the prediction is −slice·(−sin γ), so cc = −Re O·conj(−…) keeps sin γ with +.
    total = (weight * dose * damping / box).astype(np.float32)
    index = rows % box
    wavelength = microscope.wavelength_angstrom
    per_angstrom = -np.pi * wavelength * unit**2
    xx, xy, yy = ctf.astigmatism_angstrom()[tilt]
    mask = np.zeros((len(rows), columns), dtype=bool)
    for i, row in enumerate(index):
        mask[i, : used[row]] = True
    total = np.where(mask, total[index, :columns], 0)
    # DC holds the box's mean, which the extraction has already altered; it is never used.
    total[rows == 0, 0] = 0
    kx = np.arange(columns)[None, :] * unit
    ky = rows[:, None] * unit
    return TiltFrequencies(
        row_index=index,
        row_ky=rows,
        row_columns=np.minimum(used[index], columns),
        weight=total.astype(np.float32),
        defocus=per_angstrom * np.array([xx, 2 * xy, yy]),
        defocus_per_angstrom=per_angstrom,
        quartic=0.5 * np.pi * microscope.spherical_aberration_angstrom * wavelength**3 * unit**4,
        constant_phase=-np.deg2rad(float(ctf.phase_shift_degrees[tilt])) - microscope.amplitude_phase,
        even=_aberrations(groups, "even", kx, ky).astype(np.float32),
        odd=np.exp(1j * _aberrations(groups, "odd", kx, ky)).astype(np.complex64),
    )


def _aberrations(groups: tuple[OpticsGroup, ...], parity: str, kx: Array, ky: Array) -> Array:
    coefficients = [g.even_zernike if parity == "even" else g.odd_zernike for g in groups]
    if not any(any(c) for c in coefficients):
        return np.zeros((len(groups), 0, 0))
    return np.stack([aberration_phase(c, parity, kx, ky) for c in coefficients])


def common_rows(weight: Float[Array, "G box columns"]) -> tuple[Int[Array, "R"], int]:
    """Rows (signed ky, ascending) and columns in which any tilt image may use frequencies."""
    box = weight.shape[1]
    inside = (weight > 0).any(axis=0) & (radius_half_plane(box) <= box / 2)
    ky = row_frequencies(box)
    rows = np.sort(ky[inside.any(axis=1)])
    return rows, int(np.flatnonzero(inside.any(axis=0))[-1]) + 1
