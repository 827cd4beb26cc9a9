"""Alignments on wrong premises: what the verdict says, and what really became of the geometry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import scipy.fft

from accuracy_cases import Case, align_settings
from accuracy_runs import Record, Tomogram, align, description, simulate
from tomopolish.results.verdict import sentence, verdict
from tomopolish.simulate.parts import (
    AcquisitionSettings,
    MoleculeSettings,
    NoiseSettings,
    PlantedErrors,
    SimulationSettings,
    SpecimenSettings,
    build_structure,
)
from tomopolish.simulate.specimen import random_positions_px, random_rotations

Array = np.ndarray

BOX_PX, RANGE_PX = 64, 12
PAIR_SNRS = (40.0, 20.0, 60.0)
LOW_SCALE = 0.1
"""Intensity of the images over that which the references promise."""


@dataclass(frozen=True, kw_only=True)
class PremiseCase(Case):
    """One seed of the study."""

    premise: str


def premise_case(seed: int) -> PremiseCase:
    """All premises come in turns with the same tomogram; after each round the next tomogram."""
    premise, number = list(PREMISES)[seed % len(PREMISES)], seed // len(PREMISES)
    simulation = SimulationSettings(
        seed=900 + number,
        molecule=MoleculeSettings(box_px=BOX_PX, seed=(number + 3) % 8),
        acquisition=AcquisitionSettings(
            image_size_px=(520, 493), tilt_step_degrees=6.0, hand=(1.0, -1.0)[number % 2]
        ),
        specimen=SpecimenSettings(particles=50 + 10 * (number % 3), thickness_angstrom=500.0),
        errors=PlantedErrors(shift_px=2.0, angle_degrees=0.1, position_px=1.5),
        noise=NoiseSettings(pair_snr=PAIR_SNRS[number % len(PAIR_SNRS)]),
    )
    return PremiseCase(
        seed=seed, simulation=simulation, align=align_settings(BOX_PX, RANGE_PX), premise=premise
    )


def measure_premise(case: PremiseCase) -> Record:
    """Align a tomogram after one premise was made wrong."""
    tomogram = PREMISES[case.premise](simulate(case), case)
    run = align(tomogram, case.align)
    found = None if run.evidence is None else verdict({tomogram.series.name: run.evidence})
    return description(case, tomogram) | {
        "premise": case.premise,
        "sentence": sentence(found),
        "helped": found is not None and found.helped,
        "input_angstrom": run.input_errors.rms_2d_angstrom,
        "run_angstrom": run.errors.rms_2d_angstrom,
        "input_net_degrees": run.input_errors.net_rotation_degrees,
        "run_net_degrees": run.errors.net_rotation_degrees,
        "scale": run.scale,
        "agreement_before": None if found is None else found.agreement_before,
        "agreement_after": None if found is None else found.agreement_after,
        "warnings": list(run.warnings),
        "seconds": run.seconds,
    }


def _rng(case: Case) -> np.random.Generator:
    return np.random.default_rng([case.seed, 15])


def _with_maps(tomogram: Tomogram, half_maps: Array, **changes: object) -> Tomogram:
    maps = np.ascontiguousarray(half_maps, dtype=np.float32)
    return replace(tomogram, references=replace(tomogram.references, half_maps=maps, **changes))


def as_it_is(tomogram: Tomogram, case: Case) -> Tomogram:
    """Change nothing: all premises hold."""
    return tomogram


def inverted(tomogram: Tomogram, case: Case) -> Tomogram:
    """Invert the references' contrast."""
    return _with_maps(tomogram, -tomogram.references.half_maps)


def mirrored(tomogram: Tomogram, case: Case) -> Tomogram:
    """Mirror references and mask about the voxel of their origin."""
    mask = tomogram.references.mask
    assert mask is not None
    return _with_maps(tomogram, _mirror(tomogram.references.half_maps), mask=_mirror(mask))


def _mirror(volumes: Array) -> Array:
    return np.ascontiguousarray(np.roll(volumes[..., ::-1], 1, axis=-1))


def random_reference(tomogram: Tomogram, case: Case) -> Tomogram:
    """Give both half maps the same random phases; their power and their FSC stay."""
    maps = tomogram.references.half_maps
    noise = scipy.fft.rfftn(_rng(case).standard_normal(maps.shape[1:]))
    turned = [scipy.fft.irfftn(scipy.fft.rfftn(half) * noise / np.abs(noise), s=half.shape) for half in maps]
    return _with_maps(tomogram, np.stack(turned))


def foreign(tomogram: Tomogram, case: Case) -> Tomogram:
    """Take the references of another molecule."""
    molecule = replace(case.simulation.molecule, seed=case.simulation.molecule.seed + 50)
    other = build_structure(replace(case.simulation, molecule=molecule))
    return replace(tomogram, references=other.references)


def random_orientations(tomogram: Tomogram, case: Case) -> Tomogram:
    """Draw all orientations anew."""
    rotations = random_rotations(len(tomogram.particles), _rng(case))
    return replace(tomogram, particles=replace(tomogram.particles, rotations=rotations))


def random_positions(tomogram: Tomogram, case: Case) -> Tomogram:
    """Draw all positions anew."""
    simulation = case.simulation
    positions = random_positions_px(
        simulation.specimen,
        tomogram.series.tomogram_size_px,
        box_px=BOX_PX,
        min_distance_px=0.5 * BOX_PX,
        pixel_size_angstrom=simulation.acquisition.pixel_size_angstrom,
        rng=_rng(case),
    )
    return replace(
        tomogram,
        particles=replace(tomogram.particles, positions_px=positions),
        truth=replace(tomogram.truth, input_positions_px=positions),
    )


def identical_halves(tomogram: Tomogram, case: Case) -> Tomogram:
    """Take the mean of the half maps as both of them, with the FSC of equal maps."""
    references = tomogram.references
    assert references.fsc is not None
    mean = references.half_maps.mean(axis=0)
    return _with_maps(tomogram, np.stack([mean, mean]), fsc=np.ones_like(references.fsc))


def low_scale(tomogram: Tomogram, case: Case) -> Tomogram:
    """Make the references stronger than the images by the same factor at all frequencies."""
    return _with_maps(tomogram, tomogram.references.half_maps / np.float32(LOW_SCALE))


PREMISES: dict[str, Callable[[Tomogram, Case], Tomogram]] = {
    "none wrong": as_it_is,
    "inverted": inverted,
    "mirrored": mirrored,
    "random reference": random_reference,
    "foreign reference": foreign,
    "random orientations": random_orientations,
    "random positions": random_positions,
    "identical half maps": identical_halves,
    "low intensity scale": low_scale,
}
