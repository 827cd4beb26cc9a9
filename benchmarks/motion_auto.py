"""What `--motion auto` does with simulated tomograms whose particles move much, little, or not at all.

``python benchmarks/motion_auto.py run --o FOLDER`` measures; every finished case is a line of
``FOLDER/motion_auto.jsonl``, and cases that are there already are not measured again. ``python
benchmarks/motion_auto.py table FOLDER --into docs/tuning.md`` puts the table into the page.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from accuracy_cases import BOXES_PX, MOTION_RANGE_PX, Case, align_settings, static_case
from accuracy_runs import Tomogram, align, simulate
from accuracy_tables import table
from seed_records import Record, SeedStudy
from tomopolish.errors import InputError
from tomopolish.settings.alignment import AlignSettings, MotionSettings
from tomopolish.simulate.parts import PlantedMotion
from tomopolish.solve import uncertainty

VELOCITY_SCALES = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Planted σ_v, Å per e⁻/Å²; 0: particles keep still."""
PRIORS = ((5000.0, False), (5000.0, False), (300.0, False), (300.0, True))
"""Planted σ_d, Å per e⁻/Å², and whether the kernel is square-exponential; half are RELION's."""
PARTICLES = (20, 30, 40, 60)
PAIR_SNRS = (100.0, 40.0, 20.0, 12.0, 8.0)
GIVEN = ("default", "true")
"""Alignments with RELION's default prior, and with the planted one."""
KINDS = (*GIVEN, "auto")
ROUNDS = 8
"""Number of cases for each planted σ_v."""


@dataclass(frozen=True, kw_only=True)
class Planted:
    """A case of an accuracy study, and the motion that was planted in it, if any."""

    seed: int
    velocity: float
    prior: MotionSettings | None
    case: Case


def planted(seed: int) -> Planted:
    """Return the case of a seed; consecutive seeds run through the planted velocities."""
    velocity, turn = VELOCITY_SCALES[seed % len(VELOCITY_SCALES)], seed // len(VELOCITY_SCALES)
    distance, squared = PRIORS[turn % len(PRIORS)]
    still = static_case(1000 + seed)
    box = BOXES_PX[seed % len(BOXES_PX)]
    simulation = replace(
        still.simulation,
        molecule=replace(still.simulation.molecule, box_px=box),
        specimen=replace(still.simulation.specimen, particles=PARTICLES[(seed + turn) % len(PARTICLES)]),
        noise=replace(still.simulation.noise, pair_snr=PAIR_SNRS[(seed + turn) % len(PAIR_SNRS)]),
    )
    if not velocity:
        align = align_settings(box, still.align.windows.range_px)
        return Planted(
            seed=seed,
            velocity=0.0,
            prior=None,
            case=Case(seed=seed, simulation=simulation, align=align),
        )
    motion = {"velocity_scale": velocity, "distance_scale": distance, "squared_exponential": squared}
    simulation = replace(
        simulation,
        errors=replace(simulation.errors, max_displacement_px=0.9 * MOTION_RANGE_PX),
        motion=PlantedMotion(**motion),
    )
    return Planted(
        seed=seed,
        velocity=velocity,
        prior=MotionSettings(**motion),
        case=Case(seed=seed, simulation=simulation, align=align_settings(box, MOTION_RANGE_PX)),
    )


def measure(case: Planted, only_auto: bool = False) -> Record:
    """Align without motion, with the one that is found, and, unless `only_auto`, with given priors."""
    tomogram, settings = simulate(case.case), case.case.align
    found = align(tomogram, replace(settings, motion=MotionSettings(auto=True)))
    trial = found.motion
    evidence = None if trial is None else trial.evidence
    return {
        "seed": case.seed,
        "particles": len(tomogram.particles),
        "tilts": len(tomogram.series),
        "pair_snr": case.case.simulation.noise.pair_snr,
        "velocity": case.velocity,
        "distance": None if case.prior is None else case.prior.distance_scale,
        "squared": None if case.prior is None else case.prior.squared_exponential,
        "without": _error(tomogram, settings),
        "default": None if only_auto else _error(tomogram, replace(settings, motion=MotionSettings())),
        "true": None
        if only_auto or case.prior is None
        else _error(tomogram, replace(settings, motion=case.prior)),
        "auto": found.errors.rms_2d_angstrom,
        "kept": trial is not None and trial.helps,
        "found": None
        if trial is None or not trial.velocity_scale
        else (trial.velocity_scale, trial.distance_scale, trial.squared_exponential),
        "gain": None if evidence is None else (evidence.gain, evidence.standard_error),
        "seconds": found.seconds,
    }


def _error(tomogram: Tomogram, settings: AlignSettings) -> float:
    return align(tomogram, settings).errors.rms_2d_angstrom


def markdown(records: Sequence[Record]) -> str:
    """Return one row for each planted velocity: errors in units of those without motion."""
    rows = []
    for velocity in VELOCITY_SCALES:
        group = [r for r in records if r["velocity"] == velocity]
        if not group:
            continue
        ratios = {k: [r[k] / r["without"] for r in group if r[k]] for k in KINDS}
        rows.append([
            f"{velocity:g}" if velocity else "0 (still)",
            f"{len(group)}",
            f"{sum(r['kept'] for r in group)}",
            f"{_mean([r['without'] for r in group]):.2f}",
            f"{_mean(ratios['auto']):.3f}",
            f"{max(ratios['auto']):.3f}",
            *(f"{_mean(ratios[k]):.3f} ({len(ratios[k])})" if ratios[k] else "–" for k in GIVEN),
        ])  # fmt: skip
    header = [
        "planted `--s_vel`", "tomograms", "kept", "error without (Å)", "auto", "at most",
        "default prior (of)", "planted prior (of)",
    ]  # fmt: skip
    return table(header, rows)


def _mean(values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


def measure_seed(seed: int, options: argparse.Namespace) -> Record | None:
    uncertainty.PROBES = ((np.inf, 1),)  # no part of this study
    try:
        return measure(planted(seed), options.only_auto)
    except InputError as problem:  # motion that leaves the range
        print(f"{seed} is left out: {problem}", flush=True)
        return None


def say(seed: int, record: Record) -> None:
    print({k: round(v, 3) if isinstance(v, float) else v for k, v in record.items()}, flush=True)


STUDY = SeedStudy(
    name="motion_auto",
    about=__doc__,
    seeds=range(ROUNDS * len(VELOCITY_SCALES)),
    measure=measure_seed,
    say=say,
    markdown=markdown,
    flags={"--only_auto": {"action": "store_true", "help": "leave out alignments with a given prior"}},
)

if __name__ == "__main__":
    STUDY.main()
