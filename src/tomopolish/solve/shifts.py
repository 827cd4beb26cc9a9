"""One shift per tilt image from the peak of its particles' summed windows (`--shift_only_by_particles`)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tomopolish.imaging.windows import CorrelationWindows
from tomopolish.shapes import Array, Bool, Float, Float32, Int


def summed_windows(windows: CorrelationWindows) -> CorrelationWindows:
    """Return the sum over each tilt image's visible particles, as the windows of a single particle."""
    seen = windows.visible
    total = np.zeros((len(seen), 1, *windows.values.shape[2:]))
    for tilt, own in enumerate(seen):
        total[tilt, 0] = windows.values[tilt][own].sum(axis=0, dtype=np.float64)
    return replace(
        windows,
        values=total.astype(np.float32),
        anchors_px=np.zeros((len(total), 1, 2)),
        visible=np.asarray(seen.any(axis=1))[:, None],
        power=np.where(seen, windows.power, 0).sum(axis=1, keepdims=True),
    )


def summed_peaks(windows: CorrelationWindows) -> tuple[Float[Array, "F 2"], Bool[Array, "F"]]:
    """Find each tilt image's best shift within [−range, range), interpolated between samples as in RELION.

    See `parabola_peaks`; the highest point of interpolating splines lies 0.04–0.05 px (RMS) from it on the
    reference data, at most 0.18 px.

    Returns
    -------
    Shifts (x, y) in px, zero for tilt images that show no particle; and the tilt images whose highest sample
    is the first or last of the range, so that the true shift may lie beyond.
    """
    total = summed_windows(windows)
    half = round(windows.range_px / windows.step_px)
    first = windows.origin - half
    values = np.asarray(total.values)[:, 0]
    searched = values[:, first : first + 2 * half, first : first + 2 * half].reshape(len(values), -1)
    row, column = np.divmod(searched.argmax(axis=1), 2 * half)
    best = np.stack([column, row], axis=-1)
    shifts = (parabola_peaks(values, best + first) - windows.origin) * windows.step_px
    blind = ~total.visible[:, 0] | (np.ptp(searched, axis=1) == 0)
    shifts[blind] = 0
    return shifts, ((best == 0) | (best == 2 * half - 1)).any(axis=1) & ~blind


def parabola_peaks(values: Float32[Array, "F n n"], highest: Int[Array, "F 2"]) -> Float[Array, "F 2"]:
    """Return peaks between samples: in x and in y, the maximum of the parabola through three samples.

    This is RELION's convention, to 5·10⁻⁷ px. The peak moves by at most half a sample; oblique axes of the
    peak are neglected.

    Parameters
    ----------
    values
        ``[tilt, y, x]``.
    highest
        Index (x, y) of each image's highest sample, which is not in the first or last row or column.
    """
    tilt = np.arange(len(values))
    peaks = np.empty(highest.shape)
    for axis, step in enumerate(((1, 0), (0, 1))):
        low, here, high = (
            values[tilt, highest[:, 1] + i * step[1], highest[:, 0] + i * step[0]].astype(np.float64)
            for i in (-1, 0, 1)
        )
        curvature = 2 * here - low - high
        top = np.divide(high - low, 2 * curvature, out=np.zeros(len(tilt)), where=curvature > 0)
        peaks[:, axis] = highest[:, axis] + np.clip(top, -0.5, 0.5)
    return peaks
