"""Which tilt images of a simulation are blank, covered or displaced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tomopolish.errors import InputError
from tomopolish.settings.dirt import DirtSettings
from tomopolish.shapes import Array, Float
from tomopolish.simulate.kinds import TiltKind


def draw_tilt_kinds(
    dirt: DirtSettings, angles_degrees: Float[Array, "F"], streams: Mapping[TiltKind, np.random.Generator]
) -> tuple[TiltKind, ...]:
    """Draw the kind of each tilt image, file order; every image has one kind.

    Covered images are among the more tilted half, as bars and edges come into view with the tilt. Raises
    InputError when there are too few tilt images.
    """
    tilts = len(angles_degrees)
    tilted = np.argsort(-np.abs(angles_degrees), kind="stable")[: (tilts + 1) // 2]
    kinds = [TiltKind.GOOD] * tilts
    for kind, count, candidates in (
        (TiltKind.COVERED, dirt.covered_images, tilted),
        (TiltKind.DISPLACED, dirt.displaced_images, np.arange(tilts)),
        (TiltKind.BLANK, dirt.blank_images, np.arange(tilts)),
    ):
        free = [int(tilt) for tilt in streams[kind].permutation(candidates) if not kinds[tilt].is_special]
        if count > len(free):
            raise InputError(
                f"simulation: {count} of {tilts} tilt images cannot be {kind.value}: only {len(free)} can; "
                "give fewer"
            )
        for tilt in free[:count]:
            kinds[tilt] = kind
    return tuple(kinds)


def displacements_px(
    dirt: DirtSettings, kinds: Sequence[TiltKind], rng: np.random.Generator
) -> Float[Array, "F 2"]:
    """Return how far each tilt image is off besides the usual errors; zero except for displaced images."""
    direction = rng.uniform(0, 2 * np.pi, len(kinds))
    distance = dirt.displaced_by_px * np.array([kind is TiltKind.DISPLACED for kind in kinds])
    return distance[:, None] * np.stack([np.cos(direction), np.sin(direction)], axis=-1)
