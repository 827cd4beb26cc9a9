"""Windows by which the premises of a verdict are tested: mirrored references, and bands of resolution.

A few held-out pairs are compared again with the half map to which their particle did not contribute: with its
mirror images, and with the band-limited map for each of `BANDS` bands of resolution.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tomopolish.imaging.devices import Correlator
from tomopolish.imaging.held_out import CheckWindows
from tomopolish.imaging.windows import TiltTask
from tomopolish.shapes import Array, Bool, Int

MOST_CHECKED = 120
MOST_IN_A_TILT = 15
"""Maximum number of pairs of a tomogram, and of one of its tilt images, that are compared again: few images
with several pairs each take less time than many with few."""
EVENLY = (np.sqrt(5) - 1) / 2
"""Multiples of the inverse golden ratio, modulo 1, order tilt images so that the first ones are far apart."""
MIRRORS = np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1], [-1, -1, -1]], dtype=np.float32)
"""Signs of the map's axes in each of its mirror images."""
BANDS = ((0.0, 0.35), (0.35, 0.65), (0.65, 2.0))
"""Bands of frequency, over the highest in use."""
VARIANTS = len(MIRRORS) + len(BANDS)


def no_checks(held_out: Bool[Array, "F P"], samples: int) -> CheckWindows | None:
    """Return windows of zeros for evenly spread held-out pairs, to be filled image by image."""
    order = np.argsort(EVENLY * np.arange(len(held_out)) % 1)
    pairs = np.array(
        [(tilt, p) for tilt in order for p in np.flatnonzero(held_out[tilt])[:MOST_IN_A_TILT]], dtype=np.int64
    ).reshape(-1, 2)[:MOST_CHECKED]
    if not len(pairs):
        return None
    return CheckWindows(
        tilts=pairs[:, 0],
        particles=pairs[:, 1],
        values=np.zeros((VARIANTS, len(pairs), samples, samples), dtype=np.float32),
        power=np.zeros((VARIANTS, len(pairs))),
    )


def fill_checks(checks: CheckWindows | None, task: TiltTask, correlator: Correlator) -> None:
    """Compare the pairs of one tilt image with each variant."""
    if checks is None:
        return
    place = np.flatnonzero(checks.tilts == task.tilt)
    if not len(place):
        return
    first = 0
    for variant in variants(task, checks.particles[place]):
        values = np.zeros((len(variant.particles), *checks.values.shape[2:]), dtype=np.float32)
        power = np.zeros(len(values))
        correlator.correlate_tilt(variant, values, power)
        part = slice(first, first := first + len(values) // len(place))
        checks.values[part, place] = values.reshape(-1, len(place), *values.shape[1:])
        checks.power[part, place] = power.reshape(-1, len(place))


def variants(task: TiltTask, members: Int[Array, "M"]) -> list[TiltTask]:
    """Return the comparisons of some particles in a tilt image with each variant of the other half map.

    The first comparison is that with all mirror images, one after another.
    """
    chosen = _of_particles(task, members)
    repeated = _of_particles(task, np.tile(members, len(MIRRORS)))
    signs = np.repeat(MIRRORS, len(members), axis=0)[:, None, :]
    mirrored = replace(repeated, geometry=replace(repeated.geometry, views=repeated.geometry.views * signs))
    shared = task.frequencies
    _, rows, columns = shared.weight.shape
    radius = np.hypot(np.arange(rows)[:, None], np.arange(columns)[None, :])
    highest = max(float(radius[shared.signal_weight.any(axis=0)].max(initial=0.0)), 1.0)
    bands = []
    for low, high in BANDS:
        inside = ((radius > low * highest) & (radius <= high * highest)).astype(np.float32)
        limited = replace(shared, weight=shared.weight * inside, signal_weight=shared.signal_weight * inside)
        bands.append(replace(chosen, frequencies=limited))
    return [mirrored, *bands]


def _of_particles(task: TiltTask, members: Int[Array, "M"]) -> TiltTask:
    """Return the comparison of some particles only, with the other half map."""
    geometry, particles = task.geometry, task.particles
    return replace(
        task,
        geometry=replace(
            geometry,
            anchors_px=geometry.anchors_px[:, members],
            views=geometry.views[:, members],
            defocus_offset_angstrom=geometry.defocus_offset_angstrom[:, members],
            visible=geometry.visible[:, members],
        ),
        particles=replace(
            particles.subset(members), half_set=1 - particles.half_set[members], trajectories_px=None
        ),
    )
