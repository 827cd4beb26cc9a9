"""Helpers of several tests of the simulator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tomopolish.simulate.painter import TiltPainter
from tomopolish.simulate.parts import SimulationSettings
from tomopolish.simulate.tomogram import ImageStack


def varied(settings: SimulationSettings, part: str, **changes: object) -> SimulationSettings:
    """Return settings with some values of one part replaced."""
    return replace(settings, **{part: replace(getattr(settings, part), **changes)})


def half_plane_multiplicity(box: int) -> np.ndarray:
    """How often each column of a half plane occurs in the full plane."""
    weight = np.full(box // 2 + 1, 2.0)
    weight[[0, -1]] = 1.0
    return weight


def spectrum_alone(painter: TiltPainter, tilt: int, particle: int, box_px: int) -> np.ndarray:
    """Transform Σ I exp(−2πi k·x) of what one particle adds to a tilt image, negated, in a box around it."""
    centre = painter.positions_2d_px[tilt, particle]
    in_box = centre - np.floor(centre + 0.5) + box_px // 2
    count = len(painter.series)
    images = ImageStack(stack=np.zeros((count, box_px, box_px), np.float32))
    particles = painter.particles
    alone = replace(
        painter,
        series=replace(painter.series, images=images),
        particles=replace(
            particles,
            rows=particles.rows[[particle]],
            names=(particles.names[particle],),
            positions_px=particles.positions_px[[particle]],
            rotations=particles.rotations[[particle]],
            half_set=particles.half_set[[particle]],
            optics_group=particles.optics_group[[particle]],
        ),
        positions_2d_px=np.tile(in_box, (count, 1, 1)),
    )
    return -np.fft.rfft2(alone.paint(tilt))
