"""`--shift_only`: comparison of tilt images with complete predicted micrographs, one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor

import numpy as np

from tomopolish.dataset.model import Tomogram
from tomopolish.dataset.reading import image_alone, prefetch
from tomopolish.dataset.screening import without_lost
from tomopolish.imaging.frequencies import tilt_frequencies
from tomopolish.imaging.micrograph import add_prediction, micrograph_weight, micrograph_window
from tomopolish.imaging.noise import noise_power
from tomopolish.imaging.windows import (
    CorrelationWindows,
    TiltTask,
    pair_geometry,
    window_samples,
)
from tomopolish.pipeline.references import PreparedReferences
from tomopolish.pipeline.windows import frames_taking_part
from tomopolish.progress import Progress
from tomopolish.settings.alignment import AlignSettings
from tomopolish.shapes import Array, Float, Float32


def micrograph_windows(
    tomogram: Tomogram,
    references: Sequence[PreparedReferences],
    settings: AlignSettings,
    pool: Executor,
    progress: Progress,
) -> CorrelationWindows:
    """Return the correlation of every tilt image with its complete prediction at small shifts.

    Parameters
    ----------
    references
        References of each species; the prediction contains all species.

    Returns
    -------
    Windows with a single column for the complete image, visible where at least one particle is; the values
    have no statistical scale, and `power` is zero.
    """
    series = without_lost(tomogram.series)
    taking_part = frames_taking_part(series, settings)
    samples = window_samples(settings.windows.range_px, settings.windows.padding)
    geometries = [
        pair_geometry(series, particles, reference.box_px, taking_part)
        for particles, reference in zip(tomogram.species, references, strict=True)
    ]
    shown = np.any([geometry.visible.any(axis=1) for geometry in geometries], axis=0)
    values = np.zeros((len(series), 1, len(samples), len(samples)), dtype=np.float32)
    busy = np.flatnonzero(shown)
    with progress.stage("micrographs", len(busy)) as stage:
        for tilt, image in prefetch(series, busy, image_alone, threads=settings.run.threads):
            micrograph = np.zeros_like(image)
            centred = image - image.mean(dtype=np.float64).astype(np.float32)
            variance = float(np.vdot(centred, centred)) / centred.size
            for particles, reference, geometry in zip(tomogram.species, references, geometries, strict=True):
                weight = _weight(image, variance, reference, settings, pool)
                groups, cutoff = particles.optics_groups, settings.weights.cutoff_fraction
                task = TiltTask(
                    image=image,
                    tilt=tilt,
                    geometry=geometry,
                    particles=particles,
                    frequencies=tilt_frequencies(series, tilt, weight, groups, cutoff),
                    reference=reference.transform,
                )
                add_prediction(task, pool, micrograph)
            values[tilt, 0] = micrograph_window(centred, micrograph, samples, settings.run.threads)
            stage.advance()
    usable = without_lost(series).usable
    return CorrelationWindows(
        values=values,
        anchors_px=np.zeros((len(series), 1, 2)),
        visible=(shown & usable)[:, None],
        power=np.zeros((len(series), 1)),
        range_px=settings.windows.range_px,
        step_px=1 / settings.windows.padding,
    )


def _weight(
    image: Float32[Array, "h w"],
    variance: float,
    reference: PreparedReferences,
    settings: AlignSettings,
    pool: Executor,
) -> Float[Array, "box columns"]:
    """Return the weights of the frequencies of one tilt image, by its own noise."""
    noise = np.zeros(reference.box_px // 2 + 1)
    if settings.weights.whiten:
        noise = noise_power(image, reference.box_px, reference.weight.last_frequency, pool)
    return micrograph_weight(noise, variance, reference.weight, reference.box_px, settings.weights)
