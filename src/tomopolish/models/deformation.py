"""Deformation of the tilt images: none, fixed, or a warp; and the refit of one warp as another.

See docs/dev/conventions.md, Objective.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tomopolish.dataset.model import Deformation, TiltSeries
from tomopolish.errors import InputError
from tomopolish.models.protocols import DeformationModel
from tomopolish.models.warps.fourier import FourierWarp
from tomopolish.models.warps.linear import LinearWarp
from tomopolish.models.warps.spline import SplineWarp
from tomopolish.settings.alignment import DEFORMATION_MODELS, DeformationSettings
from tomopolish.shapes import Array, Float

_SAMPLES_PER_NODE = 4
_MIN_SAMPLES = 25


@dataclass(frozen=True, kw_only=True)
class NoDeformation:
    """Images are not deformed; there are no coefficients."""

    @property
    def shape(self) -> tuple[int, int]:
        """(1, 0)."""
        return (1, 0)

    @property
    def penalty_weights(self) -> Float[Array, "n"]:
        """Empty: there are no coefficients."""
        return np.zeros(0)

    @property
    def unit_px(self) -> float:
        """1, because nothing moves."""
        return 1.0

    def displacement_px(
        self, positions_px: Float[Array, "F P 2"], coefficients: Float[Array, "G n"]
    ) -> Float[Array, "F P 2"]:
        """Return zeros."""
        return np.zeros(positions_px.shape)

    def functions(self, positions_px: Float[Array, "F P 2"]) -> None:
        """Return None: there are no functions."""

    def jacobian(
        self, positions_px: Float[Array, "F P 2"], coefficients: Float[Array, "G n"]
    ) -> Float[Array, "F P 2 2"]:
        """Return zeros."""
        return np.zeros((*positions_px.shape, 2))

    def adjoint(
        self, positions_px: Float[Array, "F P 2"], gradient: Float[Array, "F P 2"]
    ) -> Float[Array, "G n"]:
        """Return an empty array."""
        return np.zeros(self.shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class FixedDeformation(NoDeformation):
    """A known warp that stays as it is; there are no coefficients to refine."""

    warp: DeformationModel
    known: Float[Array, "F n"]

    def displacement_px(
        self, positions_px: Float[Array, "F P 2"], coefficients: Float[Array, "G n"]
    ) -> Float[Array, "F P 2"]:
        """Return the displacement by the known warp."""
        return self.warp.displacement_px(positions_px, self.known)

    def jacobian(
        self, positions_px: Float[Array, "F P 2"], coefficients: Float[Array, "G n"]
    ) -> Float[Array, "F P 2 2"]:
        """Return ∂g_i/∂q_j of the known warp."""
        return self.warp.jacobian(positions_px, self.known)


def deformation_model(settings: DeformationSettings | None, series: TiltSeries) -> DeformationModel:
    """Return the deformation model of one tilt series for the settings.

    Without settings, an input deformation of the tilt series stays fixed.
    """
    if settings is not None:
        warps = len(series) if settings.per_frame else 1
        return warp_model(settings.model, settings.grid, series.image_size_px, warps, settings.regulariser)
    if series.deformation is None:
        return NoDeformation()
    warp, coefficients = deformation_from(series.deformation, series.image_size_px)
    return FixedDeformation(warp=warp, known=coefficients)


def deformation_from(
    deformation: Deformation, image_size_px: tuple[int, int]
) -> tuple[DeformationModel, Float[Array, "F n"]]:
    """Return the model and the unchanged coefficients of an input deformation; the model has no penalty.

    Raises
    ------
    InputError
        When the model is unknown or the number of coefficients does not match its grid.
    """
    tilts, count = deformation.coefficients.shape
    warp = warp_model(deformation.model, deformation.grid, image_size_px, tilts)
    if warp.shape[1] != count:
        width, height = deformation.grid
        raise InputError(
            f"a {deformation.model} deformation on a grid of {width} × {height} has {warp.shape[1]} "
            f"coefficients per tilt image, but {count} are given: correct the tilt series' grid or "
            "coefficients"
        )
    return warp, deformation.coefficients


def deformation_record(
    settings: DeformationSettings, coefficients: Float[Array, "G n"], tilts: int
) -> Deformation:
    """Return the refined coefficients as the data set stores them: one row per tilt image, file order."""
    rows = np.broadcast_to(coefficients, (tilts, coefficients.shape[1]))
    return Deformation(model=settings.model, grid=settings.grid, coefficients=rows.copy())


def refit(
    deformation: Deformation, target: DeformationModel, image_size_px: tuple[int, int]
) -> tuple[Float[Array, "G n"], float]:
    """Fit the coefficients of another model to a deformation, by least squares over the image.

    Parameters
    ----------
    deformation
        Deformation of any model and grid.
    target
        Model to fit. With one warp for the series, that warp approximates the mean over the tilt images.
    image_size_px
        (w, h) of the tilt images.

    Returns
    -------
    Coefficients of `target`, and the largest distance (px) between the two warps at any sample.
    """
    source, known = deformation_from(deformation, image_size_px)
    warps, count = target.shape
    samples = _samples(image_size_px, max(_MIN_SAMPLES, _SAMPLES_PER_NODE * max(deformation.grid) + 1))
    displacements = source.displacement_px(_repeated(samples, len(known)), known)
    if not count:
        return np.zeros(target.shape), _longest(displacements)
    # Models evaluate as many warps as there are rows of coefficients: here one per unit vector.
    design = target.displacement_px(_repeated(samples, count), np.eye(count)).reshape(count, -1).T
    goal = displacements.reshape(len(known), -1)
    if warps == 1:
        goal = goal.mean(axis=0, keepdims=True)
    # Waves of up to twice the image's size are far from orthogonal: normal equations would lose accuracy.
    solution = np.linalg.lstsq(design, goal.T)[0]
    fitted = (design @ solution).T.reshape(len(goal), -1, 2)
    return np.ascontiguousarray(solution.T), _longest(fitted - displacements)


def warp_model(
    model: str, grid: tuple[int, int], image_size_px: tuple[int, int], warps: int, regulariser: float = 0.0
) -> DeformationModel:
    """Return the deformation model with a name, for images of a size; raises InputError for unknown names."""
    if model == "linear":
        return LinearWarp(image_size_px=image_size_px, warps=warps, regulariser=regulariser)
    if model == "spline":
        return SplineWarp(image_size_px=image_size_px, grid=grid, warps=warps, regulariser=regulariser)
    if model == "Fourier":
        return FourierWarp(image_size_px=image_size_px, grid=grid, warps=warps, regulariser=regulariser)
    raise InputError(f"deformation model {model!r} is unknown: give one of {', '.join(DEFORMATION_MODELS)}")


def _samples(image_size_px: tuple[int, int], per_axis: int) -> Float[Array, "S 2"]:
    """Return a regular grid of positions that reaches the image's borders, px."""
    x, y = (np.linspace(0.0, size, per_axis) for size in image_size_px)
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)


def _repeated(samples: Float[Array, "S 2"], times: int) -> Float[Array, "F S 2"]:
    return np.broadcast_to(samples, (times, *samples.shape))


def _longest(vectors: Float[Array, "... 2"]) -> float:
    return float(np.max(np.hypot(vectors[..., 0], vectors[..., 1])))
