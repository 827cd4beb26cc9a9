"""The correlation length of windows, which sets the steps of a search."""

from __future__ import annotations

import numpy as np

from tomopolish.imaging.windows import CorrelationWindows

SAMPLED = 500
"""Number of evenly spread windows that determine it."""


def correlation_length_px(windows: CorrelationWindows) -> float:
    """Return the correlation length of the windows: σ of the Gaussian that fits their autocorrelation.

    Signal and noise pass through the same weights and so have the same correlation length, which follows from
    the windows' mean squared value and slope.
    """
    tilts, particles = np.nonzero(windows.visible)
    every = max(1, len(tilts) // SAMPLED)
    values = windows.values[tilts[::every], particles[::every]]
    values = values.astype(np.float64)  # squares of tiny numbers are zero in single precision
    if not values.size:
        return windows.step_px
    square = np.mean(np.square(values))
    slope = sum(np.mean(np.square(np.diff(values, axis=axis))) for axis in (1, 2))
    if slope == 0:  # windows without any signal
        return windows.step_px
    return max(float(np.sqrt(2 * square / slope)) * windows.step_px, windows.step_px)
