"""Compiled loops of the Fourier warp over pairs, on one thread and without Python's lock.

In all loops `waves` is ``[warp, component, wave, cosine or sine]``; a single warp applies to all tilt images.
Only one cosine and sine per axis are computed; those of all waves follow by angle addition.
"""

from __future__ import annotations

import numpy as np

from tomopolish.jit import inlined, kernel


@inlined()
def _reach(frequencies, axis):  # type: ignore[no-untyped-def]
    """Return the largest |frequency| along an axis."""
    reach = 0
    for n in range(frequencies.shape[0]):
        reach = max(reach, abs(frequencies[n, axis]))
    return reach


@inlined()
def _multiples(angle, cosines, sines):  # type: ignore[no-untyped-def]
    """Compute the cosine and sine of 0, 1, 2, … times an angle."""
    cosines[0], sines[0] = 1.0, 0.0
    c, s = np.cos(angle), np.sin(angle)
    for n in range(1, cosines.shape[0]):
        cosines[n] = cosines[n - 1] * c - sines[n - 1] * s
        sines[n] = cosines[n - 1] * s + sines[n - 1] * c


@inlined()
def _phase(x, y, cx, sx, cy, sy):  # type: ignore[no-untyped-def]
    """Return the cosine and sine of a wave's phase, x ≥ 0."""
    c, s = cy[abs(y)], sy[abs(y)]
    if y < 0:
        s = -s
    return cx[x] * c - sx[x] * s, sx[x] * c + cx[x] * s


@kernel(error_model="numpy")
def functions(positions, unit, frequencies, out):  # type: ignore[no-untyped-def]
    """Compute the cosine and sine of every wave, in turn, at every pair.

    Parameters
    ----------
    positions : (F, P, 2) float64, px
    unit : (2,) float64, angular frequency of x = 1 and y = 1, radians per px
    frequencies : (waves, 2) int64, x ≥ 0
    out : (F, P, waves, 2), written
    """
    cx, sx = np.empty(_reach(frequencies, 0) + 1), np.empty(_reach(frequencies, 0) + 1)
    cy, sy = np.empty(_reach(frequencies, 1) + 1), np.empty(_reach(frequencies, 1) + 1)
    for f in range(positions.shape[0]):
        for p in range(positions.shape[1]):
            _multiples(positions[f, p, 0] * unit[0], cx, sx)
            _multiples(positions[f, p, 1] * unit[1], cy, sy)
            for n in range(frequencies.shape[0]):
                c, s = _phase(frequencies[n, 0], frequencies[n, 1], cx, sx, cy, sy)
                out[f, p, n, 0], out[f, p, n, 1] = c, s


@kernel(error_model="numpy")
def differentiate(positions, unit, frequencies, waves, out):  # type: ignore[no-untyped-def]
    """Compute ∂g_i/∂q_j of every pair.

    Parameters as in `functions`, waves : (G, 2, waves, 2) float64, out : (F, P, 2, 2), written.
    """
    cx, sx = np.empty(_reach(frequencies, 0) + 1), np.empty(_reach(frequencies, 0) + 1)
    cy, sy = np.empty(_reach(frequencies, 1) + 1), np.empty(_reach(frequencies, 1) + 1)
    for f in range(positions.shape[0]):
        g = f if waves.shape[0] > 1 else 0
        for p in range(positions.shape[1]):
            _multiples(positions[f, p, 0] * unit[0], cx, sx)
            _multiples(positions[f, p, 1] * unit[1], cy, sy)
            for component in range(2):
                along_x = along_y = 0.0
                for n in range(frequencies.shape[0]):
                    x, y = frequencies[n, 0], frequencies[n, 1]
                    c, s = _phase(x, y, cx, sx, cy, sy)
                    rate = c * waves[g, component, n, 1] - s * waves[g, component, n, 0]
                    along_x += x * rate
                    along_y += y * rate
                out[f, p, component, 0] = along_x * unit[0]
                out[f, p, component, 1] = along_y * unit[1]
