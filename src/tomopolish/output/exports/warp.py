"""Warp and M: the `.xf` and `.tlt` files that `WarpTools ts_import_alignments` reads.

Conventions, from warpylib (https://pypi.org/project/warpylib): the files have IMOD's form, but Warp
counts image and volume from half their size, n/2 where the first pixel's centre is 0; its tilt angles
turn the other way (z to x is negative); and there is no tilt about x. The import takes the angles of a
`.tlt` file as they are, so they must have Warp's sign for a tomogram to keep its z axis and particles their
positions.

A tilt series' XML file contains much else (movies, CTF, doses) that only Warp can provide, so Warp has to
write it.
"""

from __future__ import annotations

from pathlib import Path

from tomopolish.dataset.model import TiltSeries
from tomopolish.output.exports.imod import write_angles, write_transforms
from tomopolish.output.exports.tilt_model import TiltModel, half_size_px, tilt_model
from tomopolish.shapes import Array, Float

SUFFIX = ".tomostar"
"""Suffix that WarpTools adds to the names of exported tomograms, but not to the files of alignments."""


def warp_model(series: TiltSeries, points_px: Float[Array, "P 3"]) -> TiltModel:
    """Return the projections of a tilt series in Warp's model, which are exact at the mean of the points."""
    return tilt_model(series, half_size_px, points_px)


def write_warp(folder: Path, stem: str, model: TiltModel) -> None:
    """Write `<stem>.xf` and `<stem>.tlt`, in file order; raises RunError when a file cannot be written."""
    write_transforms(folder / f"{stem}.xf", model)
    write_angles(folder / f"{stem}.tlt", -model.tilt_degrees)
