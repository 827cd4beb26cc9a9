"""Second and third rounds: what the verdict says of an input that was fitted to the same images."""

from __future__ import annotations

from dataclasses import replace

from accuracy_cases import Case, align_settings
from accuracy_runs import Record, Tomogram, align, description, simulate
from tomopolish.dataset.model import Alignment
from tomopolish.results.verdict import verdict
from tomopolish.simulate.parts import (
    AcquisitionSettings,
    MoleculeSettings,
    NoiseSettings,
    PlantedErrors,
    SimulationSettings,
    SpecimenSettings,
)

BOX_PX, RANGE_PX, ROUNDS = 48, 14, 3
PAIR_SNRS = (60.0, 25.0, 12.0)
PARTICLES = (12, 30, 60)
TILT_STEPS = (3.0, 6.0)


def second_rounds_case(seed: int) -> Case:
    """Signal, particles and tilt images vary in turns."""
    simulation = SimulationSettings(
        seed=9300 + seed,
        molecule=MoleculeSettings(box_px=BOX_PX, seed=seed % 7),
        acquisition=AcquisitionSettings(
            image_size_px=(480, 460),
            tilt_step_degrees=TILT_STEPS[seed % len(TILT_STEPS)],
            tilt_axis_degrees=(-85.0, 4.0, 61.0)[seed % 3],
            hand=(-1.0, 1.0)[seed // 2 % 2],
        ),
        specimen=SpecimenSettings(particles=PARTICLES[seed // 3 % len(PARTICLES)], thickness_angstrom=500.0),
        errors=PlantedErrors(shift_px=1.5, angle_degrees=0.1, position_px=1.2),
        noise=NoiseSettings(pair_snr=PAIR_SNRS[seed % len(PAIR_SNRS)]),
    )
    return Case(seed=seed, simulation=simulation, align=align_settings(BOX_PX, RANGE_PX))


def measure_second_rounds(case: Case) -> Record:
    """Align three times, each time from the result of the last, and note errors and verdicts."""
    tomogram = simulate(case)
    record = description(case, tomogram)
    errors, outcomes, moved = [], [], []
    for _ in range(ROUNDS):
        run = align(tomogram, case.align)
        if not errors:
            errors.append(run.input_errors.rms_2d_angstrom)
        errors.append(run.errors.rms_2d_angstrom)
        judged = None if run.evidence is None else verdict({"tomogram": run.evidence})
        outcomes.append("not tested" if judged is None else judged.outcome)
        moved.append(0.0 if judged is None else judged.moved_angstrom)
        tomogram = refined(tomogram, run.alignment)
    return record | {"errors_angstrom": errors, "outcomes": outcomes, "moved_angstrom": moved}


def refined(tomogram: Tomogram, alignment: Alignment) -> Tomogram:
    """Return the tomogram with the geometry of an alignment as its input."""
    return replace(
        tomogram,
        series=replace(tomogram.series, projections_px=alignment.projections_px),
        particles=replace(tomogram.particles, positions_px=alignment.positions_px),
    )
