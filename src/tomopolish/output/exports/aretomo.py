"""AreTomo: `.aln` files.

Conventions, from AreTomo's manual and published sources (github.com/czimaginginstitute: AreTomo2,
AreTomo3) and alnfile's page (https://pypi.org/project/alnfile). RawSize counts all sections of the raw
stack. A section that is left out has a line "# DarkFrame = index section tilt", whose index counts all
sections from 0 in the order of the tilt. Every other section has a row, in the order of the tilt: SEC, the
image's section in the raw stack from 0 (AreTomo3 writes sections from 1 and reads both); ROT, the angle of
the tilt axis from y; GMAG; TX, TY, the shift in px of the raw stack; SMEAN, SFIT, SCALE, BASE; TILT. The
aligned image at X', from its middle, is the raw image at ``Rz(ROT) X' + (TX, TY)`` from its middle; middles
are IMOD's, (n − 1)/2 where the first pixel's centre is 0. A point is seen at ``x cos(TILT) + z sin(TILT)``.
There is no tilt about x.

The library alnfile reads this format and does not write it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tomopolish.dataset.files import atomic_write
from tomopolish.dataset.images import MrcImages
from tomopolish.dataset.model import TiltSeries
from tomopolish.output.exports.tilt_model import TiltModel, middle_px, tilt_model
from tomopolish.shapes import Array, Float, Int

_COLUMNS = "# SEC     ROT         GMAG       TX          TY      SMEAN     SFIT    SCALE     BASE     TILT"


@dataclass(frozen=True, kw_only=True, eq=False)
class RawStack:
    """Stack that holds a tilt series' images.

    Attributes
    ----------
    size_px
        (w, h) of the images.
    rows
        Tilt images that are not left out, file order.
    sections
        Their sections, from 0.
    count
        Number of sections, including those that are not in the tilt series.
    """

    size_px: tuple[int, int]
    rows: Int[Array, "F"]
    sections: Int[Array, "F"]
    count: int

    @property
    def left_out(self) -> Int[Array, "n"]:
        """Sections that belong to no tilt image, or to a tilt image that is left out."""
        return np.setdiff1d(np.arange(self.count), self.sections)

    def tilts_are_ordered(self, tilt_degrees: Float[Array, "F"]) -> bool:
        """Return whether tilt angles only rise or only fall with the section: others can be interpolated."""
        steps = np.diff(tilt_degrees[np.argsort(self.sections, kind="stable")])
        return bool(len(steps) and ((steps > 0).all() or (steps < 0).all()))

    def all_tilts_degrees(self, tilt_degrees: Float[Array, "F"]) -> Float[Array, "n"]:
        """Return the tilt of every section; if left out, it is interpolated where possible, else 0."""
        tilts = np.zeros(self.count)
        if self.tilts_are_ordered(tilt_degrees):
            order = np.argsort(self.sections)
            known, angles = self.sections[order], tilt_degrees[order]
            step = (angles[-1] - angles[0]) / (known[-1] - known[0])
            all_of_them = np.arange(self.count)
            tilts = np.interp(all_of_them, known, angles)
            tilts += step * (np.minimum(all_of_them - known[0], 0) + np.maximum(all_of_them - known[-1], 0))
        tilts[self.sections] = tilt_degrees
        return tilts


def raw_stack(series: TiltSeries) -> RawStack:
    """Return the stack of a tilt series; images in separate files form a stack in the order of the table."""
    images = series.images
    rows = np.flatnonzero(series.usable)
    places = [images.sections[row] for row in rows] if isinstance(images, MrcImages) else []
    found = [place for place in places if place is not None]
    if len({file.path for file, _ in found}) != 1:
        return RawStack(size_px=images.size_px, rows=rows, sections=rows, count=len(series))
    sections = np.array([section for _, section in found])
    return RawStack(size_px=images.size_px, rows=rows, sections=sections, count=found[0][0].shape[0])


def aretomo_model(series: TiltSeries, points_px: Float[Array, "P 3"]) -> TiltModel:
    """Return the projections of a tilt series in AreTomo's model, exact at the mean of the points."""
    return tilt_model(series, middle_px, points_px)


def write_aretomo(folder: Path, stem: str, model: TiltModel, stack: RawStack) -> None:
    """Write `<stem>.aln`; raises RunError when the file cannot be written."""
    width, height = stack.size_px
    used = model.tilt_degrees[stack.rows]
    tilts = stack.all_tilts_degrees(used)
    place = np.argsort(np.argsort(tilts, kind="stable"), kind="stable")
    with atomic_write(folder / f"{stem}.aln") as handle:
        handle.write(
            "# AreTomo Alignment / Priims bprmMn\n"
            f"# RawSize = {width} {height} {stack.count}\n"
            "# NumPatches = 0\n"
        )
        for section in sorted(stack.left_out.tolist(), key=lambda section: int(place[section])):
            handle.write(f"# DarkFrame =  {place[section]:4d} {section:4d} {tilts[section]:8.2f}\n")
        handle.write(f"# AlphaOffset =     0.00\n# BetaOffset =     0.00\n{_COLUMNS}\n")
        for i in np.argsort(used, kind="stable"):
            tilt = stack.rows[i]
            tx, ty = model.shifts_px[tilt]
            handle.write(
                f"{stack.sections[i]:5d}  {model.axis_degrees[tilt]:11.6f}  {1:9.5f}  {tx:12.5f}  "
                f"{ty:12.5f}  {1:7.2f}  {1:7.2f}  {1:7.2f}  {0:7.2f}  {model.tilt_degrees[tilt]:11.6f}\n"
            )
