"""Whether a refinement helped, from pairs that had no part in it (docs/evidence.md)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tomopolish.imaging.held_out import HeldOutWindows
from tomopolish.imaging.windows import CorrelationWindows
from tomopolish.results.tomogram import Evidence
from tomopolish.shapes import Float, Int
from tomopolish.solve.problem import Problem, predicted_positions
from tomopolish.solve.surface import evaluate_surface, smooth_surface

Array = np.ndarray


def weigh(windows: CorrelationWindows, problem: Problem, vector: Float[Array, "N"]) -> Evidence | None:
    """Compare held-out pairs at a geometry that was refined without them with the input geometry.

    Pairs of one particle share its errors of shape and orientation, so the standard error of the gain is that
    of a sum over independent particles.

    Returns
    -------
    None when no pair was held out.
    """
    held = windows.held_out
    if held is None or not len(held):
        return None
    place = (held.tilts, held.particles)
    moved = predicted_positions(problem, problem.layout.unpack(vector))[place] - windows.anchors_px[place]
    surface = smooth_surface(_in_a_row(windows, held))
    before, after = (
        evaluate_surface(surface, displacements[None]).value[0]
        for displacements in (np.zeros_like(moved), moved)
    )
    return evidence(held.particles, before, after, held.power)


def evidence(
    particle: Int[Array, "H"], before: Float[Array, "H"], after: Float[Array, "H"], power: Float[Array, "H"]
) -> Evidence:
    """Add up pairs' log-likelihoods; see `Evidence`.

    Parameters
    ----------
    particle
        Particle of each pair.
    before, after
        Log-likelihood of each pair.
    power
        Weighted power of each pair's prediction.
    """
    gains = np.bincount(particle, weights=after - before)[np.bincount(particle) > 0]
    count, total = len(gains), float(power.sum())
    scatter = np.sqrt(count * gains.var(ddof=1)) if count > 1 else np.nan
    return Evidence(
        particles=count,
        pairs=len(power),
        gain=float(gains.sum()),
        standard_error=float(scatter),
        agreement_before=float(before.sum()) / total if total > 0 else 0.0,
        agreement_after=float(after.sum()) / total if total > 0 else 0.0,
    )


def _in_a_row(windows: CorrelationWindows, held: HeldOutWindows) -> CorrelationWindows:
    """Held-out pairs as the pairs of one tilt image."""
    place = (held.tilts, held.particles)
    return replace(
        windows,
        values=held.values[None],
        anchors_px=windows.anchors_px[place][None],
        visible=np.ones((1, len(held)), dtype=bool),
        power=held.power[None],
        held_out=None,
    )
