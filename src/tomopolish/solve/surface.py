"""Displacement surfaces: correlation windows as smooth functions of displacement.

See docs/dev/conventions.md, Objective.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from tomopolish.imaging.packed import PackedSamples
from tomopolish.imaging.windows import MARGIN_SAMPLES, CorrelationWindows
from tomopolish.shapes import Array, Bool, Float, Float32, Int
from tomopolish.solve.kernels import pairs as pair_kernels
from tomopolish.solve.kernels import splines as spline_kernels

B_SPLINE = np.array([[1, -3, 3, -1], [4, 0, -6, 3], [1, 3, 3, -3], [0, 0, 0, 1]]) / 6
"""Weights of four B-spline coefficients; the curvature is continuous as well."""

NEGLIGIBLE = 1e-12
"""Weight of a sample, relative to the largest, below which it counts as zero."""

TOGETHER = 32
"""Number of windows that are interpolated at a time, so that they stay in cache."""

SAMPLED = 500
"""Number of evenly spread windows that determine the correlation length."""


@dataclass(frozen=True, kw_only=True, eq=False)
class DisplacementSurface:
    """A log-likelihood surface for every pair; zero outside its support.

    Attributes
    ----------
    coefficients
        ``[tilt, particle, y, x]``, for `basis`.
    basis
        Weights of four coefficients as polynomials in the fraction, such as `B_SPLINE`.
    origin
        Index of displacement zero.
    range_px, range_penalty
        Beyond |δ| = range, ``−penalty · (|δ| − range)²`` is added.
    length_px
        Correlation length of the windows.
    """

    coefficients: PackedSamples
    visible: Bool[Array, "F P"]
    basis: Float[Array, "4 4"]
    origin: int
    step_px: float
    range_px: float
    length_px: float
    range_penalty: float = 0.0

    def of_tilts(self, part: slice) -> DisplacementSurface:
        """Return the surfaces of a range of tilt images."""
        return replace(self, coefficients=self.coefficients.of_tilts(part), visible=self.visible[part])

    def of_particles(self, members: Int[Array, "M"]) -> DisplacementSurface:
        """Return the surfaces of some particles, in new memory."""
        return replace(
            self,
            coefficients=self.coefficients.of_particles(members),
            visible=np.take(self.visible, members, axis=1),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class SurfaceValues:
    """Value, gradient (per px) and Hessian (xx, xy, yy per px²) of each pair's surface."""

    value: Float[Array, "F P"]
    gradient: Float[Array, "F P 2"]
    hessian: Float[Array, "F P 3"]

    def times(self, weights: Float[Array, "F P"]) -> SurfaceValues:
        """Return the values of surfaces multiplied by a weight for each pair."""
        each = weights[..., None]
        return SurfaceValues(
            value=self.value * weights, gradient=self.gradient * each, hessian=self.hessian * each
        )


def correlation_length_px(windows: CorrelationWindows) -> float:
    """Return the correlation length of the windows: σ of the Gaussian that fits their autocorrelation.

    Signal and noise pass through the same weights and so have the same correlation length, which follows from
    the windows' mean squared value and slope.
    """
    tilts, particles = np.nonzero(windows.visible)
    every = max(1, len(tilts) // SAMPLED)
    values = windows.values[tilts[::every], particles[::every]]
    values = values.astype(np.float64)  # squares of tiny numbers are zero in single precision
    if not values.size:
        return windows.step_px
    square = np.mean(np.square(values))
    slope = sum(np.mean(np.square(np.diff(values, axis=axis))) for axis in (1, 2))
    if slope == 0:  # windows without any signal
        return windows.step_px
    return max(float(np.sqrt(2 * square / slope)) * windows.step_px, windows.step_px)


def smooth_surface(
    windows: CorrelationWindows,
    range_penalty: float = 0.0,
    pool: Executor | None = None,
    *,
    into: PackedSamples | None = None,
) -> DisplacementSurface:
    """Return interpolating cubic B-splines through the windows.

    Within the range the values are those of the windows; over the margin they fade to zero, so that
    displacements outside are neither favoured nor penalised.

    Parameters
    ----------
    into
        Memory of the coefficients, which may be that of the windows' values; None: new memory.
    """
    length_px = correlation_length_px(windows)  # before its memory changes
    coefficients = PackedSamples.zeros(windows.values.shape) if into is None else into

    def interpolate(tilt: int) -> None:
        for first in range(0, windows.values.shape[1], TOGETHER):
            part = (tilt, slice(first, first + TOGETHER))
            coefficients.put(part, _coefficients(windows.values[part]))

    for _ in (map if pool is None else pool.map)(interpolate, range(len(coefficients))):
        pass
    return DisplacementSurface(
        coefficients=coefficients,
        visible=windows.visible,
        basis=B_SPLINE,
        origin=windows.origin,
        step_px=windows.step_px,
        range_px=windows.range_px,
        length_px=length_px,
        range_penalty=range_penalty,
    )


def _coefficients(windows: Float32[Array, "P n n"]) -> Float32[Array, "P n n"]:
    """Return the coefficients of the splines through windows, which are faded."""
    size = windows.shape[-1]
    samples, coefficients = windows.astype(np.float32, copy=False), np.empty(windows.shape, dtype=np.float32)
    fade = _fade(size).astype(np.float32)
    spline_kernels.spline_coefficients(samples, fade, *elimination(size), coefficients)
    return coefficients


@cache
def elimination(size: int) -> tuple[Float32[Array, "n"], Float32[Array, "n"]]:
    """Return factors by which Gaussian elimination solves `spline_samples` (Press et al., ch. 2.4).

    Returns
    -------
    The matrix's upper diagonal after the elimination, and the inverse of its diagonal before each row is
    divided by it.
    """
    ratio, pivot, above = np.empty(size), np.empty(size), 0.0
    for row in range(size):
        pivot[row] = 1 / (4 / 6 - above / 6)
        above = ratio[row] = pivot[row] / 6
    return ratio.astype(np.float32), pivot.astype(np.float32)


def _fade(size: int) -> Float[Array, "n"]:
    ramp = 0.5 + 0.5 * np.cos(np.pi * np.arange(1, MARGIN_SAMPLES) / (MARGIN_SAMPLES - 1))
    fade = np.ones(size)
    # The window's size is even: it has one more sample on the negative side.
    fade[:MARGIN_SAMPLES] = np.concatenate([[0.0], ramp[::-1]])
    fade[size - MARGIN_SAMPLES + 1 :] = ramp
    return fade


def add_pairs(
    surface: DisplacementSurface,
    windows: Float32[Array, "H n n"],
    tilts: Int[Array, "H"],
    particles: Int[Array, "H"],
) -> None:
    """Write the surfaces of individual pairs into the coefficients; visible pairs stay the same.

    Parameters
    ----------
    surface
        Unblurred surfaces (`smooth_surface`), whose coefficients are changed in place.
    windows
        Values of the pairs' windows.
    """
    surface.coefficients.put_pairs(tilts, particles, _coefficients(windows))


def both_sides(
    of_tilt: Callable[[int], Float32[Array, "P n n"]],
    matrix: Float[Array, "m n"],
    result: Float32[Array, "F P m width"] | PackedSamples,
    pool: Executor | None = None,
) -> None:
    """Multiply each window by a matrix along both axes, ``M W Mᵀ``; tilt images over threads.

    Parameters
    ----------
    of_tilt
        Returns the windows of a tilt image.
    result
        Written; contiguous. Columns beyond the first m become zero. It may be the memory of the windows.
    """
    # Products would be written to copies of other layouts.
    assert isinstance(result, PackedSamples) or result.flags.c_contiguous
    # Products of negligible values would be subnormal numbers, each of which costs a hundred cycles.
    left = np.where(np.abs(matrix) > NEGLIGIBLE * np.abs(matrix).max(), matrix, 0.0).astype(np.float32)
    right = np.zeros((matrix.shape[1], result.shape[-1]), dtype=np.float32)
    right[:, : len(matrix)] = left.T

    def multiply(tilt: int) -> None:
        along_y = np.matmul(left, of_tilt(tilt))
        # All rows are multiplied at once: one large product is faster than many small ones.
        lines = along_y.reshape(result.shape[1] * result.shape[2], -1)
        if isinstance(result, PackedSamples):
            result.put(tilt, (lines @ right).reshape(result.shape[1:]))
        else:
            np.matmul(lines, right, out=result[tilt].reshape(-1, result.shape[-1]))

    for _ in (map if pool is None else pool.map)(multiply, range(len(result))):
        pass


def spline_filter(fade: Float[Array, "n"], blur_samples: float) -> Float[Array, "n n"]:
    """Return the matrix from samples along one axis to B-spline coefficients, with fading and blur."""
    size = len(fade)
    index = np.arange(size)
    distance = index[:, None] - index[None, :]
    if blur_samples > 0:
        blur = np.exp(-(distance**2) / (2 * blur_samples**2)) / (np.sqrt(2 * np.pi) * blur_samples)
    else:
        blur = np.eye(size)
    matrix: Array = np.linalg.solve(spline_samples(size), blur * fade[None, :])
    return matrix


def spline_samples(size: int) -> Float[Array, "n n"]:
    """Return the matrix from B-spline coefficients along one axis to samples at the same places."""
    return np.eye(size) * 4 / 6 + (np.eye(size, k=1) + np.eye(size, k=-1)) / 6


def evaluate_surface(surface: DisplacementSurface, displacements_px: Float[Array, "F P 2"]) -> SurfaceValues:
    """Interpolate every pair's surface at its displacement."""
    shape = surface.visible.shape
    value, gradient, hessian = np.empty(shape), np.empty((*shape, 2)), np.empty((*shape, 3))
    pair_kernels.interpolate(
        surface.coefficients.numbers,
        surface.coefficients.units,
        surface.visible,
        displacements_px,
        1 / surface.step_px,
        float(surface.origin),
        surface.basis,
        value,
        gradient,
        hessian,
    )
    if surface.range_penalty > 0:
        _add_range_penalty(surface, displacements_px, value, gradient, hessian)
    return SurfaceValues(value=value, gradient=gradient, hessian=hessian)


def _add_range_penalty(
    surface: DisplacementSurface, displacements_px: Array, value: Array, gradient: Array, hessian: Array
) -> None:
    length = np.hypot(displacements_px[..., 0], displacements_px[..., 1])
    far = surface.visible & (length > surface.range_px)
    if not far.any():
        return
    length, rho = length[far], surface.range_penalty
    excess = length - surface.range_px
    ux, uy = (displacements_px[far] / length[:, None]).T
    value[far] -= rho * excess**2
    gradient[far] -= 2 * rho * excess[:, None] * np.stack([ux, uy], axis=-1)
    across = excess / length
    hessian[far] -= (
        2 * rho * np.stack([ux**2 + across * uy**2, (1 - across) * ux * uy, uy**2 + across * ux**2], axis=-1)
    )
