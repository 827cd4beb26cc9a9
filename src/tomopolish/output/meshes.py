"""Particle trajectories as meshes that ParaView, ChimeraX or Blender open: binary PLY, tubes of triangles.

Viewers ignore the `edge` elements of PLY files, so a trajectory is a thin tube with three sides. Vertices
carry the exposure as a colour. Coordinates are px of the tomogram frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tomopolish.dataset.files import atomic_path, unique_file_names
from tomopolish.dataset.model import Alignment
from tomopolish.dataset.project import Dataset
from tomopolish.output.trails import Trails, trails
from tomopolish.shapes import Array, Float, Int

FOLDER_NAME = "Trajectories"
MAGNIFICATIONS = (1, 8)
SIDES = 3
MIN_RADIUS_PX = 0.1

_VERTEX = np.dtype([("position", "<f4", 3), ("colour", "u1", 3)])
_FACE = np.dtype([("count", "u1"), ("corners", "<i4", 3)])


def tube_mesh(
    points_px: Float[Array, "P F 3"], radius_px: float
) -> tuple[Float[Array, "P V 3"], Int[Array, "P T 3"]]:
    """Lay a closed tube around each polyline.

    A ring of `SIDES` vertices surrounds each point, and a tip beyond each end closes the tube: a
    particle that does not move is a small double pyramid. Rings follow the line without twist.

    Returns
    -------
    Vertices (tip, rings in order, tip) and triangles, counter-clockwise seen from outside, whose corners are
    indices into the vertices of all tubes.
    """
    tubes, points, _ = points_px.shape
    directions, normals = _frames(points_px)
    sideways = np.cross(directions, normals)
    angle = 2 * np.pi * np.arange(SIDES) / SIDES
    around = (
        np.cos(angle)[:, None] * normals[:, :, None, :] + np.sin(angle)[:, None] * sideways[:, :, None, :]
    )
    rings = (points_px[:, :, None, :] + radius_px * around).reshape(tubes, points * SIDES, 3)
    first = points_px[:, :1] - radius_px * directions[:, :1]
    last = points_px[:, -1:] + radius_px * directions[:, -1:]
    vertices = np.concatenate([first, rings, last], axis=1)
    offsets = np.arange(tubes) * vertices.shape[1]
    return vertices, _triangles(points)[None] + offsets[:, None, None]


def write_trajectory_mesh(path: Path, lines: Trails) -> None:
    """Write particles' trajectories, px, as a binary PLY file; raises RunError when it cannot be written."""
    vertices, triangles = tube_mesh(lines.points, lines.radius(MIN_RADIUS_PX))
    colours = lines.colours
    by_vertex = np.concatenate([colours[:1], np.repeat(colours, SIDES, axis=0), colours[-1:]])
    vertex_rows = np.empty(vertices.shape[0] * vertices.shape[1], dtype=_VERTEX)
    vertex_rows["position"] = vertices.reshape(-1, 3)
    vertex_rows["colour"] = np.tile(by_vertex, (len(vertices), 1))
    face_rows = np.empty(triangles.shape[0] * triangles.shape[1], dtype=_FACE)
    face_rows["count"] = 3
    face_rows["corners"] = triangles.reshape(-1, 3)
    with atomic_path(path) as temporary, temporary.open("wb") as handle:
        handle.write(_header(len(vertex_rows), len(face_rows), lines.magnification))
        handle.write(vertex_rows.tobytes())
        handle.write(face_rows.tobytes())


def write_trajectory_meshes(
    folder: Path,
    stem: str,
    positions_px: Float[Array, "P 3"],
    trajectories_px: Float[Array, "P F 3"],
    pre_exposure: Float[Array, "F"],
) -> list[Path]:
    """Write `Trajectories/<stem>_x1.ply` and `_x8.ply` into an output folder, and return their paths."""
    paths = []
    for magnification in MAGNIFICATIONS:
        path = folder / FOLDER_NAME / f"{stem}_x{magnification}.ply"
        write_trajectory_mesh(path, trails(positions_px, trajectories_px, pre_exposure, magnification))
        paths.append(path)
    return paths


def write_meshes(folder: Path, dataset: Dataset, alignments: Mapping[str, Alignment]) -> None:
    """Write the meshes of each tomogram with refined motion; raises RunError when that fails."""
    stems = unique_file_names(dataset.tomogram_names)
    for name, alignment in alignments.items():
        if alignment.trajectories_px is not None:
            exposure = dataset.tomograms.load(name).pre_exposure
            write_trajectory_meshes(
                folder, stems[name], alignment.positions_px, alignment.trajectories_px, exposure
            )


def _frames(points_px: Float[Array, "P F 3"]) -> tuple[Float[Array, "P F 3"], Float[Array, "P F 3"]]:
    """Return the direction of each polyline at its points, and a unit normal that does not twist along it."""
    steps = np.diff(points_px, axis=1)
    lengths = np.linalg.norm(steps, axis=-1, keepdims=True)
    steps = np.divide(steps, lengths, out=np.zeros_like(steps), where=lengths > 0)
    none = np.zeros_like(points_px[:, :1])
    arriving = np.concatenate([none, steps], axis=1)
    leaving = np.concatenate([steps, none], axis=1)
    directions = np.empty_like(points_px)
    normals = np.empty_like(points_px)
    direction = np.broadcast_to([0.0, 0.0, 1.0], points_px[:, 0].shape)
    normal = np.broadcast_to([1.0, 0.0, 0.0], points_px[:, 0].shape)
    for point in range(points_px.shape[1]):
        # Half-way between the two segments; the last known direction at a reversal, and where nothing moves.
        direction = _unit(arriving[:, point] + leaving[:, point], _unit(leaving[:, point], direction))
        across = normal - np.sum(normal * direction, axis=-1, keepdims=True) * direction
        normal = _unit(across, _any_normal(direction))
        directions[:, point], normals[:, point] = direction, normal
    return directions, normals


def _unit(vectors: Float[Array, "P 3"], otherwise: Float[Array, "P 3"]) -> Float[Array, "P 3"]:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    sound = length > 1e-6
    return np.where(sound, vectors / np.where(sound, length, 1.0), otherwise)


def _any_normal(directions: Float[Array, "P 3"]) -> Float[Array, "P 3"]:
    axis = np.eye(3)[np.argmin(np.abs(directions), axis=-1)]
    across = np.cross(directions, axis)
    unit: Array = across / np.linalg.norm(across, axis=-1, keepdims=True)
    return unit


def _triangles(points: int) -> Int[Array, "T 3"]:
    """Return the triangles of a tube along `points` points, as indices of its vertices."""
    side = np.arange(SIDES)
    following = (side + 1) % SIDES
    rings = 1 + SIDES * np.arange(points - 1)[:, None]
    near, near_next = rings + side, rings + following
    far, far_next = near + SIDES, near_next + SIDES
    last = 1 + SIDES * (points - 1)
    tip, end = np.zeros(SIDES, dtype=int), np.full(SIDES, 1 + SIDES * points)
    parts = [
        np.stack([tip, 1 + following, 1 + side], axis=-1),
        np.stack([near, near_next, far_next], axis=-1).reshape(-1, 3),
        np.stack([near, far_next, far], axis=-1).reshape(-1, 3),
        np.stack([last + side, last + following, end], axis=-1),
    ]
    return np.concatenate(parts)


def _header(vertices: int, faces: int, magnification: float) -> bytes:
    lines = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment particle trajectories, px, motion x{magnification:g}, coloured by exposure",
        f"element vertex {vertices}",
        *[f"property float {axis}" for axis in "xyz"],
        *[f"property uchar {channel}" for channel in ("red", "green", "blue")],
        f"element face {faces}",
        "property list uchar int vertex_indices",
        "end_header",
        "",
    ]
    return "\n".join(lines).encode("ascii")
