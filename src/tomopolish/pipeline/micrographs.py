"""`--shift_only`: comparison of tilt images with complete predicted micrographs, one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from tomopolish.dataset.model import Particles, TiltSeries, Tomogram
from tomopolish.dataset.reading import image_alone, prefetch
from tomopolish.dataset.screening import without_lost
from tomopolish.imaging.frequencies import tilt_frequencies
from tomopolish.imaging.micrograph import add_prediction, micrograph_weight, micrograph_window
from tomopolish.imaging.noise import noise_power
from tomopolish.imaging.windows import (
    CorrelationWindows,
    PairGeometry,
    TiltTask,
    pair_geometry,
    window_samples,
)
from tomopolish.pipeline.references import PreparedReferences
from tomopolish.pipeline.windows import frames_taking_part
from tomopolish.progress import Progress
from tomopolish.settings.alignment import AlignSettings
from tomopolish.shapes import Array, Float32


@dataclass(frozen=True, kw_only=True, eq=False)
class _Model:
    """Particles of one structure, with their reference and positions."""

    particles: Particles
    references: PreparedReferences
    geometry: PairGeometry


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
    models = [
        _Model(
            particles=particles,
            references=reference,
            geometry=pair_geometry(series, particles, reference.box_px, taking_part),
        )
        for particles, reference in zip(tomogram.species, references, strict=True)
    ]
    shown = np.any([model.geometry.visible.any(axis=1) for model in models], axis=0)
    values = np.zeros((len(series), 1, len(samples), len(samples)), dtype=np.float32)
    busy = np.flatnonzero(shown)
    with progress.stage("micrographs", len(busy)) as stage:
        for tilt, image in prefetch(series, busy, image_alone, threads=settings.run.threads):
            micrograph, centred = (
                np.zeros_like(image),
                image - image.mean(dtype=np.float64).astype(np.float32),
            )
            variance = float(np.vdot(centred, centred)) / centred.size
            for model in models:
                task = _task(series, model, settings, image, variance, tilt, pool)
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


def _task(
    series: TiltSeries,
    model: _Model,
    settings: AlignSettings,
    image: Float32[Array, "h w"],
    variance: float,
    tilt: int,
    pool: Executor,
) -> TiltTask:
    """Return the task of predicting one tilt image; frequencies are weighted by its own noise."""
    box, reference = model.references.box_px, model.references.weight
    noise = np.zeros(box // 2 + 1)
    if settings.weights.whiten:
        noise = noise_power(image, box, reference.last_frequency, pool)
    weight = micrograph_weight(noise, variance, reference, box, settings.weights)
    return TiltTask(
        image=image,
        tilt=tilt,
        geometry=model.geometry,
        particles=model.particles,
        frequencies=tilt_frequencies(
            series, tilt, weight, model.particles.optics_groups, settings.weights.cutoff_fraction
        ),
        reference=model.references.transform,
    )
