"""Tilt images to correlation windows, one image at a time."""

from __future__ import annotations

import zlib
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from tomopolish.correlation.devices import Correlator, lend_correlator
from tomopolish.correlation.frequencies import tilt_frequencies
from tomopolish.correlation.held_out import HeldOutWindows, choose_held_out
from tomopolish.correlation.weights import frequency_weights
from tomopolish.correlation.windows import (
    CorrelationWindows,
    PairGeometry,
    TiltTask,
    box_mask,
    pair_geometry,
    prefetch,
    window_samples,
)
from tomopolish.dataset.model import Particles, TiltSeries
from tomopolish.models.deformation import deformation_from
from tomopolish.pipeline.references import PreparedReferences
from tomopolish.progress import Progress
from tomopolish.settings import AlignSettings
from tomopolish.shapes import Bool

Array = np.ndarray


def frames_taking_part(series: TiltSeries, settings: AlignSettings) -> Bool[Array, "F"]:
    """Tilt images within --min_frame … --max_frame, counted in order of exposure."""
    rank = np.argsort(series.chronological)
    last = settings.windows.max_frame
    taking_part: Array = rank >= settings.windows.min_frame
    return taking_part if last is None else taking_part & (rank <= last)


def input_geometry(
    series: TiltSeries, particles: Particles, box: int, taking_part: Bool[Array, "F"]
) -> PairGeometry:
    """Where the input geometry expects every particle, trajectories and deformation included."""
    geometry = pair_geometry(series, particles, box, taking_part)
    if series.deformation is None:
        return geometry
    model, coefficients = deformation_from(series.deformation, series.image_size_px)
    warp_px = model.displacement_px(geometry.anchors_px, coefficients)
    return pair_geometry(series, particles, box, taking_part, warp_px)


def correlation_windows(
    series: TiltSeries,
    particles: Particles,
    references: PreparedReferences,
    settings: AlignSettings,
    pool: Executor,
    progress: Progress,
) -> CorrelationWindows:
    """Read the tilt images twice: for the noise, then for the windows."""
    box = references.box_px
    taking_part = frames_taking_part(series, settings)
    tilts = np.arange(len(series))
    with ThreadPoolExecutor(1) as reader, lend_correlator(settings.run.device, pool) as correlator:
        noise = np.zeros((len(series), box // 2 + 1))
        if settings.weights.whiten:
            with progress.stage("noise", len(tilts)) as stage:
                for tilt, image in prefetch(series, tilts, reader):
                    noise[tilt] = correlator.noise_power(image, box, references.weight.last_frequency)
                    stage.advance()
        weights = frequency_weights(noise, references.weight, box, settings.weights)
        samples = window_samples(settings.windows.range_px, settings.windows.padding)
        mask = box_mask(box)
        geometry = input_geometry(series, particles, box, taking_part)
        values = np.zeros((len(series), len(particles), len(samples), len(samples)), dtype=np.float32)
        power = np.zeros(geometry.visible.shape)
        busy = np.flatnonzero(geometry.visible.any(axis=1))
        aside = _Aside(choose_held_out(geometry.visible, settings.fit.held_out_fraction, _seed(series)))
        with progress.stage("correlation", len(busy)) as stage:
            for tilt, image in prefetch(series, busy, reader):
                task = TiltTask(
                    image=image,
                    tilt=tilt,
                    geometry=geometry,
                    particles=particles,
                    frequencies=tilt_frequencies(
                        series,
                        tilt,
                        weights[tilt if len(weights) > 1 else 0],
                        particles.optics_groups,
                        settings.weights.cutoff_fraction,
                    ),
                    mask=mask,
                    reference=references.transform,
                    displacements_px=samples,
                )
                correlator.correlate_tilt(task, values[tilt], power[tilt])
                aside.correlate(task, correlator)
                stage.advance()
    return CorrelationWindows(
        values=values,
        anchors_px=geometry.anchors_px,
        visible=geometry.visible,
        power=power,
        range_px=settings.windows.range_px,
        step_px=1 / settings.windows.padding,
        frequency_weights=weights if settings.run.diagnostics else None,
        held_out=aside.windows(),
    )


class _Aside:
    """Collects the held-out pairs' windows, made with the other half set's map."""

    def __init__(self, held: Bool[Array, "F P"]) -> None:
        self._held = held
        self._parts: list[HeldOutWindows] = []

    def correlate(self, task: TiltTask, correlator: Correlator) -> None:
        """Add the held-out pairs of a tilt image."""
        (mine,) = np.nonzero(self._held[task.tilt])
        if not len(mine):
            return
        geometry, particles = task.geometry, task.particles
        other = replace(
            task,
            geometry=replace(geometry, visible=self._held),
            particles=replace(particles, half_set=1 - particles.half_set),
        )
        side = len(task.displacements_px)
        values = np.zeros((len(particles), side, side), dtype=np.float32)
        power = np.zeros(len(particles))
        correlator.correlate_tilt(other, values, power)
        self._parts.append(
            HeldOutWindows(
                tilts=np.full(len(mine), task.tilt), particles=mine, values=values[mine], power=power[mine]
            )
        )

    def windows(self) -> HeldOutWindows | None:
        """Return the windows of all tilt images, or None when no pair was held out."""
        if not self._parts:
            return None
        parts = self._parts
        return HeldOutWindows(
            tilts=np.concatenate([part.tilts for part in parts]),
            particles=np.concatenate([part.particles for part in parts]),
            values=np.concatenate([part.values for part in parts]),
            power=np.concatenate([part.power for part in parts]),
        )


def _seed(series: TiltSeries) -> int:
    """Seed of a tomogram's random choices: the same in every run, whatever else is refined."""
    return zlib.crc32(series.name.encode("utf-8", "surrogatepass"))
