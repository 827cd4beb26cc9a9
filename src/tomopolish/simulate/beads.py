"""Gold beads in a simulated tomogram: spheres that are imaged as particles are, without radiation damage."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.ndimage

from tomopolish.dataset.model import Particles, TiltSeries
from tomopolish.settings.simulation import SimulationSettings
from tomopolish.shapes import Array, Float, Float32
from tomopolish.simulate.acquisition import optics_groups
from tomopolish.simulate.painter import TiltPainter
from tomopolish.simulate.scene import Scene, random_stream
from tomopolish.simulate.slices import slice_volume
from tomopolish.simulate.specimen import random_directions
from tomopolish.simulate.warp import positions_in_images_px

AMPLITUDE_CONTRAST = 0.4
"""Of gold, which absorbs much more than protein; phase and defocus make the fringes around a bead."""

_EDGE_PX = 0.7


def bead_positions_px(
    settings: SimulationSettings, index: int, scene: Scene, diameter_px: float
) -> Float[Array, "B 3"]:
    """Draw the beads of tomogram `index`: in turn anywhere in the specimen, and touching a random particle.

    Parameters
    ----------
    diameter_px
        Diameter of the particles.
    """
    rng = random_stream(settings.seed, "beads", index)
    count, pixel = settings.dirt.beads, settings.acquisition.pixel_size_angstrom
    half = np.asarray(scene.tomogram_size_px) / 2
    reach = np.array([half[0], half[1], settings.specimen.thickness_angstrom / pixel / 2])
    positions: Array = half + reach * rng.uniform(-1, 1, (count, 3))
    direction = random_directions(count, rng)
    apart = (diameter_px + settings.dirt.bead_diameter_angstrom / pixel) / 2
    beside = scene.positions_px[rng.integers(0, len(scene.positions_px), count)] + apart * direction
    positions[1::2] = beside[1::2]
    return positions


def bead_painter(
    settings: SimulationSettings, true_series: TiltSeries, scene: Scene, positions_px: Float[Array, "B 3"]
) -> TiltPainter:
    """Return the painter of the beads; the middle of each is as dark as the settings say."""
    count, tilts = len(positions_px), len(true_series)
    diameter = settings.dirt.bead_diameter_angstrom / settings.acquisition.pixel_size_angstrom
    darkest = settings.dirt.bead_contrast * settings.noise_sigma
    number = np.arange(count)
    return TiltPainter(
        volume=slice_volume(_sphere(diameter), darkest / (AMPLITUDE_CONTRAST * diameter)),
        series=replace(
            true_series,
            microscope=replace(true_series.microscope, amplitude_contrast=AMPLITUDE_CONTRAST),
            pre_exposure=np.zeros(tilts),
        ),
        particles=Particles(
            rows=number,
            names=tuple(f"bead{i}" for i in number),
            positions_px=positions_px,
            rotations=np.broadcast_to(np.eye(3), (count, 3, 3)).copy(),
            half_set=np.zeros(count, dtype=np.int64),
            optics_group=np.zeros(count, dtype=np.int64),
            optics_groups=optics_groups(settings.acquisition),
        ),
        positions_2d_px=positions_in_images_px(
            scene.projections_px,
            np.repeat(positions_px[None], tilts, axis=0),
            scene.deformation,
            scene.image_size_px,
        ),
    )


def _sphere(diameter_px: float) -> Float32[Array, "s s s"]:
    """Return a ball of density 1 with a soft edge."""
    size = 2 * int(np.ceil(diameter_px / 2 + 5))
    offset = np.arange(size) - size // 2
    radius = np.sqrt(offset[:, None, None] ** 2 + offset[:, None] ** 2 + offset**2)
    ball = np.clip(diameter_px / 2 + 0.5 - radius, 0, 1)
    return np.asarray(scipy.ndimage.gaussian_filter(ball, _EDGE_PX), dtype=np.float32)
