"""IMOD: `.xf`, `.tlt` and `.xtilt` files.

Conventions, from the manual pages of newstack, xftoxg and tilt (https://bio3d.colorado.edu/imod/doc/man)
and the sources of these programs:

- `.xf`: a line ``A11 A12 A21 A22 DX DY`` per image of the stack takes an image coordinate to the aligned
  one, ``X' = A11 X + A12 Y + DX`` and ``Y' = A21 X + A22 Y + DY``, both from the image's middle: (n − 1)/2
  where the first pixel's centre is 0. Shifts are px of the stack.
- `.tlt`: the tilt angle of each image of the stack, degrees. Aligned images are tilted about y. In the
  reconstruction as `trimvol -rx` turns it (that is, without a change of hand), a point is seen at
  ``x cos(tilt) + z sin(tilt)`` from the middle.
- `.xtilt`: for the entry XTILTFILE, the specimen's tilt about x in each image, degrees: applied
  before the tilt, with the same sign as XAXISTILT (which levels the specimen when it equals its slope).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tomopolish.dataset.files import atomic_write
from tomopolish.dataset.model import TiltSeries
from tomopolish.output.exports.tilt_model import TiltModel, middle_px, tilt_model
from tomopolish.physics.geometry import rotation_z
from tomopolish.shapes import Array, Float


def imod_model(series: TiltSeries) -> TiltModel:
    """Return the projections of a tilt series in IMOD's model, which is exact for rotations and shifts."""
    return tilt_model(series, middle_px)


def write_imod(folder: Path, stem: str, model: TiltModel) -> None:
    """Write `<stem>.xf`, `.tlt` and `.xtilt`, a line per tilt image in file order.

    Raises RunError when a file cannot be written.
    """
    write_transforms(folder / f"{stem}.xf", model)
    write_angles(folder / f"{stem}.tlt", model.tilt_degrees)
    write_angles(folder / f"{stem}.xtilt", model.pitch_degrees)


def transforms(model: TiltModel) -> Float[Array, "F 6"]:
    """Return A11, A12, A21, A22, DX, DY of every tilt image: undo the shift, then turn the axis to y."""
    turn = rotation_z(-model.axis_degrees)[:, :2, :2]
    shift = -np.einsum("fij,fj->fi", turn, model.shifts_px)
    return np.concatenate([turn.reshape(-1, 4), shift], axis=1)


def write_transforms(path: Path, model: TiltModel) -> None:
    """Write a `.xf` file; raises RunError when it cannot be written."""
    with atomic_write(path) as handle:
        for *matrix, dx, dy in transforms(model):
            handle.write("".join(f"{value:13.9f}" for value in matrix) + f"{dx:14.5f}{dy:14.5f}\n")


def write_angles(path: Path, angles_degrees: Float[Array, "F"]) -> None:
    """Write a `.tlt` or `.xtilt` file; raises RunError when it cannot be written."""
    with atomic_write(path) as handle:
        handle.writelines(f"{angle:12.6f}\n" for angle in angles_degrees)
