"""napari: points and tracks as CSV files.

Points have the columns of napari's own reader and writer (``index, axis-0, axis-1, axis-2``), so that
the file opens as a Points layer when it is dropped on the window. Tracks have the order that a Tracks
layer takes (``track_id, t, z, y, x``; https://napari.org/stable/api/napari.layers.Tracks.html). Axes are
(z, y, x); coordinates are voxels of the displayed tomogram, whose first voxel's centre is 0.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tomopolish.dataset.files import atomic_write
from tomopolish.shapes import Float

Array = np.ndarray


def write_points(path: Path, positions_px: Float[Array, "P 3"], voxel_px: float = 1.0) -> None:
    """Write positions as points.

    Parameters
    ----------
    positions_px
        Tomogram frame, px.
    voxel_px
        Size of the displayed tomogram's voxels, px.

    Raises
    ------
    RunError
        when the file cannot be written.
    """
    with atomic_write(path) as handle:
        handle.write("index,axis-0,axis-1,axis-2\n")
        for index, (x, y, z) in enumerate(positions_px / voxel_px):
            handle.write(f"{index},{z:.4f},{y:.4f},{x:.4f}\n")


def write_tracks(
    path: Path,
    positions_px: Float[Array, "P 3"],
    trajectories_px: Float[Array, "P F 3"],
    pre_exposure: Float[Array, "F"],
    *,
    voxel_px: float = 1.0,
    magnification: float = 1.0,
) -> None:
    """Write trajectories as tracks; t counts tilt images in the order of exposure.

    Parameters
    ----------
    positions_px
        Start of each trajectory, tomogram frame, px.
    trajectories_px
        Offsets in each tilt image, file order; they are multiplied by `magnification`.
    pre_exposure
        Dose before each tilt image, file order.

    Raises
    ------
    RunError
        when the file cannot be written.
    """
    order = np.argsort(pre_exposure, kind="stable")
    paths = (positions_px[:, None] + magnification * trajectories_px[:, order]) / voxel_px
    with atomic_write(path) as handle:
        handle.write("track_id,t,z,y,x\n")
        for track, points in enumerate(paths):
            for t, (x, y, z) in enumerate(points):
                handle.write(f"{track},{t},{z:.4f},{y:.4f},{x:.4f}\n")
