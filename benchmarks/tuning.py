"""How well `tomopolish tune` recovers the motion that simulated tomograms were given.

``python benchmarks/tuning.py run --o FOLDER`` measures; every finished case is a line of
``FOLDER/tuning.jsonl``, and cases that are there already are not measured again. ``python
benchmarks/tuning.py table FOLDER --into docs/dev/lab-notes/tuning.md`` puts the tables into the page, between
its marks.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from accuracy_tables import table
from seed_records import Record, SeedStudy
from tomopolish import pipeline
from tomopolish.pipeline.tuned import open_tomogram
from tomopolish.progress import SilentProgress
from tomopolish.settings.alignment import (
    AlignSettings,
    InputPaths,
    MotionSettings,
    RunSettings,
    WindowSettings,
)
from tomopolish.simulate.parts import (
    AcquisitionSettings,
    MoleculeSettings,
    NoiseSettings,
    PlantedErrors,
    PlantedMotion,
    SimulationSettings,
    SpecimenSettings,
    simulate_tilt_series,
)
from tomopolish.tune.tuning import Tuning, distance_scales, tune

BOX_PX, RANGE_PX, MAX_PARTICLES = 48, 24, 60


@dataclass(frozen=True, kw_only=True)
class Case:
    """A subset of tomograms with one motion prior."""

    velocity: float
    distance: float
    squared: bool
    particles: int
    pair_snr: float
    seed: int
    tomograms: int = 3


def cases() -> list[Case]:
    """Every velocity with particles and signals that run through their values at paces of their own."""
    found = []
    velocities, particles, snrs = (0.2, 0.4, 0.6, 0.8), (30, 60, 100, 150), (100.0, 60.0, 40.0, 20.0)
    groups = ((5000.0, False), (300.0, False), (300.0, True))
    for turn in range(len(particles)):
        for group, (distance, squared) in enumerate(groups):
            for i, velocity in enumerate(velocities):
                found.append(
                    Case(
                        velocity=velocity,
                        distance=distance,
                        squared=squared,
                        particles=particles[(i + turn + group) % len(particles)],
                        pair_snr=snrs[(i + 2 * turn) % len(snrs)],
                        seed=len(found),
                    )
                )
    return found


def simulation(case: Case) -> SimulationSettings:
    return SimulationSettings(
        seed=1000 + case.seed,
        tomograms=case.tomograms,
        molecule=MoleculeSettings(box_px=BOX_PX, seed=case.seed % 7),
        acquisition=AcquisitionSettings(
            image_size_px=(512, 480), dose_scheme=("dose-symmetric", "bidirectional")[case.seed % 2]
        ),
        specimen=SpecimenSettings(
            particles=case.particles, tomogram_size_px=(512, 480, 220), thickness_angstrom=450.0
        ),
        errors=PlantedErrors(shift_px=1.5, angle_degrees=0.1, position_px=1.0),
        noise=NoiseSettings(pair_snr=case.pair_snr, low_frequency_excess=2.0),
        motion=PlantedMotion(
            velocity_scale=case.velocity, distance_scale=case.distance, squared_exponential=case.squared
        ),
    )


def measure(case: Case) -> Record:
    """Tune as the command does, without the truth; then again with the true kernel and distance."""
    settings = AlignSettings(
        inputs=InputPaths(optimisation_set=Path("simulated.star")),
        windows=WindowSettings(box_px=BOX_PX, range_px=RANGE_PX),
        run=RunSettings(output_folder=Path("simulated")),
        motion=MotionSettings(),
    )
    begin = time.perf_counter()
    tomograms, prepared = [], None
    for index in range(case.tomograms):
        series, particles, references, _ = simulate_tilt_series(simulation(case), index)
        prepared = prepared or pipeline.prepare(references, settings)
        tomograms.append(
            open_tomogram(
                series, particles, prepared, settings, SilentProgress(), max_particles=MAX_PARTICLES
            )
        )
    middle = time.perf_counter()
    start = MotionSettings()
    free = tune(tomograms, start, distance_scales(tomograms, start), (False, True))
    end = time.perf_counter()
    told = MotionSettings(distance_scale=case.distance, squared_exponential=case.squared)
    told_tuning = tune(tomograms, told, [case.distance], (case.squared,))
    return asdict(case) | {
        "free": result(free),
        "told": result(told_tuning),
        "seconds_windows": middle - begin,
        "seconds_search": end - middle,
        "candidates": [
            [c.prior.squared_exponential, c.prior.distance_scale, c.prior.velocity_scale, c.log_evidence]
            for c in free.candidates
        ],
    }


def result(tuning: Tuning) -> Record:
    prior = tuning.chosen.prior
    return {
        "velocity": prior.velocity_scale,
        "interval": tuning.velocity.interval(),
        "distance": prior.distance_scale,
        "distance_interval": tuning.ridge.along_distance.interval(),
        "squared": prior.squared_exponential,
        "drift": prior.drift_scale,
        "dispersion": float(np.mean([n.frames.mean() for n in tuning.noises])),
        "slope": float(np.mean([n.slope for n in tuning.noises])),
    }


def markdown(records: Sequence[Record]) -> str:
    """Summarise each group, and list all cases."""
    kernels = {False: "exponential", True: "square-exponential"}
    parts = []
    for distance, squared in dict.fromkeys((r["distance"], r["squared"]) for r in records):
        group = [r for r in records if (r["distance"], r["squared"]) == (distance, squared)]
        ratios = {k: np.array([r[k]["velocity"] / r["velocity"] for r in group]) for k in ("free", "told")}
        parts.append(f"### {kernels[squared].capitalize()} kernel, `--s_div` {distance:g}\n\n" + ". ".join(
            f"{text}: {np.sum(np.abs(v - 1) <= 0.2)} of {len(v)} within 20 %, "
            f"mean ratio {np.exp(np.mean(np.log(v))):.3f}, from {v.min():.2f} to {v.max():.2f}"
            for text, v in (
                ("Nothing known", ratios["free"]),
                ("True kernel and `--s_div` given", ratios["told"]),
            )
        ) + ".")  # fmt: skip
        parts.append(table(*_rows(group, kernels)))
    return "\n\n".join(parts)


def _rows(group: Sequence[Record], kernels: dict[bool, str]) -> tuple[list[str], list[list[str]]]:
    header = [
        "seed", "particles", "SNR", "`--s_vel`", "found", "95 %", "ratio", "`--s_div` found", "95 %",
        "kernel", "ratio, rest given", "drift", "φ", "s",
    ]  # fmt: skip
    rows = []
    for r in group:
        free, told = r["free"], r["told"]
        low, high = free["interval"]
        near, far = free["distance_interval"]
        rows.append([
            f"{r['seed']}", f"{r['particles']}", f"{r['pair_snr']:g}", f"{r['velocity']:g}",
            f"{free['velocity']:.3f}", f"{low:.2f}–{high:.2f}", f"{free['velocity'] / r['velocity']:.2f}",
            f"{free['distance']:.0f}", f"{near:.0f}–{far:.0f}", kernels[free["squared"]],
            f"{told['velocity'] / r['velocity']:.2f}", f"{free['drift']:.3f}", f"{free['dispersion']:.2f}",
            f"{r['seconds_search']:.0f}",
        ])  # fmt: skip
    return header, rows


def measure_seed(seed: int, options: argparse.Namespace) -> Record | None:
    if time.perf_counter() - BEGIN > options.seconds:
        return None
    return measure(CASES[seed])


def say(seed: int, record: Record) -> None:
    ratios = {name: record[name]["velocity"] / record["velocity"] for name in ("free", "told")}
    print(f"{seed}: {ratios['free']:.3f}, told {ratios['told']:.3f}", flush=True)


BEGIN, CASES = time.perf_counter(), cases()
STUDY = SeedStudy(
    name="tuning",
    about=__doc__,
    seeds=range(len(CASES)),
    measure=measure_seed,
    say=say,
    markdown=markdown,
    flags={"--seconds": {"type": float, "default": np.inf, "help": "begin no case after so long"}},
)

if __name__ == "__main__":
    STUDY.main()
