"""Positions and rotations of the particles."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from tomopolish.errors import InputError
from tomopolish.settings.simulation import SpecimenSettings
from tomopolish.shapes import Array, Float

_ROUNDS = 400


def tomogram_size_px(
    settings: SpecimenSettings, image_size_px: tuple[int, int], box_px: int, pixel_size_angstrom: float
) -> tuple[int, int, int]:
    """Return (W, H, D) of the files."""
    if settings.tomogram_size_px is not None:
        return settings.tomogram_size_px
    depth = int(np.ceil(settings.thickness_angstrom / pixel_size_angstrom)) + 2 * box_px
    return (*image_size_px, depth)


def random_positions_px(
    settings: SpecimenSettings,
    size_px: tuple[int, int, int],
    *,
    box_px: int,
    min_distance_px: float,
    pixel_size_angstrom: float,
    rng: np.random.Generator,
    occupied_px: Float[Array, "Q 3"] | None = None,
) -> Float[Array, "P 3"]:
    """Draw positions within the specimen, at least the minimal distance apart and from occupied positions.

    Raises InputError when the particles do not fit.
    """
    margin = box_px / 2 if settings.edge_margin_px is None else settings.edge_margin_px
    half = np.asarray(size_px, dtype=np.float64) / 2
    thickness = settings.thickness_angstrom / pixel_size_angstrom
    reach = np.array([half[0] - margin, half[1] - margin, thickness / 2])
    if np.min(reach) < 0:
        raise InputError(
            f"simulation: a margin of {margin:g} px leaves nothing of a tomogram of {size_px} px; "
            "give a larger image or a smaller margin"
        )
    count = settings.particles
    placed = np.empty((0, 3))
    for _ in range(_ROUNDS):
        candidates = half + reach * rng.uniform(-1, 1, (2 * (count - len(placed)) + 8, 3))
        if occupied_px is not None:
            candidates = candidates[cKDTree(occupied_px).query(candidates)[0] >= min_distance_px]
        placed = _add_apart(placed, candidates, min_distance_px)[:count]
        if len(placed) == count:
            return placed
    raise InputError(
        f"simulation: only {len(placed)} of {count} particles fit {min_distance_px:g} px from each other; "
        "give fewer particles, a smaller distance, larger images or a thicker specimen"
    )


def _add_apart(
    placed: Float[Array, "P 3"], candidates: Float[Array, "C 3"], distance_px: float
) -> Float[Array, "Q 3"]:
    """Add the candidates, in their order, that have the distance from all earlier ones."""
    if len(placed):
        nearest = cKDTree(placed).query(candidates)[0]
        candidates = candidates[nearest >= distance_px]
    conflicts = cKDTree(candidates).query_pairs(distance_px, output_type="ndarray") if len(candidates) else []
    earlier: list[list[int]] = [[] for _ in candidates]
    for i, j in conflicts:
        earlier[max(i, j)].append(min(i, j))
    accepted = np.ones(len(candidates), dtype=bool)
    for i, neighbours in enumerate(earlier):
        accepted[i] = not any(accepted[j] for j in neighbours)
    return np.concatenate([placed, candidates[accepted]])


def random_directions(count: int, rng: np.random.Generator) -> Float[Array, "n 3"]:
    """Draw unit vectors, uniform over the sphere."""
    vectors = rng.normal(size=(count, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def random_rotations(count: int, rng: np.random.Generator) -> Float[Array, "n 3 3"]:
    """Draw uniform rotation matrices, from normal quaternions."""
    w, x, y, z = (q := rng.normal(size=(4, count))) / np.linalg.norm(q, axis=0)
    return np.moveaxis(
        np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
            ]
        ),
        -1,
        0,
    )
