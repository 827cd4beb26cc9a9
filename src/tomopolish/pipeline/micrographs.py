"""`--shift_only`: tilt images against whole predicted micrographs, one image at a time."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor

import numpy as np

from tomopolish.dataset.model import Particles, TiltSeries
from tomopolish.dataset.reading import image_alone, prefetch
from tomopolish.imaging.frequencies import tilt_frequencies
from tomopolish.imaging.micrograph import add_prediction, micrograph_weight, micrograph_window
from tomopolish.imaging.noise import noise_power
from tomopolish.imaging.windows import (
    BoxMask,
    CorrelationWindows,
    PairGeometry,
    TiltTask,
    box_mask,
    window_samples,
)
from tomopolish.pipeline.references import PreparedReferences
from tomopolish.pipeline.windows import frames_taking_part, input_geometry
from tomopolish.progress import Progress
from tomopolish.settings.alignment import AlignSettings
from tomopolish.shapes import Float32

Array = np.ndarray


def micrograph_windows(
    series: TiltSeries,
    species: Sequence[tuple[Particles, PreparedReferences]],
    settings: AlignSettings,
    pool: Executor,
    progress: Progress,
) -> CorrelationWindows:
    """Correlation of every tilt image with its whole prediction at small shifts.

    Parameters
    ----------
    species
        Particles of each structure, and what they look like; one prediction holds all of them.

    Returns
    -------
    Windows with a single column for the whole image, visible where at least one particle is; the values have
    no statistical scale, and `power` is zero.
    """
    taking_part = frames_taking_part(series, settings)
    samples = window_samples(settings.windows.range_px, settings.windows.padding)
    geometries = [input_geometry(series, p, r.box_px, taking_part) for p, r in species]
    masks = [box_mask(r.box_px) for _, r in species]
    shown = np.any([g.visible.any(axis=1) for g in geometries], axis=0)
    values = np.zeros((len(series), 1, len(samples), len(samples)), dtype=np.float32)
    busy = np.flatnonzero(shown)
    with progress.stage("micrographs", len(busy)) as stage:
        for tilt, image in prefetch(series, busy, image_alone, threads=settings.run.threads):
            micrograph, centred = (
                np.zeros_like(image),
                image - image.mean(dtype=np.float64).astype(np.float32),
            )
            variance = float(np.vdot(centred, centred)) / centred.size
            for one, geometry, mask in zip(species, geometries, masks, strict=True):
                task = _task(series, one, settings, geometry, mask, image, variance, tilt, pool)
                add_prediction(task, pool, micrograph)
            values[tilt, 0] = micrograph_window(centred, micrograph, samples, settings.run.threads)
            stage.advance()
    return CorrelationWindows(
        values=values,
        anchors_px=np.zeros((len(series), 1, 2)),
        visible=shown[:, None],
        power=np.zeros((len(series), 1)),
        range_px=settings.windows.range_px,
        step_px=1 / settings.windows.padding,
    )


def _task(
    series: TiltSeries,
    species: tuple[Particles, PreparedReferences],
    settings: AlignSettings,
    geometry: PairGeometry,
    mask: BoxMask,
    image: Float32[Array, "h w"],
    variance: float,
    tilt: int,
    pool: Executor,
) -> TiltTask:
    """Gather what the prediction of one tilt image needs; frequencies are weighted by its own noise."""
    particles, references = species
    box, reference = references.box_px, references.weight
    noise = np.zeros(box // 2 + 1)
    if settings.weights.whiten:
        noise = noise_power(image, box, reference.last_frequency, pool)
    weight = micrograph_weight(noise, variance, reference, box, settings.weights)
    return TiltTask(
        image=image,
        tilt=tilt,
        geometry=geometry,
        particles=particles,
        frequencies=tilt_frequencies(
            series, tilt, weight, particles.optics_groups, settings.weights.cutoff_fraction
        ),
        mask=mask,
        reference=references.transform,
        displacements_px=np.zeros(0),
    )
