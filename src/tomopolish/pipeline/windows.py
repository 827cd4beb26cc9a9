"""Correlation windows of tilt images, one image at a time."""

from __future__ import annotations

import zlib
from concurrent.futures import Executor
from dataclasses import replace

import numpy as np

from tomopolish.dataset.model import Particles, TiltSeries
from tomopolish.dataset.reading import image_alone, overlap, prefetch
from tomopolish.dataset.screening import losing, without_lost
from tomopolish.imaging.checks import fill_checks, no_checks
from tomopolish.imaging.devices import Correlator, acquire_correlator
from tomopolish.imaging.erasing import compare_without_objects
from tomopolish.imaging.frequencies import tilt_frequencies
from tomopolish.imaging.held_out import (
    CheckWindows,
    HeldOutWindows,
    choose_held_out,
    empty_windows,
    joined_windows,
)
from tomopolish.imaging.noise import Turn, tile_grid
from tomopolish.imaging.packed import PackedSamples
from tomopolish.imaging.tempering import temper
from tomopolish.imaging.weights import frequency_weights
from tomopolish.imaging.windows import (
    CorrelationWindows,
    TiltTask,
    pair_geometry,
    window_samples,
)
from tomopolish.pipeline.references import PreparedReferences
from tomopolish.progress import Progress
from tomopolish.settings.alignment import AlignSettings
from tomopolish.shapes import Array, Bool, Float, Float32


def frames_taking_part(series: TiltSeries, settings: AlignSettings) -> Bool[Array, "F"]:
    """Return the tilt images in --min_frame … --max_frame, by exposure, that are not left out."""
    rank = np.argsort(series.chronological)
    last = settings.windows.max_frame
    taking_part: Array = (rank >= settings.windows.min_frame) & series.usable
    return taking_part if last is None else taking_part & (rank <= last)


def correlation_windows(
    series: TiltSeries,
    particles: Particles,
    references: PreparedReferences,
    settings: AlignSettings,
    pool: Executor,
    progress: Progress,
    weights: Float[Array, "G s c"] | None = None,
) -> CorrelationWindows:
    """Return the correlation windows; tilt images are read twice, for the noise and for the windows.

    Images of a screened series that cannot be used show no particle (see `screening.without_lost`).

    Parameters
    ----------
    weights
        Frequency weights of earlier windows of the same images, which are then read once.

    Raises
    ------
    RunError
        When no image can be used.
    """
    box = references.box_px
    with acquire_correlator(settings.run.device, pool) as correlator:
        if weights is None:
            noise = _noise(series, references, settings, correlator, progress)
            usable = without_lost(series).usable
            used = frequency_weights(noise, references.weight, box, settings.weights, usable)
        else:
            used = weights
        series = without_lost(series)
        cutoff = settings.weights.cutoff_fraction
        samples = window_samples(settings.windows.range_px, settings.windows.padding)
        geometry = pair_geometry(series, particles, box, frames_taking_part(series, settings))
        windows = CorrelationWindows(
            values=PackedSamples.zeros((*geometry.visible.shape, len(samples), len(samples))),
            anchors_px=geometry.anchors_px,
            visible=geometry.visible,
            power=np.zeros(geometry.visible.shape),
            range_px=settings.windows.range_px,
            step_px=1 / settings.windows.padding,
            frequency_weights=used,
            tempering=np.ones(geometry.visible.shape),
        )
        busy = np.flatnonzero(geometry.visible.any(axis=1))
        held, checks = _held_out(series, geometry.visible, settings, len(samples))

        def compare_with(tilt: int, image: Float32[Array, "h w"]) -> TiltTask:
            with losing(series, tilt):
                frequencies = tilt_frequencies(
                    series, tilt, used[tilt % len(used)], particles.optics_groups, cutoff
                )
            return TiltTask(
                image=image,
                tilt=tilt,
                geometry=geometry,
                particles=particles,
                frequencies=frequencies,
                reference=references.transform,
                displacements_px=samples,
            )

        def correlate(tilt: int, task: TiltTask) -> None:
            _compare(task, windows, held[tilt], correlator, tempers=settings.fit.outliers)
            fill_checks(checks, task, correlator)

        threads, memory, at_once = settings.run.threads, correlator.host_memory, correlator.images_at_once
        ahead = prefetch(series, busy, compare_with, threads=threads, memory=memory, holds=at_once)
        with progress.stage("correlation", len(busy)) as stage:
            for _ in overlap(ahead, correlate, at_once):
                stage.advance()
    windows = replace(windows, held_out=joined_windows(held), checks=checks)
    return without_tilts(windows, without_lost(series).usable)


def _compare(
    task: TiltTask,
    windows: CorrelationWindows,
    held: HeldOutWindows,
    correlator: Correlator,
    *,
    tempers: bool,
) -> None:
    """Fill the windows of one tilt image, and weight down pairs with much noise if `tempers`."""
    tilt, visible = task.tilt, windows.visible[task.tilt]
    values, power = np.zeros(windows.values.shape[1:], dtype=np.float32), windows.power[tilt]
    correlator.correlate_tilt(task, values, power, held)
    assert windows.tempering is not None and isinstance(windows.values, PackedSamples)
    if tempers:
        factors = temper(values, power, visible, held)
        windows.tempering[tilt] = factors
        if compare_without_objects(task, factors < 1, values, power, held, correlator):
            temper(values, power, visible, held)
    windows.values.put(tilt, values)


def _held_out(
    series: TiltSeries, visible: Bool[Array, "F P"], settings: AlignSettings, samples: int
) -> tuple[list[HeldOutWindows], CheckWindows | None]:
    """Draw pairs to hold out, and some of them to compare again; returns empty windows for them."""
    seed = zlib.crc32(series.name.encode("utf-8", "surrogatepass"))  # choices depend on the name alone
    chosen = choose_held_out(visible, settings.fit.held_out_fraction, seed)
    held = [empty_windows(tilt, np.flatnonzero(row), samples) for tilt, row in enumerate(chosen)]
    return held, no_checks(chosen, samples)


def without_tilts(windows: CorrelationWindows, usable: Bool[Array, "F"]) -> CorrelationWindows:
    """Return the windows without the pairs of tilt images that are not usable; they share memory."""
    if not windows.visible[~usable].any():
        return windows
    PackedSamples.of(windows.values).clear(~usable)
    return replace(
        windows,
        visible=windows.visible & usable[:, None],
        power=np.where(usable[:, None], windows.power, 0.0),
        held_out=windows.held_out and windows.held_out.of_tilts(usable),
    )


def _noise(
    series: TiltSeries,
    references: PreparedReferences,
    settings: AlignSettings,
    correlator: Correlator,
    progress: Progress,
) -> Float[Array, "F shells"]:
    """Return the noise power of each usable tilt image by shell; zero where it is not needed."""
    box, last, tilts = references.box_px, references.weight.last_frequency, np.flatnonzero(series.usable)
    noise = np.zeros((len(series), box // 2 + 1))
    if not settings.weights.whiten:
        return noise
    width, height = series.image_size_px
    averaged = 1 if settings.weights.per_frame_noise else len(tilts)
    turns = {int(tilt): Turn(index=i % averaged, count=averaged) for i, tilt in enumerate(tilts)}

    def needed(tilt: int) -> list[slice]:
        return tile_grid((height, width), box, last, turns[tilt]).pixel_rows(box)

    def measure(tilt: int, image: Float32[Array, "h w"]) -> None:
        noise[tilt] = correlator.noise_power(image, box, last, turns[tilt])

    with progress.stage("noise", len(tilts)) as stage:
        threads, memory, at_once = settings.run.threads, correlator.host_memory, correlator.images_at_once
        ahead = prefetch(
            series, tilts, image_alone, threads=threads, needed=needed, memory=memory, holds=at_once
        )
        for _ in overlap(ahead, measure, at_once):
            stage.advance()
    return noise
