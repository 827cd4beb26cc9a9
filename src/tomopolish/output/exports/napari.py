"""napari: points and tracks as CSV files.

Points have the columns of napari's own reader and writer (``index, axis-0, axis-1, axis-2``), so that
the file opens as a Points layer when it is dropped on the window. Tracks have the order that a Tracks
layer takes (``track_id, t, z, y, x``; https://napari.org/stable/api/napari.layers.Tracks.html). Axes are
(z, y, x); coordinates are voxels of the displayed tomogram, whose first voxel's centre is 0.
"""

from __future__ import annotations

from pathlib import Path

from tomopolish.dataset.files import atomic_write
from tomopolish.output.trails import Trails
from tomopolish.shapes import Array, Float


def write_points(path: Path, positions_px: Float[Array, "P 3"], voxel_px: float = 1.0) -> None:
    """Write positions, px, as points, in voxels of `voxel_px` px of the displayed tomogram.

    Raises RunError when the file cannot be written.
    """
    with atomic_write(path) as handle:
        handle.write("index,axis-0,axis-1,axis-2\n")
        for index, (x, y, z) in enumerate(positions_px / voxel_px):
            handle.write(f"{index},{z:.4f},{y:.4f},{x:.4f}\n")


def write_tracks(path: Path, lines: Trails, voxel_px: float = 1.0) -> None:
    """Write trajectories, px, as tracks in such voxels; t counts tilt images in the order of exposure.

    Raises RunError when the file cannot be written.
    """
    with atomic_write(path) as handle:
        handle.write("track_id,t,z,y,x\n")
        for track, points in enumerate(lines.points / voxel_px):
            for t, (x, y, z) in enumerate(points):
                handle.write(f"{track},{t},{z:.4f},{y:.4f},{x:.4f}\n")


SCRIPT = '''"""Shows an exported tomogram in napari: python open.py NAME [TOMOGRAM.mrc]"""

import sys
from pathlib import Path

import mrcfile
import napari
import numpy as np

folder, name = Path(__file__).parent, sys.argv[1]
viewer = napari.Viewer(ndisplay=3)
if len(sys.argv) > 2:
    viewer.add_image(mrcfile.read(sys.argv[2]), name=name)
points = np.loadtxt(folder / "points" / f"{name}.csv", delimiter=",", skiprows=1, ndmin=2)
viewer.add_points(points.reshape(-1, 4)[:, 1:], name="particles", size=10, face_color="orange")
tracks = folder / "tracks" / f"{name}.csv"
if tracks.exists():
    viewer.add_tracks(np.loadtxt(tracks, delimiter=",", skiprows=1, ndmin=2), name="motion")
napari.run()
'''


def write_script(path: Path) -> None:
    """Write a Python script that shows the exported files of a tomogram; raises RunError when that fails."""
    with atomic_write(path) as handle:
        handle.write(SCRIPT)
