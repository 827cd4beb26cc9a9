"""2D warps of the tilt images, q → q + g(q), from RELION's coefficients (docs/dev/conventions.md, Objective).

The code is independent of the alignment's deformation models, so that the two can be compared.
"""

from __future__ import annotations

import numpy as np

from tomopolish.dataset.model import Deformation
from tomopolish.physics.geometry import project_trajectories
from tomopolish.shapes import Array, Float


def positions_in_images_px(
    projections_px: Float[Array, "F 4 4"],
    moving_px: Float[Array, "F P 3"],
    deformation: Deformation | None,
    image_size_px: tuple[int, int],
) -> Float[Array, "F P 2"]:
    """Return the 2D positions q + g(q) of particles in warped images, with q the projection, px."""
    q = project_trajectories(projections_px, moving_px)[..., :2]
    return q if deformation is None else q + warp_displacement_px(deformation, q, image_size_px)


def warp_displacement_px(
    deformation: Deformation, positions_px: Float[Array, "F P 2"], image_size_px: tuple[int, int]
) -> Float[Array, "F P 2"]:
    """Return the displacement g_f(q) of positions (x, y) in each tilt image, px."""
    basis = warp_basis(deformation.model, deformation.grid, positions_px, image_size_px)
    return np.einsum("fpdn,fn->fpd", basis, deformation.coefficients)


def warp_basis(
    model: str, grid: tuple[int, int], positions_px: Float[Array, "F P 2"], image_size_px: tuple[int, int]
) -> Float[Array, "F P 2 n"]:
    """Return the displacement (x, y) at each position per unit of each coefficient."""
    if model == "linear":
        return _linear_basis(positions_px, image_size_px)
    scalar = (_spline_basis if model == "spline" else _fourier_basis)(grid, positions_px, image_size_px)
    basis = np.zeros((*positions_px.shape, 2 * scalar.shape[-1]))
    basis[..., 0, : scalar.shape[-1]] = scalar
    basis[..., 1, scalar.shape[-1] :] = scalar
    return basis


def fourier_frequencies(grid: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the frequencies (x, y) in the order of their coefficients.

    Rows are those of a transform of gh rows: the first ⌊gh/2⌋ have y = 0, 1, …; the rest have y = −gh + row
    and begin with x = 1.
    """
    columns, rows = grid[0] // 2, grid[1]
    frequencies = []
    for row in range(rows):
        positive = row < rows // 2
        first = 0 if positive and row > 0 else 1
        y = row if positive else row - rows
        frequencies += [(x, y) for x in range(first, columns + 1)]
    return frequencies


def _linear_basis(positions_px: Float[Array, "F P 2"], image_size_px: tuple[int, int]) -> Array:
    """Return the displacement (a x', b x' + c y') about the image centre."""
    x, y = np.moveaxis(positions_px - np.asarray(image_size_px) / 2, -1, 0)
    zero = np.zeros_like(x)
    return np.stack([np.stack([x, zero, zero], axis=-1), np.stack([zero, x, y], axis=-1)], axis=-2)


def _fourier_basis(grid: tuple[int, int], positions_px: Array, image_size_px: tuple[int, int]) -> Array:
    frequencies = np.asarray(fourier_frequencies(grid), dtype=np.float64).reshape(-1, 2)
    phase = np.pi * (positions_px / np.asarray(image_size_px)) @ frequencies.T
    waves = np.stack([np.cos(phase), np.sin(phase)], axis=-1)
    return waves.reshape(*phase.shape[:-1], -1)


def _spline_basis(grid: tuple[int, int], positions_px: Array, image_size_px: tuple[int, int]) -> Array:
    """Return bicubic Hermite functions: value, slope_x, slope_y, twist per node, slopes in grid units."""
    gw, gh = grid
    cell = positions_px * ((np.asarray(grid) - 1) / np.asarray(image_size_px))
    column, profile_x = _hermite(cell[..., 0], gw)
    row, profile_y = _hermite(cell[..., 1], gh)
    basis = np.zeros((*positions_px.shape[:-1], gh, gw, 4))
    index = np.indices(column.shape)
    for b in range(2):
        for a in range(2):
            vx, sx = profile_x[..., 2 * a], profile_x[..., 2 * a + 1]
            vy, sy = profile_y[..., 2 * b], profile_y[..., 2 * b + 1]
            basis[index[0], index[1], row + b, column + a] = np.stack(
                [vx * vy, sx * vy, vx * sy, sx * sy], axis=-1
            )
    return basis.reshape(*positions_px.shape[:-1], -1)


def _hermite(position: Array, nodes: int) -> tuple[Array, Array]:
    """Return the cell index, and cubic Hermite weights of value and slope at its lower and upper node."""
    cell = np.clip(np.floor(position).astype(np.int64), 0, nodes - 2)
    u = position - cell
    profile = [1 - 3 * u**2 + 2 * u**3, u - 2 * u**2 + u**3, 3 * u**2 - 2 * u**3, u**3 - u**2]
    return cell, np.stack(profile, axis=-1)


def random_warp(
    model: str,
    grid: tuple[int, int],
    amplitude_px: float,
    image_size_px: tuple[int, int],
    warps: int,
    rng: np.random.Generator,
) -> Float[Array, "warps n"]:
    """Draw coefficients of random warps with an RMS displacement over the image."""
    w, h = image_size_px
    x, y = np.meshgrid(np.linspace(0, w, 24), np.linspace(0, h, 24))
    points = np.stack([x.ravel(), y.ravel()], axis=-1)[None]
    basis = warp_basis(model, grid, points, image_size_px)[0]
    coefficients = rng.normal(size=(warps, basis.shape[-1]))
    if model == "spline":  # smaller slopes and twists keep the warp as smooth as its grid
        coefficients *= np.tile([1.0, 0.5, 0.5, 0.25], basis.shape[-1] // 4)
    displacement = np.einsum("pdn,gn->gpd", basis, coefficients)
    rms = np.sqrt(np.mean(np.sum(displacement**2, axis=-1), axis=-1))
    return coefficients * (amplitude_px / rms)[:, None]
