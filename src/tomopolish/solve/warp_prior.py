"""The Gaussian prior of a warp's coefficients.

Tilt images determine a warp only where there are particles. Undetermined coefficients (those of a spline
beyond the particles, slopes and twists where particles are few) would grow without limit and move particles
off their peaks. `--def_reg` λ is a prior of precision 2λ, as in RELION. Without it the coefficients' spread
is estimated from the images: MacKay (1992), "Bayesian interpolation", Neural Comput. 4:415, the sum of their
squares divided by the number of them that the images determine.
"""

from __future__ import annotations

import numpy as np

from tomopolish.imaging.windows import CorrelationWindows
from tomopolish.models.protocols import DeformationModel
from tomopolish.shapes import Float
from tomopolish.solve.correlation_length import correlation_length_px
from tomopolish.solve.elimination import WarpFactor
from tomopolish.solve.problem import Problem

Array = np.ndarray

MIN_SPREAD_PX = 0.1


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
