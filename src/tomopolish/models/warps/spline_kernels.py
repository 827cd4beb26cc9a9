"""Compiled loops of the spline warp over pairs, on one thread and without Python's lock.

In all loops `nodes` is ``[warp, component, row, column, kind]``, kind = value, slope along x, slope along y,
twist; a single warp applies to all tilt images.
"""

from __future__ import annotations

import numpy as np

from tomopolish.jit import inlined, kernel


@inlined()
def _cell(u, nodes):  # type: ignore[no-untyped-def]
    """Return the index of the cell that contains u, clamped to the grid; 0 where u is not a number."""
    if not u >= 1.0:
        return 0
    if u >= nodes - 1:
        return nodes - 2
    return int(u)


@inlined()
def _hermite(t, weights):  # type: ignore[no-untyped-def]
    """Compute the weights of left value, left slope, right value and right slope at t, 0 … 1 in the cell."""
    s = 1.0 - t
    weights[0] = (1.0 + 2.0 * t) * s * s
    weights[1] = t * s * s
    weights[2] = t * t * (3.0 - 2.0 * t)
    weights[3] = -t * t * s


@inlined()
def _hermite_slope(t, weights):  # type: ignore[no-untyped-def]
    """Compute the derivatives of the weights of `_hermite`."""
    weights[2] = 6.0 * t * (1.0 - t)
    weights[0] = -weights[2]
    weights[1] = (1.0 - t) * (1.0 - 3.0 * t)
    weights[3] = t * (3.0 * t - 2.0)


@kernel(error_model="numpy")
def functions(positions, spacing, out):  # type: ignore[no-untyped-def]
    """Compute the weight of every node's value, slopes and twist at every pair.

    Parameters
    ----------
    positions : (F, P, 2) float64, px
    spacing : (2,) float64, distance between nodes, px
    out : (F, P, gh, gw, 4), written
    """
    wx, wy = np.empty(4), np.empty(4)
    rows, columns = out.shape[2], out.shape[3]
    for f in range(positions.shape[0]):
        for p in range(positions.shape[1]):
            u, v = positions[f, p, 0] / spacing[0], positions[f, p, 1] / spacing[1]
            i, j = _cell(u, columns), _cell(v, rows)
            _hermite(u - i, wx)
            _hermite(v - j, wy)
            out[f, p] = 0.0
            for b in range(2):
                for a in range(2):
                    n = out[f, p, j + b, i + a]
                    n[0] = wx[2 * a] * wy[2 * b]
                    n[1] = wx[2 * a + 1] * wy[2 * b]
                    n[2] = wx[2 * a] * wy[2 * b + 1]
                    n[3] = wx[2 * a + 1] * wy[2 * b + 1]


@kernel(error_model="numpy")
def differentiate(positions, spacing, nodes, out):  # type: ignore[no-untyped-def]
    """Compute ∂g_i/∂q_j of every pair.

    Parameters as in `functions`, nodes : (G, 2, gh, gw, 4) float64, out : (F, P, 2, 2), written.
    """
    wx, wy, dx, dy = np.empty(4), np.empty(4), np.empty(4), np.empty(4)
    rows, columns = nodes.shape[2], nodes.shape[3]
    for f in range(positions.shape[0]):
        g = f if nodes.shape[0] > 1 else 0
        for p in range(positions.shape[1]):
            u, v = positions[f, p, 0] / spacing[0], positions[f, p, 1] / spacing[1]
            i, j = _cell(u, columns), _cell(v, rows)
            _hermite(u - i, wx)
            _hermite(v - j, wy)
            _hermite_slope(u - i, dx)
            _hermite_slope(v - j, dy)
            for component in range(2):
                along_x = along_y = 0.0
                for b in range(2):
                    for a in range(2):
                        n = nodes[g, component, j + b, i + a]
                        values = wy[2 * b] * n[0] + wy[2 * b + 1] * n[2]
                        slopes = wy[2 * b] * n[1] + wy[2 * b + 1] * n[3]
                        along_x += dx[2 * a] * values + dx[2 * a + 1] * slopes
                        values = dy[2 * b] * n[0] + dy[2 * b + 1] * n[2]
                        slopes = dy[2 * b] * n[1] + dy[2 * b + 1] * n[3]
                        along_y += wx[2 * a] * values + wx[2 * a + 1] * slopes
                out[f, p, component, 0] = along_x / spacing[0]
                out[f, p, component, 1] = along_y / spacing[1]
