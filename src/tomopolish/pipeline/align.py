"""One tomogram, from tilt images to refined geometry."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from threadpoolctl import threadpool_limits

from tomopolish.dataset.model import Alignment, Tomogram
from tomopolish.dataset.screening import screened, without_lost
from tomopolish.pipeline.fit import fit_geometry
from tomopolish.pipeline.joint.tomogram import align_jointly, before_joint
from tomopolish.pipeline.micrographs import micrograph_windows
from tomopolish.pipeline.premises import (
    error_angstrom,
    examine,
    moved_angstrom,
    with_findings,
)
from tomopolish.pipeline.problem import join_windows
from tomopolish.pipeline.references import PreparedReferences
from tomopolish.pipeline.resources import Resources
from tomopolish.pipeline.result import diagnostics, solution
from tomopolish.pipeline.shifts import by_micrographs, shifts_alone
from tomopolish.pipeline.windows import correlation_windows, without_tilts
from tomopolish.progress import Progress
from tomopolish.results.tomogram import TomogramResult
from tomopolish.settings.alignment import AlignSettings


def align_tomogram(
    tomogram: Tomogram,
    references: Sequence[PreparedReferences],
    settings: AlignSettings,
    progress: Progress,
) -> TomogramResult:
    """Refine one tomogram; all species determine the same projections, motion and warp.

    Parameters
    ----------
    tomogram
        Input geometry and images.
    references
        References of each species, prepared with the same settings except for the box.

    Returns
    -------
    The result, with an alignment for each species.

    Raises
    ------
    RunError
        When no tilt image can be used; single unusable images are left out.
    """
    present = [number for number, particles in enumerate(tomogram.species) if len(particles)]
    result = _align_present(
        replace(tomogram, species=tuple(tomogram.species[number] for number in present)),
        [references[number] for number in present],
        settings,
        progress,
    )
    alignments = dict(zip(present, result.alignments, strict=True))
    return replace(
        result,
        alignments=tuple(
            alignments.get(number) or _without_particles(result.alignment)
            for number in range(len(tomogram.species))
        ),
    )


def _without_particles(alignment: Alignment) -> Alignment:
    """Return the alignment of a species that has no particle in the tomogram."""
    return replace(
        alignment,
        rows=np.zeros(0, dtype=np.int64),
        positions_px=np.zeros((0, 3)),
        trajectories_px=None,
        errors=None,
        scores=None,
        rotations=None,
    )


def _align_present(
    tomogram: Tomogram,
    references: Sequence[PreparedReferences],
    settings: AlignSettings,
    progress: Progress,
) -> TomogramResult:
    """Refine one tomogram in which every species has particles; see `align_tomogram`."""
    resources = Resources(threads=settings.run.threads, device=settings.run.device, progress=progress)
    settings = shifts_alone(settings)
    tomogram = replace(tomogram, series=screened(tomogram.series))
    with ThreadPoolExecutor(resources.threads) as pool, threadpool_limits(1):
        parts = [
            correlation_windows(tomogram.series, particles, reference, settings, pool, resources)
            for particles, reference in zip(tomogram.species, references, strict=True)
        ]
        micrographs = None
        if by_micrographs(settings.fit):
            micrographs = micrograph_windows(tomogram, references, settings, pool, resources)
    series = without_lost(tomogram.series)
    tomogram = replace(tomogram, series=series)
    parts = [without_tilts(part, series.usable) for part in parts]
    micrographs = micrographs and without_tilts(micrographs, series.usable)
    shown = tuple(diagnostics(series, part) for part in parts) if settings.run.diagnostics else ()
    weights = [part.frequency_weights for part in parts]
    windows = join_windows(parts)
    del parts  # with several species, these are copies
    with threadpool_limits(1):  # the solver has its own threads, which those of BLAS would slow down
        fit = fit_geometry(tomogram, windows, settings, resources, micrographs, references=references)
        del windows
        settings = fit.settings
        if settings.joint.any:
            earlier = before_joint(fit, references, settings, resources.threads)
            del fit  # with the memory of its windows
            result = align_jointly(earlier, references, weights, settings, resources)
        else:
            result, uncertainty, _ = solution(fit, settings, resources, references, weights)
            assert result.record is not None
            kinds = examine(fit, result.record, settings, references)
            result = with_findings(result, kinds, moved_angstrom(fit), error_angstrom(fit, uncertainty))
    return replace(result, diagnostics=shown)
