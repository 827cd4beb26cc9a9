"""One shift per tilt image: the highest point of its particles' summed windows (spec §8, `--shift_only`)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from tomopolish.correlation.windows import CorrelationWindows
from tomopolish.solve.surface import evaluate_surface, smooth_surface

Array = np.ndarray

NEWTON_STEPS = 20
CONVERGED_PX = 1e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class SummedPeaks:
    """Highest points of the summed windows.

    Attributes
    ----------
    shifts_px
        (x, y); zero for tilt images that show no particle.
    at_the_edge
        Tilt images whose highest sample is the range's first or last one: the truth may lie beyond.
    """

    shifts_px: Float[Array, "F 2"]
    at_the_edge: Bool[Array, "F"]


def summed_windows(windows: CorrelationWindows) -> CorrelationWindows:
    """Σ over each tilt image's visible particles, as the windows of a single particle."""
    seen = windows.visible
    total = np.where(seen[:, :, None, None], windows.values, 0).sum(axis=1, dtype=np.float64, keepdims=True)
    return replace(
        windows,
        values=total.astype(np.float32),
        anchors_px=np.zeros((len(total), 1, 2)),
        visible=np.asarray(seen.any(axis=1))[:, None],
        power=np.where(seen, windows.power, 0).sum(axis=1, keepdims=True),
    )


def summed_peaks(windows: CorrelationWindows) -> SummedPeaks:
    """Find each tilt image's best shift within [−range, range), by Newton steps on interpolating splines."""
    total = summed_windows(windows)
    surface = smooth_surface(total)
    half = round(windows.range_px / windows.step_px)
    inside = slice(windows.origin - half, windows.origin + half)
    searched = total.values[:, 0, inside, inside]
    flat = searched.reshape(len(searched), -1).argmax(axis=1)
    row, column = np.divmod(flat, 2 * half)
    best = np.stack([column, row], axis=-1)
    start = (best - half) * windows.step_px
    shift = start.astype(np.float64)
    for _ in range(NEWTON_STEPS):
        found = evaluate_surface(surface, shift[:, None])
        step = _uphill(found.gradient[:, 0], found.hessian[:, 0], windows.step_px)
        moved = np.clip(shift + step, start - windows.step_px, start + windows.step_px)
        change = float(np.abs(moved - shift).max(initial=0))
        shift = moved
        if change < CONVERGED_PX:
            break
    blind = ~total.visible[:, 0]
    shift[blind] = 0
    edge = ((best == 0) | (best == 2 * half - 1)).any(axis=1) & ~blind
    return SummedPeaks(shifts_px=shift, at_the_edge=edge)


def _uphill(gradient: Array, hessian: Array, step_px: float) -> Array:
    """Newton steps where the surface is concave, elsewhere half a sample along the gradient."""
    xx, xy, yy = hessian.T
    gx, gy = gradient.T
    determinant = xx * yy - xy * xy
    concave = (determinant > 0) & (xx < 0)
    divisor = np.where(concave, determinant, 1.0)
    newton = -np.stack([yy * gx - xy * gy, xx * gy - xy * gx], axis=-1) / divisor[:, None]
    length = np.maximum(np.hypot(gx, gy), np.finfo(float).tiny)[:, None]
    step: Array = np.where(concave[:, None], newton, 0.5 * step_px * gradient / length)
    return step
