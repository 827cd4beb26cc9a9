"""Whether a refinement helped, from pairs that had no part in it (docs/evidence.md)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tomopolish.imaging.held_out import HeldOutWindows
from tomopolish.imaging.windows import CorrelationWindows
from tomopolish.results.tomogram import Evidence
from tomopolish.shapes import Array, Float, Float32, Int
from tomopolish.solve.outliers import SHOWN
from tomopolish.solve.problem import Problem
from tomopolish.solve.refine import Refinement
from tomopolish.solve.surface import evaluate_surface, smooth_surface


def held_out_that_show(windows: CorrelationWindows, *problems: Problem) -> HeldOutWindows | None:
    """Return the held-out pairs that probably show what the references predict, by the fits of all problems.

    None where there are none.
    """
    held = windows.held_out
    for problem in problems:
        if held is not None and problem.pair_weights is not None:
            held = held.among_pairs(problem.pair_weights >= SHOWN)
    return held


def weigh(
    windows: CorrelationWindows,
    refinement: Refinement,
    factors: Float[Array, "P"],
    before: Refinement | None = None,
) -> Evidence | None:
    """Compare held-out pairs at a geometry that was refined without them with an earlier geometry.

    Particles and tilt images that a fit found to be false or empty are not asked.

    Pairs of one particle share its errors of shape and orientation, so the standard error of the gain is that
    of a sum over independent particles.

    Parameters
    ----------
    factors
        By which each particle's reference was multiplied; agreements are on the scale before.
    before
        The earlier geometry, also refined without them; None: that of the input.

    Returns
    -------
    None when no pair was held out that counts in all fits.
    """
    fits = [refinement] if before is None else [before, refinement]
    held = held_out_that_show(windows, *(fit.problem for fit in fits))
    if held is None:
        return None
    moved = [fit.displacements_px[held.tilts, held.particles] for fit in fits]
    if before is None:
        moved.insert(0, np.zeros_like(moved[0]))
    earlier, later = (values_at(windows, held.values, displacements) for displacements in moved)
    return evidence(held.particles, earlier, later, held.power, factors[held.particles])


def values_at(
    windows: CorrelationWindows, values: Float32[Array, "N n n"], displacements_px: Float[Array, "N 2"]
) -> Float[Array, "N"]:
    """Return the log-likelihoods of pairs at displacements, from their own windows in place of `windows`."""
    count = len(values)
    in_a_row = replace(
        windows,
        values=values[None],
        anchors_px=np.zeros((1, count, 2)),
        visible=np.ones((1, count), dtype=bool),
        power=np.ones((1, count)),
        held_out=None,
        checks=None,
    )
    return evaluate_surface(smooth_surface(in_a_row), displacements_px[None]).value[0]


def evidence(
    particle: Int[Array, "H"],
    before: Float[Array, "H"],
    after: Float[Array, "H"],
    power: Float[Array, "H"],
    factor: Float[Array, "H"] | float = 1.0,
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
    factor
        By which each pair's reference was multiplied.
    """
    gains = np.bincount(particle, weights=after - before)[np.bincount(particle) > 0]
    count, total = len(gains), float((power / np.square(factor)).sum())
    scatter = np.sqrt(count * gains.var(ddof=1)) if count > 1 else np.nan
    return Evidence(
        particles=count,
        pairs=len(power),
        gain=float(gains.sum()),
        standard_error=float(scatter),
        agreement_before=float((before / factor).sum()) / total if total > 0 else 0.0,
        agreement_error=float(1 / np.sqrt(total)) if total > 0 else 0.0,
        agreement_after=float((after / factor).sum()) / total if total > 0 else 0.0,
    )
