"""What a run would do, and what it would need: for `--dry_run`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft

from tomopolish.dataset.model import Particles, TiltSeries
from tomopolish.dataset.species import Project
from tomopolish.imaging.windows import pair_geometry, window_samples
from tomopolish.output.table import Table
from tomopolish.pipeline import frames_taking_part
from tomopolish.settings.alignment import AlignSettings

COST_OVER_FFT = 4.0
"""Time of a whole run over that of the two Fourier transforms of each pair, order of magnitude."""

PROGRAM_BYTES = 200_000_000
"""Memory of the interpreter, the libraries and the compiled kernels, as measured."""

WINDOW_COPIES = 4
"""Copies of all windows that the solver's search levels hold at their peak, as measured."""


@dataclass(frozen=True, kw_only=True)
class TomogramPlan:
    """The size of one tomogram's computation."""

    tomogram: str
    particles: int
    tilts: int
    visible_pairs: int
    memory_bytes: int
    seconds: float


def plan_run(project: Project, settings: AlignSettings) -> list[TomogramPlan]:
    """Estimate each tomogram's memory and time; takes a fraction of a second."""
    boxes, threads = project.boxes_px, settings.run.threads
    seconds_per_pair = [COST_OVER_FFT * fft_seconds_per_pair(box, threads) for box in boxes]
    plans = []
    for name in project.tomogram_names:
        tomogram = project.tomogram(name)
        series, species = tomogram.series, tomogram.species
        pairs = [visible_pairs(series, p, settings, box) for p, box in zip(species, boxes, strict=True)]
        count = sum(map(len, species))
        plans.append(
            TomogramPlan(
                tomogram=name,
                particles=count,
                tilts=len(series),
                visible_pairs=sum(pairs),
                memory_bytes=_memory_bytes(series, count, settings, boxes),
                seconds=float(np.dot(pairs, seconds_per_pair)),
            )
        )
    return plans


def plan_table(plans: list[TomogramPlan]) -> Table:
    """Return the plans as a table, one row per tomogram."""
    return Table(
        title="What would be refined (memory and time are estimates)",
        columns=("tomogram", "particles", "tilt\nimages", "visible\npairs", "memory\n(MB)", "time\n(s)"),
        rows=[
            (
                plan.tomogram,
                f"{plan.particles}",
                f"{plan.tilts}",
                f"{plan.visible_pairs}",
                f"{plan.memory_bytes / 1e6:.0f}",
                f"{plan.seconds:.1f}",
            )
            for plan in plans
        ],
    )


def plan_summary(plans: list[TomogramPlan]) -> str:
    """Sum the plans up in one sentence."""
    pairs = sum(plan.visible_pairs for plan in plans)
    memory = max((plan.memory_bytes for plan in plans), default=0)
    seconds = sum(plan.seconds for plan in plans)
    tomograms = f"{len(plans)} tomogram{'' if len(plans) == 1 else 's'}"
    return (
        f"Everything checked: {tomograms}, {pairs} visible pairs, about {memory / 1e6:.0f} MB of memory "
        f"and {seconds:.0f} s; nothing was written."
    )


def visible_pairs(series: TiltSeries, particles: Particles, settings: AlignSettings, box_px: int) -> int:
    """Count the particle–tilt pairs that would be compared."""
    taking_part = frames_taking_part(series, settings)
    geometry = pair_geometry(series, particles, box_px, taking_part)
    return int(np.count_nonzero(geometry.visible))


def fft_seconds_per_pair(box_px: int, threads: int) -> float:
    """Measure the two real Fourier transforms of one box, float32, on so many threads."""
    batch = max(1, min(64, 2**20 // box_px**2))
    boxes = np.random.default_rng(0).standard_normal((batch, box_px, box_px), dtype=np.float32)
    fastest = float("inf")
    for _ in range(4):
        start = time.perf_counter()
        scipy.fft.irfft2(scipy.fft.rfft2(boxes, workers=threads), s=(box_px, box_px), workers=threads)
        fastest = min(fastest, time.perf_counter() - start)
    return fastest / batch


def _memory_bytes(
    series: TiltSeries, particles: int, settings: AlignSettings, boxes_px: Sequence[int]
) -> int:
    """Add up the program, the references' transforms, the windows of all pairs and two tilt images."""
    samples = len(window_samples(settings.windows.range_px, settings.windows.padding))
    width, height = series.image_size_px
    references = sum(2 * b * b * (b // 2 + 1) for b in boxes_px) * np.dtype(np.complex64).itemsize
    windows = len(series) * particles * samples**2 * np.dtype(np.float32).itemsize
    images = 2 * width * height * np.dtype(np.float32).itemsize
    return int(PROGRAM_BYTES + references + WINDOW_COPIES * windows + images)
