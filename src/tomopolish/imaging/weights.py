"""How much each frequency counts: reference weight, whitening, dose, and the frequencies in use.

See docs/conventions.md, References and weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tomopolish.dataset.model import References
from tomopolish.errors import InputError
from tomopolish.imaging.reference import ReferenceTransform, shell_signal_to_noise
from tomopolish.physics.fourier import radius_half_plane, shell_interpolate
from tomopolish.settings.alignment import WeightSettings
from tomopolish.shapes import Bool, Float, Int

Array = np.ndarray

FSC_THRESHOLD = 0.143
SNR_THRESHOLD = 0.05


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceWeight:
    """Weight that the references' resolution gives each frequency of the half plane.

    Attributes
    ----------
    half_plane
        (s, s//2 + 1).
    last_shell
        Last shell L of full weight, Fourier px of the box.
    last_frequency
        Where the weight reaches zero.
    """

    half_plane: Float[Array, "box columns"]
    last_shell: float
    last_frequency: float


def reference_weight(
    references: References, box: int, settings: WeightSettings, whole: ReferenceTransform | None = None
) -> ReferenceWeight:
    """Weight from the FSC, or from the half maps' own SNR where no FSC is given.

    See docs/conventions.md, References and weights.

    Parameters
    ----------
    references
        Holds the FSC, if there is one.
    box
        Edge of the boxes, px.
    whole
        Transforms of both half maps with all frequencies; needed where there is no FSC.

    Raises
    ------
    InputError
        When no frequency is left.
    """
    shells = box // 2 + 1
    if references.fsc is not None and references.fsc_box is not None:
        scale = box / references.fsc_box
        last = np.floor(_last_shell_above(references.fsc, FSC_THRESHOLD) * scale)
        fsc = np.interp(np.arange(shells) / scale, np.arange(len(references.fsc)), references.fsc, right=0.0)
        quality = 2 * fsc / (1 + fsc)
    else:
        assert whole is not None
        quality = shell_signal_to_noise(whole)
        last = _last_shell_above(quality, SNR_THRESHOLD)
    if last < 1:
        raise InputError(
            "the references agree at no frequency "
            + ("(--fsc: " if references.fsc is not None else "(without --fsc, their half maps tell: ")
            + "the first shell is below the threshold already): give references and FSC that belong together"
        )
    if settings.freq_cutoff_angstrom is not None:
        coarsest = box * references.pixel_size_angstrom
        last = min(last, np.floor(coarsest / settings.freq_cutoff_angstrom))
        if last < 1:
            raise InputError(
                f"--freq_cutoff {settings.freq_cutoff_angstrom:g} leaves no frequency: the coarsest of a "
                f"box of {box} px is {coarsest:g} Å; give less than that"
            )
    radius = radius_half_plane(box)
    width = settings.fsc_thresh_width
    ramp = np.clip((radius - last) / width, 0, 1) if width > 0 else (radius > last).astype(np.float64)
    weight = 0.5 + 0.5 * np.cos(np.pi * ramp)
    if settings.use_snr_weight:
        weight = weight * np.maximum(shell_interpolate(quality, box), 0)
    return ReferenceWeight(half_plane=weight, last_shell=float(last), last_frequency=float(last + width))


def _last_shell_above(curve: Array, threshold: float) -> float:
    below = np.flatnonzero(curve < threshold)
    return float(below[0] - 1 if len(below) else len(curve) - 1)


def whitening(shells: Float[Array, "shells"], box: int) -> Float[Array, "box columns"]:
    """Spread 1/power over the half plane: inverted per shell, then interpolated linearly."""
    inverse = np.divide(1.0, shells, out=np.zeros_like(shells), where=shells > 0)
    return shell_interpolate(inverse, box)


def shared_filters(box: int, settings: WeightSettings) -> Float[Array, "box columns"]:
    """Factors that the user asks for: (r/s_h)^p and the high-pass 1 − exp(−r²/2σ²).

    See docs/conventions.md, References and weights.
    """
    radius = radius_half_plane(box)
    factor = np.ones_like(radius)
    if settings.srp != 0:
        factor *= (radius / (box // 2)) ** settings.srp
    if settings.hp_sigma is not None:
        factor *= 1 - np.exp(-(radius**2) / (2 * settings.hp_sigma**2))
    return factor


def frequency_weights(
    noise_power: Float[Array, "F shells"],
    reference: ReferenceWeight,
    box: int,
    settings: WeightSettings,
    usable: Bool[Array, "F"] | None = None,
) -> Float[Array, "G box columns"]:
    """Weight w(k) of every frequency: whitening × reference weight × filters.

    See docs/conventions.md, References and weights.

    Parameters
    ----------
    noise_power
        Mean periodogram by shell of each tilt image.
    usable
        Tilt images whose noise counts; None: all.

    Returns
    -------
    One half plane per tilt image with `per_frame_noise`, otherwise a single one for all.
    """
    shared = reference.half_plane * shared_filters(box, settings)
    if not settings.whiten:
        return shared[None]
    white = np.stack([whitening(shells, box) for shells in noise_power])
    if not settings.per_frame_noise:
        counting = slice(None) if usable is None else usable
        with np.errstate(divide="ignore"):
            white = 1 / np.mean(1 / white[counting], axis=0, keepdims=True)
    return (np.sqrt(white) if settings.whiten_abs else white) * shared


def used_columns(
    weight: Float[Array, "box columns"],
    dose_weight: Float[Array, "box columns"],
    box: int,
    cutoff_fraction: float,
) -> Int[Array, "box"]:
    """Count the columns kx = 0 … n − 1 that are used in each row ky of one tilt image.

    See docs/conventions.md, References and weights.
    """
    radius = radius_half_plane(box)
    use: Bool[Array, "box columns"] = (
        (radius <= box / 2) & (dose_weight > cutoff_fraction) & (weight > cutoff_fraction * weight.mean())
    )
    last = weight.shape[1] - np.argmax(use[:, ::-1], axis=1)
    return np.where(use.any(axis=1), last, 0)
