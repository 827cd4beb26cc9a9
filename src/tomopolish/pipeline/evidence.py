"""Whether a refinement helped, from pairs that had no part in it (docs/evidence.md)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tomopolish.imaging.held_out import HeldOutWindows
from tomopolish.imaging.windows import CorrelationWindows
from tomopolish.results.tomogram import Evidence
from tomopolish.shapes import Array, Float, Int
from tomopolish.solve.outliers import SHOWN
from tomopolish.solve.problem import Problem, predicted_positions
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


def weigh(windows: CorrelationWindows, refinement: Refinement, factors: Float[Array, "P"]) -> Evidence | None:
    """Compare held-out pairs at a geometry that was refined without them with the input geometry.

    Particles and tilt images that the fit found to be false or empty are not asked.

    Pairs of one particle share its errors of shape and orientation, so the standard error of the gain is that
    of a sum over independent particles.

    Parameters
    ----------
    factors
        By which each particle's reference was multiplied; agreements are on the scale before.

    Returns
    -------
    None when no pair was held out.
    """
    held = held_out_that_show(windows, refinement.problem)
    if held is None:
        return None
    before, after = (
        _values(windows, held, displacements)
        for displacements in (np.zeros((len(held), 2)), _displacements(windows, held, refinement))
    )
    return evidence(held.particles, before, after, held.power, factors[held.particles])


def compare(
    windows: CorrelationWindows, before: Refinement, after: Refinement, factors: Float[Array, "P"]
) -> Evidence | None:
    """Compare held-out pairs at two geometries that were refined without them; parameters as in `weigh`.

    Returns
    -------
    None when no pair was held out whose particle and tilt image count in both fits.
    """
    held = held_out_that_show(windows, before.problem, after.problem)
    if held is None:
        return None
    values = [_values(windows, held, _displacements(windows, held, fit)) for fit in (before, after)]
    return evidence(held.particles, values[0], values[1], held.power, factors[held.particles])


def _displacements(
    windows: CorrelationWindows, held: HeldOutWindows, refinement: Refinement
) -> Float[Array, "H 2"]:
    """Return how far held-out pairs are displaced from their anchors at a solution."""
    place, problem = (held.tilts, held.particles), refinement.problem
    positions = predicted_positions(problem, problem.layout.unpack(refinement.vector))
    return positions[place] - windows.anchors_px[place]


def _values(
    windows: CorrelationWindows, held: HeldOutWindows, displacements_px: Float[Array, "H 2"]
) -> Float[Array, "H"]:
    """Return the log-likelihood of held-out pairs at displacements."""
    return evaluate_surface(smooth_surface(_in_a_row(windows, held)), displacements_px[None]).value[0]


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
