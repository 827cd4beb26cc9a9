"""Image noise with a radial power curve."""

from __future__ import annotations

import numpy as np
import scipy.fft

from tomopolish.settings.simulation import SimulationSettings
from tomopolish.shapes import Array, Float, Float32


def noise_power(
    settings: SimulationSettings, k_per_px: Float[Array, "..."], angle_degrees: float
) -> Float[Array, "..."]:
    """Return the noise power at spatial frequency k (unitary transform: the variance where it is white).

    A simulation without noise also has the power of its settings, by which the signal is scaled.
    """
    noise = settings.noise
    colour = 1 + noise.low_frequency_excess / (1 + (k_per_px * noise.corner_px) ** 2)
    growth = np.cos(np.deg2rad(angle_degrees)) ** -noise.tilt_growth
    power: Array = settings.noise_sigma**2 * growth * colour
    return power


def noise_image(
    settings: SimulationSettings, angle_degrees: float, rng: np.random.Generator
) -> Float32[Array, "h w"]:
    """Draw the noise of one tilt image."""
    w, h = settings.acquisition.image_size_px
    white = rng.standard_normal((h, w), dtype=np.float32)
    if settings.noise.low_frequency_excess == 0:
        return white * np.float32(np.sqrt(noise_power(settings, np.zeros(1), angle_degrees)[0]))
    k = np.hypot(scipy.fft.fftfreq(h)[:, None], scipy.fft.rfftfreq(w)[None, :])
    amplitude = np.sqrt(noise_power(settings, k, angle_degrees)).astype(np.float32)
    coloured: Array = scipy.fft.irfft2(scipy.fft.rfft2(white) * amplitude, s=(h, w), overwrite_x=True)
    return coloured
