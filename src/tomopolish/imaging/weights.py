"""Weights of frequencies: reference weight, whitening and filters; the frequencies in use.

See docs/dev/conventions.md, References and weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tomopolish.dataset.model import References
from tomopolish.errors import InputError
from tomopolish.imaging.reference import ReferenceTransform, shell_signal_to_noise
from tomopolish.physics.fourier import FSC_THRESHOLD, radius_half_plane, shell_interpolate
from tomopolish.settings.alignment import WeightSettings
from tomopolish.shapes import Array, Bool, Float, Int

SNR_THRESHOLD = 0.05


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceWeight:
    """Weight of each frequency of the half plane by the references' resolution.

    Attributes
    ----------
    half_plane
        (s, s//2 + 1).
    last_shell
        Last shell L of full weight, Fourier px of the box.
    last_frequency
        Frequency at which the weight reaches zero, Fourier px.
    signal_fraction
        (s, s//2 + 1): share of signal in the power of a half map, 0 to 1; times it, a half map is the most
        probable structure.
    """

    half_plane: Float[Array, "box columns"]
    signal_fraction: Float[Array, "box columns"]
    last_shell: float
    last_frequency: float

    @property
    def shell_fraction(self) -> Float[Array, "columns"]:
        """Share of signal in shells 0 … s/2."""
        return self.signal_fraction[0]


def reference_weight(
    references: References, box_px: int, settings: WeightSettings, full: ReferenceTransform | None = None
) -> ReferenceWeight:
    """Return the weight from the FSC, or, without an FSC, from the half maps' own signal-to-noise ratio.

    Parameters
    ----------
    references
        Half maps and their FSC, if there is one.
    box_px
        Edge of the boxes.
    full
        Transforms of both half maps with all frequencies; required where there is no FSC.

    Raises
    ------
    InputError
        When no frequency has a weight above zero.
    """
    shells = box_px // 2 + 1
    if references.fsc is not None and references.fsc_box is not None:
        scale = box_px / references.fsc_box
        last = np.floor(_last_shell_above(references.fsc, FSC_THRESHOLD) * scale)
        fsc = np.interp(np.arange(shells) / scale, np.arange(len(references.fsc)), references.fsc, right=0.0)
        quality, fraction = 2 * fsc / (1 + fsc), fsc
    else:
        assert full is not None
        quality = fraction = shell_signal_to_noise(full)
        last = _last_shell_above(quality, SNR_THRESHOLD)
    if last < 1:
        raise InputError(
            "the references agree at no frequency "
            + ("(--fsc: " if references.fsc is not None else "(without --fsc, by their half maps: ")
            + "the first shell is already below the threshold): give references and FSC that belong together"
        )
    if settings.freq_cutoff_angstrom is not None:
        coarsest = box_px * references.pixel_size_angstrom
        last = min(last, np.floor(coarsest / settings.freq_cutoff_angstrom))
        if last < 1:
            raise InputError(
                f"--freq_cutoff {settings.freq_cutoff_angstrom:g} leaves no frequency: the lowest of a "
                f"box of {box_px} px is {coarsest:g} Å; give a smaller value"
            )
    radius = radius_half_plane(box_px)
    width = settings.fsc_thresh_width
    ramp = np.clip((radius - last) / width, 0, 1) if width > 0 else (radius > last).astype(np.float64)
    weight = 0.5 + 0.5 * np.cos(np.pi * ramp)
    if settings.use_snr_weight:
        weight = weight * np.maximum(shell_interpolate(quality, box_px), 0)
    return ReferenceWeight(
        half_plane=weight,
        signal_fraction=np.clip(shell_interpolate(fraction, box_px), 0.0, 1.0),
        last_shell=float(last),
        last_frequency=float(last + width),
    )


def _last_shell_above(curve: Array, threshold: float) -> float:
    below = np.flatnonzero(curve < threshold)
    return float(below[0] - 1 if len(below) else len(curve) - 1)


def whitening(shells: Float[Array, "shells"], box_px: int) -> Float[Array, "box columns"]:
    """Return 1/power on the half plane, inverted per shell and interpolated linearly."""
    inverse = np.divide(1.0, shells, out=np.zeros_like(shells), where=shells > 0)
    return shell_interpolate(inverse, box_px)


def shared_filters(box_px: int, settings: WeightSettings) -> Float[Array, "box columns"]:
    """Return the optional factors: (r/s_h)^p and the high-pass 1 − exp(−r²/2σ²)."""
    radius = radius_half_plane(box_px)
    factor = np.ones_like(radius)
    if settings.srp != 0:
        factor *= (radius / (box_px // 2)) ** settings.srp
    if settings.hp_sigma is not None:
        factor *= 1 - np.exp(-(radius**2) / (2 * settings.hp_sigma**2))
    return factor


def frequency_weights(
    noise_power: Float[Array, "F shells"],
    reference: ReferenceWeight,
    box_px: int,
    settings: WeightSettings,
    usable: Bool[Array, "F"] | None = None,
) -> Float[Array, "G box columns"]:
    """Return the weight w(k) of every frequency: whitening × reference weight × filters.

    Parameters
    ----------
    noise_power
        Mean periodogram by shell of each tilt image.
    usable
        Tilt images whose noise is averaged; None: all.

    Returns
    -------
    One half plane per tilt image with `per_frame_noise`, otherwise a single half plane for all.
    """
    shared = reference.half_plane * shared_filters(box_px, settings)
    if not settings.whiten:
        return shared[None]
    white = np.stack([whitening(shells, box_px) for shells in noise_power])
    if not settings.per_frame_noise:
        counting = slice(None) if usable is None else usable
        with np.errstate(divide="ignore"):
            white = 1 / np.mean(1 / white[counting], axis=0, keepdims=True)
    return (np.sqrt(white) if settings.whiten_abs else white) * shared


def used_columns(
    weight: Float[Array, "box columns"],
    dose_weight: Float[Array, "box columns"],
    box_px: int,
    cutoff_fraction: float,
) -> Int[Array, "box"]:
    """Count the columns kx = 0 … n − 1 that are used in each row ky of one tilt image."""
    radius = radius_half_plane(box_px)
    use: Bool[Array, "box columns"] = (
        (radius <= box_px / 2) & (dose_weight > cutoff_fraction) & (weight > cutoff_fraction * weight.mean())
    )
    last = weight.shape[1] - np.argmax(use[:, ::-1], axis=1)
    return np.where(use.any(axis=1), last, 0)
