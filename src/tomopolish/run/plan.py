"""Plan of a run for `--dry_run`: tomograms, devices, time, memory and disk space."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft

from tomopolish.dataset.model import Particles, TiltSeries
from tomopolish.dataset.species import Project, Species
from tomopolish.errors import RunError
from tomopolish.imaging.devices import tomograms_at_once
from tomopolish.imaging.windows import pair_geometry
from tomopolish.output.table import Table
from tomopolish.pipeline import frames_taking_part
from tomopolish.plain_text import counted
from tomopolish.run.facts import processors, reference_facts
from tomopolish.run.fingerprint import common_fingerprint
from tomopolish.run.limits import memory_limits
from tomopolish.run.needs import (
    REPORT_BYTES,
    free_bytes,
    memory_bytes,
    refuse_beyond_memory,
    sets_bytes,
    size_in_words,
    stored_bytes,
)
from tomopolish.run.reporter import Reporter
from tomopolish.run.store import FOLDER_NAME, ResultsStore
from tomopolish.run.work import Stages, Work
from tomopolish.settings.alignment import AlignSettings

COST_OVER_FFT = 4.0
"""Time of a run relative to that of the two Fourier transforms of each pair, order of magnitude."""


@dataclass(frozen=True, kw_only=True)
class TomogramPlan:
    """Size of one tomogram's computation."""

    tomogram: str
    particles: int
    tilts: int
    visible_pairs: int
    memory_bytes: int
    stored_bytes: int
    seconds: float


@dataclass(kw_only=True, eq=False)
class TomogramSizes:
    """Sizes of tomograms, which the check of a project fills in while it loads them.

    Attributes
    ----------
    series
        Tomogram → its tilt series.
    particles, visible_pairs
        Tomogram → numbers of each species.
    """

    settings: AlignSettings
    series: dict[str, TiltSeries] = field(default_factory=dict)
    particles: dict[str, dict[str, int]] = field(default_factory=dict)
    visible_pairs: dict[str, dict[str, int]] = field(default_factory=dict)

    def add(self, species: Species, series: TiltSeries, particles: Particles) -> None:
        """Add the particles of a species in one tomogram."""
        taking_part = frames_taking_part(series, self.settings)
        visible = pair_geometry(series, particles, species.box_px, taking_part).visible
        self.series[series.name] = series
        self.particles.setdefault(series.name, {})[species.name] = len(particles)
        self.visible_pairs.setdefault(series.name, {})[species.name] = int(np.count_nonzero(visible))

    def beyond_memory(self, names: Iterable[str]) -> dict[str, str]:
        """Return those of the named tomograms that need more memory than this machine has, and why."""
        cluster, reasons = self.settings.run.cluster, {}
        if cluster is not None and not cluster.is_local:
            return {}
        for name in names:
            try:
                refuse_beyond_memory(self.series[name], sum(self.particles[name].values()), self.settings)
            except RunError as problem:
                reasons[name] = str(problem)
        return reasons


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Plan of a run: the tomograms that would be refined, and those that cannot be, with the reason.

    The facts are lines on resolution, mask, processors, memory and disk; the warnings are of memory or disk
    space that would not suffice.
    """

    tomograms: list[TomogramPlan]
    unusable: Mapping[str, str]
    facts: list[str]
    warnings: list[str]


def plan_run(project: Project, sizes: TomogramSizes, unusable: Mapping[str, str]) -> Plan:
    """Return the plan of a run over a checked project.

    Parameters
    ----------
    sizes
        From the check, with the settings of the run.
    unusable
        Tomograms that the check found impossible to refine; the plan adds those beyond the memory.

    Raises
    ------
    InputError
        When the references leave no frequency.
    """
    settings = sizes.settings
    facts = [
        fact
        for species, prepared in zip(project.species, project.references(), strict=True)
        for fact in reference_facts(project, species, prepared, settings)
    ]
    names = [name for name in project.tomogram_names if name not in unusable]
    unusable = {**unusable, **sizes.beyond_memory(names)}
    tomograms = plan_tomograms(project, sizes, unusable)
    facts.append(f"Processors: {processors(settings)}")
    memory, short_memory = _memory(tomograms, settings)
    disk, short_disk = _disk(project, tomograms, settings)
    return Plan(
        tomograms=tomograms,
        unusable=unusable,
        facts=[*facts, memory, disk],
        warnings=[*short_memory, *short_disk],
    )


def plan_tomograms(project: Project, sizes: TomogramSizes, unusable: Collection[str]) -> list[TomogramPlan]:
    """Return estimates of memory, disk space and time for the tomograms that can be refined."""
    settings, boxes = sizes.settings, project.boxes_px
    seconds_per_pair = {
        s.name: COST_OVER_FFT * fft_seconds_per_pair(s.box_px, settings.run.threads) for s in project.species
    }
    plans = []
    for name in project.tomogram_names:
        if name in unusable:
            continue
        series, pairs = sizes.series[name], sizes.visible_pairs[name]
        count = sum(sizes.particles[name].values())
        plans.append(
            TomogramPlan(
                tomogram=name,
                particles=count,
                tilts=len(series),
                visible_pairs=sum(pairs.values()),
                memory_bytes=memory_bytes(series, count, settings, boxes),
                stored_bytes=stored_bytes(series, count, settings, boxes),
                seconds=sum(seconds_per_pair[species] * number for species, number in pairs.items()),
            )
        )
    return plans


def show_plan(plan: Plan, reporter: Reporter) -> None:
    """Show a plan: a table of the tomograms, its facts and warnings, and a sentence that sums it up."""
    reporter.show(plan_table(plan.tomograms))
    reporter.say("")
    for fact in plan.facts:
        reporter.say(fact)
    for sentence in plan.warnings:
        reporter.warn(sentence)
    reporter.say(f"\n{plan_summary(plan.tomograms, plan.unusable)}")


def show_finished(project: Project, settings: AlignSettings, stages: Stages[Any], reporter: Reporter) -> None:
    """Show which tomograms `--only_do_unfinished` would reuse of an earlier run, which not, and why."""
    store = ResultsStore(folder=settings.run.output_folder.absolute() / FOLDER_NAME)
    common = common_fingerprint(settings, project.references())
    work = Work(project=project, settings=settings, stages=stages, store=store, common=common)
    finished = work.finished(reporter, writes=False)
    names = f": {', '.join(finished)}" if finished else ""
    reporter.say(f"Finished earlier, and not refined again: {counted(len(finished), 'tomogram')}{names}")


def plan_table(plans: list[TomogramPlan]) -> Table:
    """Return the plans as a table, one row per tomogram."""
    return Table(
        title="Tomograms to be refined (memory and time are estimates)",
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


def plan_summary(plans: list[TomogramPlan], unusable: Mapping[str, str]) -> str:
    """Return a sentence that sums up the plans."""
    pairs = sum(plan.visible_pairs for plan in plans)
    memory = max((plan.memory_bytes for plan in plans), default=0)
    seconds = sum(plan.seconds for plan in plans)
    tomograms = counted(len(plans), "tomogram")
    without = f", and {len(unusable)} that cannot be refined and would keep their values" if unusable else ""
    return (
        f"Everything checked: {tomograms}, {pairs} visible pairs, about {memory / 1e6:.0f} MB of memory "
        f"and {seconds:.0f} s{without}; nothing was written."
    )


def fft_seconds_per_pair(box_px: int, threads: int) -> float:
    """Return the measured time of both real Fourier transforms of one box, float32, on `threads` threads."""
    batch = max(1, min(64, 2**20 // box_px**2))
    boxes = np.random.default_rng(0).standard_normal((batch, box_px, box_px), dtype=np.float32)
    fastest = float("inf")
    for _ in range(4):
        start = time.perf_counter()
        scipy.fft.irfft2(scipy.fft.rfft2(boxes, workers=threads), s=(box_px, box_px), workers=threads)
        fastest = min(fastest, time.perf_counter() - start)
    return fastest / batch


def _memory(plans: list[TomogramPlan], settings: AlignSettings) -> tuple[str, list[str]]:
    """Return a line on the memory that is needed, and a warning where this machine has too little."""
    largest = max(plans, key=lambda plan: plan.memory_bytes, default=None)
    if largest is None:
        return "Memory: none, since no tomogram would be refined", []
    cluster = settings.run.cluster
    elsewhere = cluster is not None and not cluster.is_local
    at_once = min(_at_once(settings), len(plans))
    needed = at_once * largest.memory_bytes
    fact = (
        f"Memory: about {size_in_words(largest.memory_bytes)} for the largest tomogram ({largest.tomogram})"
    )
    if at_once > 1:
        fact += f", {size_in_words(needed)} for {at_once} at once"
    if elsewhere:
        return f"{fact}, of each worker", []
    limit = memory_limits(settings.run.threads)[0]
    short = []
    if needed > limit.room_bytes:
        motion = "; motion of many particles needs less with --max_ed" if settings.motion is not None else ""
        short = [
            f"about {size_in_words(needed)} of memory are needed, and {limit.name} is "
            f"{size_in_words(limit.room_bytes)}: use a smaller --r, fewer tomograms at once, or another "
            f"machine{motion}"
        ]
    return f"{fact}; {limit.name} is {size_in_words(limit.room_bytes)}", short


def _disk(project: Project, plans: list[TomogramPlan], settings: AlignSettings) -> tuple[str, list[str]]:
    """Return a line on the disk space that is needed, and a warning where there is too little."""
    folder = settings.run.output_folder
    needed = sum(plan.stored_bytes for plan in plans) + 2 * sets_bytes(project)
    needed += REPORT_BYTES if settings.run.report else 0
    return beside_free_space(f"Disk: about {size_in_words(needed)} in {folder}", folder, needed)


def beside_free_space(fact: str, folder: Path, needed_bytes: int) -> tuple[str, list[str]]:
    """Return a line on disk space with the space that is free, and a warning where that is too little."""
    free = free_bytes(folder)
    if free is None:
        return fact, []
    short = []
    if needed_bytes > free:
        short = [
            f"--o {folder}: about {size_in_words(needed_bytes)} of disk space are needed, but "
            f"{size_in_words(free)} are free: make room, or give another folder"
        ]
    return f"{fact}; {size_in_words(free)} are free", short


def _at_once(settings: AlignSettings) -> int:
    cluster = settings.run.cluster
    if cluster is None:
        return tomograms_at_once(settings.run.device)
    return cluster.workers or 1
