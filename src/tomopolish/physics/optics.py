"""The microscope: wavelength, contrast transfer, aberrations, dose (docs/dev/conventions.md, Optics)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import factorial

import numpy as np

from tomopolish.shapes import Array, Float


@dataclass(frozen=True, kw_only=True)
class Microscope:
    """Constants of the microscope that recorded the tilt series."""

    voltage_kv: float
    spherical_aberration_mm: float
    amplitude_contrast: float

    @property
    def wavelength_angstrom(self) -> float:
        """Relativistic electron wavelength, Å."""
        volt = self.voltage_kv * 1e3
        return float(12.2643247 / np.sqrt(volt * (1 + 0.978466e-6 * volt)))

    @property
    def spherical_aberration_angstrom(self) -> float:
        """Cs in Å."""
        return self.spherical_aberration_mm * 1e7

    @property
    def amplitude_phase(self) -> float:
        """Phase of the amplitude contrast, atan(Q0/√(1 − Q0²)), radians."""
        q0 = self.amplitude_contrast
        return float(np.arctan2(q0, np.sqrt(1 - q0**2)))


@dataclass(frozen=True, kw_only=True, eq=False)
class TiltCtf:
    """Contrast transfer of each tilt image, at the tomogram's centre; all arrays are (F,), file order."""

    defocus_u_angstrom: Float[Array, "F"]
    defocus_v_angstrom: Float[Array, "F"]
    defocus_angle_degrees: Float[Array, "F"]
    phase_shift_degrees: Float[Array, "F"]
    bfactor_angstrom2: Float[Array, "F"]
    scale: Float[Array, "F"]

    def astigmatism_angstrom(self) -> Float[Array, "F 3"]:
        """Return each image's defocus as (xx, xy, yy): Δf(k) k² = xx kx² + 2 xy kx ky + yy ky²."""
        angle = np.deg2rad(self.defocus_angle_degrees)
        c, s = np.cos(angle), np.sin(angle)
        u, v = self.defocus_u_angstrom, self.defocus_v_angstrom
        return np.stack([u * c**2 + v * s**2, (u - v) * c * s, u * s**2 + v * c**2], axis=-1)


def dose_weight(
    k_per_angstrom: Float[Array, "..."], dose: float, bfactor_per_dose: float = 0.0
) -> Float[Array, "..."]:
    """Return the attenuation by radiation damage at spatial frequency k.

    The model is Grant & Grigorieff's critical exposure, or a B factor per e⁻/Å² where it is stated
    (docs/dev/conventions.md). At k = 0 the weight is 1, the limit where the critical exposure diverges.
    """
    k = np.asarray(k_per_angstrom, dtype=np.float64)
    if bfactor_per_dose > 0:
        return np.exp(-bfactor_per_dose * dose * k**2 / 4)
    with np.errstate(divide="ignore"):
        critical = 0.245 * np.power(k, -1.665) + 2.81
    return np.exp(-0.5 * dose / critical)


def zernike(m: int, n: int, rho: Float[Array, "..."], phi: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return the unnormalised Zernike polynomial Z(m, n) at radius ρ (1/Å) and angle φ; sine for m < 0."""
    radial = np.zeros_like(rho)
    order = abs(m)
    for k in range((n - order) // 2 + 1):
        numerator = (-1) ** k * factorial(n - k)
        denominator = factorial(k) * factorial((n + order) // 2 - k) * factorial((n - order) // 2 - k)
        radial = radial + numerator / denominator * rho ** (n - 2 * k)
    return radial * (np.cos(m * phi) if m >= 0 else np.sin(order * phi))


def even_zernike_index(i: int) -> tuple[int, int]:
    """Return (m, n) of the i-th even coefficient."""
    half_order = int(np.sqrt(i))
    return 2 * (i - half_order**2 - half_order), 2 * half_order


def odd_zernike_index(i: int) -> tuple[int, int]:
    """Return (m, n) of the i-th odd coefficient."""
    half_order = int((np.sqrt(1 + 4 * i) - 1) / 2)
    n = 2 * half_order + 1
    return 2 * (i - half_order**2 - half_order) - n, n


def aberration_phase(
    coefficients: tuple[float, ...], parity: str, kx: Float[Array, "..."], ky: Float[Array, "..."]
) -> Float[Array, "..."]:
    """Return Σ cᵢ Zᵢ(kx, ky) in radians, k in 1/Å.

    Parameters
    ----------
    coefficients
        Zernike coefficients in RELION's order.
    parity
        ``"even"`` (added to the CTF's phase) or ``"odd"`` (phase of the prediction itself).
    """
    phase: Array = aberration_phases([coefficients], parity, kx, ky)[0]
    return phase


def aberration_phases(
    coefficients: Sequence[tuple[float, ...]],
    parity: str,
    kx: Float[Array, "..."],
    ky: Float[Array, "..."],
) -> Float[Array, "G ..."]:
    """Return the phase of `aberration_phase` for each of several optics groups.

    Groups may differ in their number of coefficients; missing coefficients are zero.
    """
    index = {"even": even_zernike_index, "odd": odd_zernike_index}[parity]
    kx, ky = np.broadcast_arrays(kx, ky)
    rho, phi = np.hypot(kx, ky), np.arctan2(ky, kx)
    table = np.zeros((len(coefficients), max(map(len, coefficients), default=0)))
    for row, values in zip(table, coefficients, strict=True):
        row[: len(values)] = values
    total = np.zeros((len(table), *kx.shape))
    for i in np.flatnonzero(table.any(axis=0)):
        total += np.multiply.outer(table[:, i], zernike(*index(int(i)), rho, phi))
    return total


def ctf_phase(
    kx: Float[Array, "..."],
    ky: Float[Array, "..."],
    astigmatism_angstrom: Float[Array, "3"],
    microscope: Microscope,
    phase_shift_degrees: float = 0.0,
) -> Float[Array, "..."]:
    """Return γ(k) without aberrations, radians; kx, ky in 1/Å; the CTF is −sin γ · scale · damping.

    `astigmatism_angstrom` is the quadratic form of `TiltCtf.astigmatism_angstrom`, with the particle's depth
    added to xx and yy.
    """
    xx, xy, yy = astigmatism_angstrom
    wavelength = microscope.wavelength_angstrom
    quadratic = xx * kx**2 + 2 * xy * kx * ky + yy * ky**2
    quartic = (kx**2 + ky**2) ** 2
    return (
        -np.pi * wavelength * quadratic
        + 0.5 * np.pi * microscope.spherical_aberration_angstrom * wavelength**3 * quartic
        - np.deg2rad(phase_shift_degrees)
        - microscope.amplitude_phase
    )
