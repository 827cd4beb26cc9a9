"""Pairs that are held out of a fit in order to judge it (docs/evidence.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from tomopolish.shapes import Array, Bool, Float, Float32, Int

SHARE = 0.1
LARGEST_SHARE = 0.25
ENOUGH = 60
"""Number of pairs to hold out where `SHARE` yields fewer, up to `LARGEST_SHARE` of the pairs."""
MOST_HELD_OUT = 2000
"""Maximum number of held-out pairs: more would only cost memory."""

LEFT_PER_PARTICLE = 3
LEFT_PER_TILT = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOutWindows:
    """Windows of held-out pairs, computed with the half map to which their particle did not contribute.

    Attributes
    ----------
    tilts, particles
        Tilt image and particle of each pair.
    values, power
        As in `CorrelationWindows`, one row per pair.
    """

    tilts: Int[Array, "H"]
    particles: Int[Array, "H"]
    values: Float32[Array, "H n n"]
    power: Float[Array, "H"]

    def __len__(self) -> int:
        return len(self.tilts)

    def of_tilts(self, usable: Bool[Array, "F"]) -> HeldOutWindows | None:
        """Return the pairs in usable tilt images; None where there are none."""
        return self._chosen(usable[self.tilts])

    def among_pairs(self, usable: Bool[Array, "F P"]) -> HeldOutWindows | None:
        """Return those of usable pairs; None where there are none."""
        return self._chosen(usable[self.tilts, self.particles])

    def _chosen(self, chosen: Bool[Array, "H"]) -> HeldOutWindows | None:
        return self.at(np.flatnonzero(chosen)) if chosen.any() else None

    def at(self, places: Int[Array, "M"]) -> HeldOutWindows:
        """Return copies of some windows."""
        return HeldOutWindows(**{f.name: getattr(self, f.name)[places] for f in fields(self)})

    def among(self, chunk: Int[Array, "B"]) -> tuple[Int[Array, "M"], Int[Array, "M"]]:
        """Return the held-out particles in a chunk of one tilt image, by index in the chunk and here."""
        _, there, here = np.intersect1d(chunk, self.particles, assume_unique=True, return_indices=True)
        return there, here


@dataclass(frozen=True, kw_only=True, eq=False)
class CheckWindows:
    """Windows of some pairs in each variant: the mirror images first, then the bands.

    Attributes
    ----------
    tilts, particles
        Tilt image and particle of each pair.
    values, power
        As in `CorrelationWindows`, for each variant.
    """

    tilts: Int[Array, "C"]
    particles: Int[Array, "C"]
    values: Float32[Array, "V C n n"]
    power: Float[Array, "V C"]


def empty_windows(tilt: int, particles: Int[Array, "H"], side: int) -> HeldOutWindows:
    """Return zero windows of side × side samples for the held-out pairs of one tilt image."""
    return HeldOutWindows(
        tilts=np.full(len(particles), tilt),
        particles=particles,
        values=np.zeros((len(particles), side, side), dtype=np.float32),
        power=np.zeros(len(particles)),
    )


def joined_windows(parts: Sequence[HeldOutWindows]) -> HeldOutWindows | None:
    """Return the windows of several tilt images, in their order; None where there are none."""
    if not any(map(len, parts)):
        return None
    return HeldOutWindows(
        tilts=np.concatenate([part.tilts for part in parts]),
        particles=np.concatenate([part.particles for part in parts]),
        values=np.concatenate([part.values for part in parts]),
        power=np.concatenate([part.power for part in parts]),
    )


def is_small(pairs: int) -> bool:
    """Return whether a tomogram has so few visible pairs that more than the usual share is held out."""
    return SHARE * pairs < ENOUGH


def choose_held_out(visible: Bool[Array, "F P"], fraction: float | None, seed: int) -> Bool[Array, "F P"]:
    """Draw pairs to hold out; every particle and every tilt image retains enough pairs to be placed.

    Parameters
    ----------
    fraction
        Share of the visible pairs; None: chosen by their number. At most `MOST_HELD_OUT` pairs are drawn.
    """
    tilts, particles = np.nonzero(visible)
    if fraction is None:
        fraction = min(max(SHARE, ENOUGH / max(len(tilts), 1)), LARGEST_SHARE)
    target = min(round(fraction * len(tilts)), MOST_HELD_OUT)
    left_in_tilt, left_of_particle = visible.sum(axis=1), visible.sum(axis=0)
    chosen = np.zeros_like(visible)
    taken = 0
    for pair in np.random.default_rng(seed).permutation(len(tilts)):
        if taken == target:
            break
        tilt, particle = tilts[pair], particles[pair]
        if left_in_tilt[tilt] > LEFT_PER_TILT and left_of_particle[particle] > LEFT_PER_PARTICLE:
            chosen[tilt, particle] = True
            left_in_tilt[tilt] -= 1
            left_of_particle[particle] -= 1
            taken += 1
    return chosen


def join_held_out(parts: Sequence[HeldOutWindows | None], counts: Sequence[int]) -> HeldOutWindows | None:
    """Join the held-out pairs of several species, whose particles are numbered consecutively.

    Parameters
    ----------
    counts
        Number of particles of each species.
    """
    start = np.cumsum([0, *counts[:-1]])
    return joined_windows(
        [
            replace(part, particles=part.particles + first)
            for part, first in zip(parts, start, strict=True)
            if part is not None
        ]
    )


def join_checks(parts: Sequence[CheckWindows | None], counts: Sequence[int]) -> CheckWindows | None:
    """Join the windows of several species like `join_held_out`; None where there are none."""
    start = np.cumsum([0, *counts[:-1]])
    known = [(part, first) for part, first in zip(parts, start, strict=True) if part is not None]
    if not known:
        return None
    return CheckWindows(
        tilts=np.concatenate([part.tilts for part, _ in known]),
        particles=np.concatenate([part.particles + first for part, first in known]),
        values=np.concatenate([part.values for part, _ in known], axis=1),
        power=np.concatenate([part.power for part, _ in known], axis=1),
    )
