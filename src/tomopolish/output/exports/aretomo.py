"""AreTomo: `.aln` files.

Conventions, from AreTomo's manual and published sources (github.com/czimaginginstitute: AreTomo2,
AreTomo3) and alnfile's page (https://pypi.org/project/alnfile). There is a row per tilt image, in order
of the tilt: SEC, the image's place in the raw stack from 0; ROT, the angle of the tilt axis from y;
GMAG; TX, TY, the shift in px of the raw stack; SMEAN, SFIT, SCALE, BASE; TILT. The aligned image at X',
from its middle, is the raw image at ``Rz(ROT) X' + (TX, TY)`` from its own; middles are IMOD's, (n −
1)/2 where the first pixel's centre is 0. A point is seen at ``x cos(TILT) + z sin(TILT)``. There is no
tilt about x.

The library alnfile reads this format and does not write it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tomopolish.dataset.files import atomic_write
from tomopolish.dataset.model import TiltSeries
from tomopolish.output.exports.tilt_model import TiltModel, middle_px, pivot_of, tilt_model
from tomopolish.shapes import Float

Array = np.ndarray

_COLUMNS = "# SEC     ROT         GMAG       TX          TY      SMEAN     SFIT    SCALE     BASE     TILT"


def aretomo_model(series: TiltSeries, points_px: Float[Array, "P 3"]) -> TiltModel:
    """Return the projections of a tilt series as AreTomo can describe them: right at the mean of points."""
    return tilt_model(
        series.projections_px,
        image_centre_px=middle_px(series.image_size_px),
        volume_centre_px=middle_px(series.tomogram_size_px),
        pivot_px=pivot_of(points_px, series.tomogram_size_px),
    )


def write_aretomo(folder: Path, stem: str, model: TiltModel, image_size_px: tuple[int, int]) -> None:
    """Write `<stem>.aln`; raises RunError when that is impossible."""
    width, height = image_size_px
    with atomic_write(folder / f"{stem}.aln") as handle:
        handle.write(
            "# AreTomo Alignment / Priims bprmMn\n"
            f"# RawSize = {width} {height} {len(model.tilt_degrees)}\n"
            "# NumPatches = 0\n# AlphaOffset =     0.00\n# BetaOffset =     0.00\n"
            f"{_COLUMNS}\n"
        )
        for tilt in np.argsort(model.tilt_degrees, kind="stable"):
            tx, ty = model.shifts_px[tilt]
            handle.write(
                f"{tilt:5d}  {model.axis_degrees[tilt]:11.6f}  {1:9.5f}  {tx:12.5f}  {ty:12.5f}  "
                f"{1:7.2f}  {1:7.2f}  {1:7.2f}  {0:7.2f}  {model.tilt_degrees[tilt]:11.6f}\n"
            )
