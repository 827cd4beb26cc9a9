"""Cases of the accuracy studies: one simulated tomogram and one alignment for each seed.

Every property runs through its values at a pace of its own, so that a few dozen seeds hold nearly every pair
of values.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from tomopolish.settings.alignment import (
    AlignSettings,
    DeformationSettings,
    InputPaths,
    MotionSettings,
    RunSettings,
    WindowSettings,
)
from tomopolish.settings.simulation import DOSE_SCHEMES, FILE_ORDERS
from tomopolish.simulate.parts import (
    AcquisitionSettings,
    MoleculeSettings,
    NoiseSettings,
    PlantedErrors,
    PlantedMotion,
    PlantedWarp,
    SimulationSettings,
    SpecimenSettings,
)

PARTICLES = (30, 40, 55, 75, 100)
TILTS = ((60.0, 4.0), (51.0, 3.0), (60.0, 3.0), (50.0, 2.0), (60.0, 2.0))
"""Range and step, degrees: 31, 35, 41, 51 and 61 tilt images."""
RANGES_PX = (8, 10, 12, 16)
BOXES_PX = (48, 56, 64)
PAIR_SNRS = (100.0, 40.0, 20.0, 12.0, 8.0, 6.0, 5.0)
FAINT_PAIR_SNRS = (4.0, 3.0)
REACHES = (0.9, 0.9, 0.6)
"""Largest displacement between true and input 2D position, in units of the range."""
ERROR_SHARES = ((2.0, 0.2, 1.5), (3.0, 0.1, 0.5), (1.0, 0.1, 2.5), (1.5, 0.5, 1.0))
"""Shifts (px), angles (degrees) and positions (px), before all are scaled to the largest displacement."""
VELOCITY_SCALES = (0.3, 0.4, 0.5, 0.6)
FAINT_VELOCITY_SCALES = (0.1, 0.15, 0.2, 0.25)
DISTANCE_SCALE = 5000.0
MOTION_RANGE_PX = 24
"""Motion that all particles share can carry them far."""
MOTION_SNRS = (60.0, 100.0, 40.0)
WARP_MODELS = ("linear", "spline", "Fourier")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One seed of a study: what is simulated and how it is aligned."""

    seed: int
    simulation: SimulationSettings
    align: AlignSettings


def static_case(seed: int, snrs: tuple[float, ...] = PAIR_SNRS) -> Case:
    """Particles that keep still in images without warp."""
    tilt_range, tilt_step = TILTS[(2 * seed + seed // 5) % len(TILTS)]
    range_px = RANGES_PX[(seed + seed // 4) % len(RANGES_PX)]
    box = BOXES_PX[(seed + seed // 3 + 1) % len(BOXES_PX)]
    image = (420 + 17 * seed % 61, 411 + 23 * seed % 67)
    shift, angle, position = ERROR_SHARES[(seed + seed // 8) % len(ERROR_SHARES)]
    simulation = SimulationSettings(
        seed=seed,
        molecule=MoleculeSettings(box_px=box, seed=seed % 11),
        acquisition=AcquisitionSettings(
            image_size_px=image,
            tilt_range_degrees=tilt_range,
            tilt_step_degrees=tilt_step,
            tilt_axis_degrees=-180 + 77.3 * seed % 360,
            dose_scheme=DOSE_SCHEMES[seed % 3],
            file_order=FILE_ORDERS[(seed + seed // 3) % 3],
            hand=1.0 if seed // 2 % 2 else -1.0,
            defocus_angstrom=15000.0 + 4700 * seed % 26000,
        ),
        specimen=SpecimenSettings(
            particles=PARTICLES[seed % len(PARTICLES)],
            tomogram_size_px=(image[0] - 11 * seed % 7, image[1] + 5 * seed % 9, 180 + 13 * seed % 57),
            thickness_angstrom=360.0,
        ),
        errors=PlantedErrors(
            shift_px=shift,
            angle_degrees=angle,
            position_px=position,
            max_displacement_px=REACHES[seed % len(REACHES)] * range_px,
        ),
        noise=NoiseSettings(
            pair_snr=snrs[seed % len(snrs)],
            low_frequency_excess=(0.0, 5.0)[seed // 3 % 2],
            tilt_growth=(0.0, 0.5)[seed // 2 % 2],
        ),
    )
    return Case(seed=seed, simulation=simulation, align=align_settings(box, range_px))


def faint_case(seed: int) -> Case:
    """Like the static ones, with signals below the range of the criterion."""
    return static_case(seed, FAINT_PAIR_SNRS)


def faint_motion_case(seed: int) -> Case:
    """As those in motion, with motion so small that noise may hide it."""
    return motion_case(seed, FAINT_VELOCITY_SCALES)


def motion_case(seed: int, velocity_scales: tuple[float, ...] = VELOCITY_SCALES) -> Case:
    """Particles in motion, strong enough signals to see it, and the alignment told the true scales."""
    still = static_case(seed)
    velocity = velocity_scales[seed % len(velocity_scales)]
    simulation = replace(
        still.simulation,
        errors=replace(still.simulation.errors, max_displacement_px=0.9 * MOTION_RANGE_PX),
        noise=replace(still.simulation.noise, pair_snr=MOTION_SNRS[seed % len(MOTION_SNRS)]),
        motion=PlantedMotion(velocity_scale=velocity, distance_scale=DISTANCE_SCALE),
    )
    align = replace(
        align_settings(still.align.windows.box_px, MOTION_RANGE_PX),
        motion=MotionSettings(velocity_scale=velocity, distance_scale=DISTANCE_SCALE),
    )
    return Case(seed=seed, simulation=simulation, align=align)


def warp_case(seed: int) -> Case:
    """Warped images: the models in turns, one warp for the series or (every other round) for each image."""
    still = static_case(seed)
    model, own = WARP_MODELS[seed % 3], bool(seed // 3 % 2)
    reach = max(still.align.windows.range_px, 10)
    simulation = replace(
        still.simulation,
        errors=replace(still.simulation.errors, max_displacement_px=0.9 * reach),
        noise=replace(still.simulation.noise, pair_snr=MOTION_SNRS[seed % len(MOTION_SNRS)]),
        warp=PlantedWarp(model=model, amplitude_px=1.5, per_frame=own),
    )
    align = replace(
        align_settings(still.align.windows.box_px, reach),
        deformation=DeformationSettings(model=model, per_frame=own),
    )
    return Case(seed=seed, simulation=simulation, align=align)


def motion_and_warp_case(seed: int) -> Case:
    """Particles in motion, one warp for the series."""
    moving = motion_case(seed)
    model = WARP_MODELS[seed % 3]
    simulation = replace(moving.simulation, warp=PlantedWarp(model=model, amplitude_px=1.5))
    align = replace(moving.align, deformation=DeformationSettings(model=model))
    return Case(seed=seed, simulation=simulation, align=align)


def align_settings(box_px: int, range_px: int) -> AlignSettings:
    """Return the settings of an alignment in memory: a box, a range, and defaults."""
    return AlignSettings(
        inputs=InputPaths(optimisation_set=Path("simulated.star")),
        windows=WindowSettings(box_px=box_px, range_px=range_px),
        run=RunSettings(output_folder=Path("simulated")),
    )
