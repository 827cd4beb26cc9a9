"""Where the input geometry expects particles in the tilt images, trajectories and deformation included."""

from __future__ import annotations

import numpy as np

from tomopolish.dataset.model import Particles, TiltSeries
from tomopolish.imaging.windows import PairGeometry, pair_geometry
from tomopolish.models.deformation import deformation_from
from tomopolish.shapes import Bool

Array = np.ndarray


def input_geometry(
    series: TiltSeries, particles: Particles, box_px: int, taking_part: Bool[Array, "F"]
) -> PairGeometry:
    """Return where every particle is expected, px; `taking_part` marks the tilt images that are used."""
    geometry = pair_geometry(series, particles, box_px, taking_part)
    if series.deformation is None:
        return geometry
    model, coefficients = deformation_from(series.deformation, series.image_size_px)
    warp_px = model.displacement_px(geometry.anchors_px, coefficients)
    return pair_geometry(series, particles, box_px, taking_part, warp_px)
