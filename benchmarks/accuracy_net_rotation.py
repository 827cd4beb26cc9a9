"""Net rotation of the views against the truth, for few and many particles and several kinds of input."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from accuracy_cases import Case, align_settings, static_case
from tomopolish.dataset.model import TiltSeries
from tomopolish.physics.geometry import rotation_y, rotation_z, tomogram_centre_px
from tomopolish.simulate.parts import NoiseSettings, PlantedErrors, Truth

COUNTS = (1, 2, 3, 5, 10, 14, 30, 100, 200)
PAIR_SNR = 20.0
RANGE_PX = 16
CROWDED = 100
"""Particles from which on they may lie closer to each other than a molecule is wide."""


@dataclass(frozen=True, kw_only=True)
class InputErrors:
    """Errors of the input: independent errors, and rotations that all projections share."""

    name: str
    angle_degrees: float
    position_px: float
    axis_degrees: float = 0.0
    tilt_degrees: float = 0.0


INPUTS = (
    InputErrors(name="small errors", angle_degrees=0.05, position_px=1.0),
    InputErrors(name="usual errors", angle_degrees=0.2, position_px=1.5),
    InputErrors(name="large errors", angle_degrees=0.5, position_px=3.0),
    InputErrors(name="tilt axis 1.5° off", angle_degrees=0.1, position_px=1.5, axis_degrees=1.5),
    InputErrors(name="tilts 2° off", angle_degrees=0.1, position_px=1.5, tilt_degrees=2.0),
)


@dataclass(frozen=True, kw_only=True)
class NetRotationCase(Case):
    """One seed of the study."""

    input_errors: InputErrors


def net_rotation_case(seed: int) -> NetRotationCase:
    """All counts come in turns, and after each round the next kind of input."""
    count = COUNTS[seed % len(COUNTS)]
    errors = INPUTS[seed // len(COUNTS) % len(INPUTS)]
    usual = static_case(seed // (len(COUNTS) * len(INPUTS)))
    simulation = replace(
        usual.simulation,
        specimen=replace(
            usual.simulation.specimen, particles=count, min_distance_px=18.0 if count >= CROWDED else None
        ),
        errors=PlantedErrors(
            shift_px=2.0, angle_degrees=errors.angle_degrees, position_px=errors.position_px
        ),
        noise=NoiseSettings(pair_snr=PAIR_SNR),
    )
    return NetRotationCase(
        seed=seed,
        simulation=simulation,
        align=align_settings(usual.align.windows.box_px, RANGE_PX),
        input_errors=errors,
    )


def turned_input(series: TiltSeries, truth: Truth, errors: InputErrors) -> tuple[TiltSeries, Truth]:
    """Turn what the input says of the projections: the tilt axis in the images, and all tilts about it."""
    projections = series.projections_px.copy()
    centre = tomogram_centre_px(series.tomogram_size_px)
    rotation = rotation_z(errors.axis_degrees) @ projections[:, :3, :3] @ rotation_y(errors.tilt_degrees)
    projections[:, :3, 3] += (projections[:, :3, :3] - rotation) @ centre
    projections[:, :3, :3] = rotation
    return (
        replace(series, projections_px=projections),
        replace(truth, input_projections_px=np.array(projections)),
    )
