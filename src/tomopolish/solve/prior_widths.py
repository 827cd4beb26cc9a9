"""Widths of the prior: at first about the range of the windows, later the spread of a solution.

Tilt images determine a warp only where there are particles. Undetermined coefficients (those of a spline
beyond the particles, slopes and twists where particles are few) would grow without limit and move particles
off their peaks. `--def_reg` λ is a prior of precision 2λ, as in RELION. Without it the coefficients' spread
is estimated from the images: MacKay (1992), "Bayesian interpolation", Neural Comput. 4:415, the sum of their
squares divided by the number of them that the images determine.
"""

from __future__ import annotations

import numpy as np

from tomopolish.imaging.windows import CorrelationWindows
from tomopolish.models.parameters import Layout
from tomopolish.models.protocols import DeformationModel
from tomopolish.shapes import Array, Float
from tomopolish.solve.elimination import WarpFactor
from tomopolish.solve.outliers import shown_pairs
from tomopolish.solve.problem import Problem
from tomopolish.solve.surface import correlation_length_px

MIN_SPREAD_PX = 0.1
STRAY, MOST_STRAYS = 4.0, 0.05
"""A displacement so many times the median says nothing of the others, where few particles have one: a bead or
a neighbour drew them away."""


def initial_precision(layout: Layout, range_px: float, tomogram_size_px: tuple[int, int, int]) -> Array:
    """Return the initial prior, with which every parameter displaces the image by about the range."""
    arm = 0.25 * float(np.linalg.norm(tomogram_size_px))
    return layout.fill(
        angles=(arm / range_px) ** 2, shifts_px=1 / range_px**2, positions_px=1 / range_px**2, motion=1.0
    )


def informed_precision(problem: Problem, vector: Float[Array, "N"]) -> Float[Array, "N"]:
    """Return the prior's precisions for the spread of well-determined angles, shifts and positions.

    Tilt images and particles with at least half the median number of visible pairs are well determined. The
    prior is never wider than that of the problem, and never narrower than `MIN_SPREAD_PX` in the image. A few
    particles that strayed far do not count.
    """
    layout = problem.layout
    blocks = layout.unpack(vector)
    current = layout.unpack(problem.precision)
    seen = shown_pairs(problem)  # false particles and empty images say nothing of the others
    parts: dict[str, Array] = {"motion": current.motion, "warp": current.warp}
    for name, count in (
        ("angles", seen.sum(axis=1)),
        ("shifts_px", seen.sum(axis=1)),
        ("positions_px", seen.sum(axis=0)),
    ):
        block, old = getattr(blocks, name), getattr(current, name)
        shown = count > 0 if count.any() else count == 0
        sure = shown & (count >= 0.5 * np.median(count[shown]))
        arm = np.sqrt(old.mean() / current.shifts_px.mean())
        floor = MIN_SPREAD_PX / arm
        values = _without_strays(block[sure]) if name == "positions_px" else block[sure]
        spread = max(float(np.sqrt(np.mean(values**2))), floor)
        parts[name] = np.maximum(old, 1 / spread**2)
    return layout.fill(**parts)


def _without_strays(positions_px: Float[Array, "N 3"]) -> Float[Array, "M 3"]:
    length = np.linalg.norm(positions_px, axis=1)
    stray = length > STRAY * np.median(length)
    return positions_px if stray.mean() > MOST_STRAYS else positions_px[~stray]


def initial_warp_precision(model: DeformationModel, windows: CorrelationWindows) -> Float[Array, "n"]:
    """Return the initial precision of a warp's coefficients.

    The precision is 2λ, but at least that of displacements by the range. Without λ it is that of
    displacements by the windows' correlation length: a warp that starts within the peaks can grow from there.
    """
    regulariser = 2 * model.penalty_weights
    spread_px = float(windows.range_px)
    if spread_is_estimated(model):
        spread_px = min(spread_px, correlation_length_px(windows))
    return np.maximum(regulariser, (model.unit_px / spread_px) ** 2)


def spread_is_estimated(model: DeformationModel) -> bool:
    """Return whether there are coefficients whose spread the settings do not state."""
    return model.shape[1] > 0 and not model.penalty_weights.any()


def informed_warp_precision(
    problem: Problem, vector: Float[Array, "N"], factor: WarpFactor, range_px: float
) -> Float[Array, "G n"]:
    """Return the precision of all coefficients at a solution, limited by the range and `MIN_SPREAD_PX`.

    Parameters
    ----------
    problem
        Problem whose deformation's spread is estimated.
    factor
        Factor of the remaining curvature of the coefficients at the solution, prior included.
    """
    layout = problem.layout
    coefficients, prior = layout.unpack(vector).warp, layout.unpack(problem.precision).warp
    determined = 0.0
    for row, cholesky in zip(prior, factor.factors, strict=True):
        variance = np.sum(np.linalg.inv(cholesky) ** 2, axis=0)  # diagonal of L⁻ᵀ L⁻¹
        determined += float(np.sum(1 - row * variance))
    scale = problem.deformation.unit_px
    total = float(np.sum((scale * coefficients) ** 2))
    spread_px = np.sqrt(total / determined) if determined > 0 else 0.0
    spread_px = float(np.clip(spread_px, MIN_SPREAD_PX, range_px))
    return np.full(coefficients.shape, (scale / spread_px) ** 2)
