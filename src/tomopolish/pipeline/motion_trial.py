"""`--motion auto`: the motion prior of one tomogram, from its images, as `tune` finds it.

See docs/tuning.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from tomopolish.dataset.model import Particles, TiltSeries, Tomogram
from tomopolish.imaging.windows import CorrelationWindows
from tomopolish.pipeline.problem import build_problem, refined_deformation
from tomopolish.pipeline.references import PreparedReferences
from tomopolish.settings.alignment import AlignSettings, MotionSettings
from tomopolish.shapes import Array, Int
from tomopolish.solve.problem import Problem, predicted_positions
from tomopolish.solve.refine import Refinement
from tomopolish.solve.surface import DisplacementSurface
from tomopolish.tune.noise import crowding
from tomopolish.tune.quick import find_prior
from tomopolish.tune.tomogram import TunedTomogram

MOST_PARTICLES, GROUP = 90, 30
"""Maximum number of particles from which the prior is found, and of those that are looked at together: time
grows with the third power of the latter."""
FEWEST_PARTICLES, FEWEST_TILTS = 5, 3
"""Number of particles, and of tilt images, below which motion is not tried."""


def prior_from_images(
    tomogram: Tomogram,
    windows: CorrelationWindows,
    refinement: Refinement,
    settings: AlignSettings,
    references: Sequence[PreparedReferences],
    threads: int,
) -> MotionSettings | None:
    """Return the motion prior of greatest evidence, from the pairs of a fit without motion.

    Parameters
    ----------
    windows
        Their power, range and anchors are used; the surfaces are those of the refinement's problem.
    settings
        Those of the run; distance scale and kernel of their prior are retained unless the images are against
        them.
    references
        Of each species.

    Returns
    -------
    None where the images show no motion that neighbouring particles share, or are too few.
    """
    start = settings.motion
    assert start is not None
    groups = _groups(tomogram, windows, refinement, settings, references)
    found = find_prior(groups, start, threads=threads) if groups else None
    if found is None:
        return None
    return replace(found.prior.settings, max_deformations=start.max_deformations)


def _groups(
    tomogram: Tomogram,
    windows: CorrelationWindows,
    refinement: Refinement,
    settings: AlignSettings,
    references: Sequence[PreparedReferences],
) -> list[TunedTomogram]:
    """Return groups of particles with their static solution; none where they are too few."""
    problem, vector = refinement.problem, refinement.vector
    blocks = problem.layout.unpack(vector)
    seen = refinement.shown
    chosen = some_of(np.flatnonzero(seen.any(axis=0)), MOST_PARTICLES)
    if len(chosen) < FEWEST_PARTICLES or seen[:, chosen].any(axis=1).sum() < FEWEST_TILTS:
        return []
    series = tomogram.series
    warp = refined_deformation(problem, vector, settings)
    if warp is not None:  # a warp that moves along would absorb motion
        series = replace(series, deformation=warp)
    places = predicted_positions(problem, blocks)
    counts = [len(species) for species in tomogram.species]
    resolution = np.average([r.box_px / r.weight.last_shell for r in references], weights=counts)
    mixed = np.random.default_rng(0).permutation(chosen)
    groups = []
    for members in map(np.sort, np.array_split(mixed, -(-len(chosen) // GROUP))):
        particles = tomogram.particles.subset(members)
        surface = replace(problem.surface.of_particles(members), visible=seen[:, members])
        some = replace(windows.of_particles(members), visible=surface.visible)
        offsets = np.zeros((len(series), len(members), 3))
        if particles.trajectories_px is not None:
            offsets += np.moveaxis(particles.trajectories_px, 1, 0)
        static = [blocks.angles, blocks.shifts_px, blocks.positions_px[members]]
        groups.append(
            TunedTomogram(
                series=series,
                particles=particles,
                problem_with=problems(series, particles, some, replace(settings, deformation=None), surface),
                power=some.power,
                static=np.concatenate([block.ravel() for block in static]),
                offsets_px=offsets,
                crowding=crowding(places[:, members], places, max(r.box_px for r in references)),
                resolution_px=float(resolution),
            )
        )
    return groups


def problems(
    series: TiltSeries,
    particles: Particles,
    windows: CorrelationWindows,
    settings: AlignSettings,
    surface: DisplacementSurface,
) -> Callable[[MotionSettings], Problem]:
    """Return the function from a motion prior to the problem on these surfaces of the windows."""

    def with_prior(motion: MotionSettings) -> Problem:
        return build_problem(
            series, particles, windows, replace(settings, motion=motion), make_surface=lambda: surface
        )

    return with_prior


def some_of(candidates: Int[Array, "P"], most: int) -> Int[Array, "M"]:
    """Return at most so many of some numbers, chosen at random, in their order."""
    if len(candidates) <= most:
        return candidates
    return np.sort(np.random.default_rng(0).choice(candidates, most, replace=False))
