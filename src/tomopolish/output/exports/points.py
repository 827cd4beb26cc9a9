"""Particles with orientations as JSON: copick's picks, and annotations of the CryoET Data Portal.

- copick (https://copick.github.io/copick): an object with ``pickable_object_name``, ``user_id``,
  ``session_id`` ("0": made by a tool), ``run_name``, ``voxel_spacing``, ``unit`` and ``points``; each has a
  ``location``, a 4×4 ``transformation_`` from the object's space to the tomogram's, ``instance_id`` and
  ``score``. In a project the file is ``ExperimentRuns/<run>/Picks/<user>_<session>_<object>.json``. ArtiaX
  reads it, too.
- CryoET Data Portal (https://chanzuckerberg.github.io/cryoet-data-portal): one JSON object a line, of type
  ``orientedPoint``, with a ``location`` in voxels and an ``xyz_rotation_matrix``, which is applied to the
  instance's volume.

Both matrices are the rotation from the particle to the tomogram (docs/dev/conventions.md, Geometry). The
first voxel's centre is 0.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tomopolish.dataset.files import atomic_write
from tomopolish.shapes import Array, Float

OBJECT, USER, SESSION = "particle", "tomopolish", "0"
PICKS_NAME = f"{USER}_{SESSION}_{OBJECT}.json"
_DIGITS = 6


def picks_path(run_name: str) -> Path:
    """Return the path of a run's picks within a copick project."""
    return Path("ExperimentRuns") / run_name / "Picks" / PICKS_NAME


def write_picks(
    path: Path,
    run_name: str,
    positions_angstrom: Float[Array, "P 3"],
    rotations: Float[Array, "P 3 3"],
    voxel_angstrom: float,
) -> None:
    """Write particles as copick's picks; raises RunError when the file cannot be written."""
    points = []
    for number, (position, rotation) in enumerate(zip(positions_angstrom, rotations, strict=True)):
        matrix = np.eye(4)
        matrix[:3, :3] = rotation
        points.append(
            {
                "location": _location(position),
                "transformation_": np.round(matrix, _DIGITS).tolist(),
                "instance_id": number,
                "score": 1.0,
            }
        )
    content = {
        "pickable_object_name": OBJECT,
        "user_id": USER,
        "session_id": SESSION,
        "run_name": run_name,
        "voxel_spacing": voxel_angstrom,
        "unit": "angstrom",
        "points": points,
        "trust_orientation": True,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as handle:
        json.dump(content, handle, indent=1)


def write_annotation(
    path: Path, positions_voxel: Float[Array, "P 3"], rotations: Float[Array, "P 3 3"]
) -> None:
    """Write particles as an annotation of oriented points; raises RunError when that fails."""
    with atomic_write(path) as handle:
        for position, rotation in zip(positions_voxel, rotations, strict=True):
            point = {
                "type": "orientedPoint",
                "location": _location(position),
                "xyz_rotation_matrix": np.round(rotation, _DIGITS).tolist(),
            }
            handle.write(f"{json.dumps(point)}\n")


def _location(position: Float[Array, "3"]) -> dict[str, float]:
    return dict(zip("xyz", map(float, np.round(position, 4)), strict=True))
