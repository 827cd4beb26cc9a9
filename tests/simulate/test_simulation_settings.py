"""Settings that cannot be simulated are refused with a sentence."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from tomopolish.cli import run
from tomopolish.errors import InputError
from tomopolish.simulate.parts import (
    AcquisitionSettings,
    DirtSettings,
    MoleculeSettings,
    NoiseSettings,
    PlantedErrors,
    PlantedMotion,
    PlantedWarp,
    SimulationSettings,
    SpecimenSettings,
)

REFUSED: list[tuple[Callable[..., object], dict[str, object], str]] = [
    (MoleculeSettings, {"box_px": 47}, "even number"),
    (MoleculeSettings, {"box_px": 8}, "16 or more"),
    (MoleculeSettings, {"diameter_fraction": 1.2}, "between 0.1 and 0.9"),
    (MoleculeSettings, {"blobs": 2}, "10 or more"),
    (MoleculeSettings, {"blobs": 10**9}, "at most 100000"),
    (MoleculeSettings, {"box_px": 4096}, "at most 1024"),
    (MoleculeSettings, {"blob_sigma_px": 0.2}, "0.5 px or more"),
    (MoleculeSettings, {"blob_sigma_px": 9.0}, "eighth"),
    (MoleculeSettings, {"resolution_px": 1.9}, "Nyquist"),
    (MoleculeSettings, {"resolution_px": 40.0}, "box / 4"),
    (MoleculeSettings, {"mask": "cube"}, "molecule, sphere"),
    (AcquisitionSettings, {"image_size_px": (512, 20)}, "too small"),
    (AcquisitionSettings, {"image_size_px": (90_000, 512)}, "too large"),
    (AcquisitionSettings, {"tilt_step_degrees": 1e-5}, "more than 2000 tilt images"),
    (AcquisitionSettings, {"optics_groups": 10**6}, "at most 10000"),
    (AcquisitionSettings, {"pixel_size_angstrom": 0.0}, "positive"),
    (AcquisitionSettings, {"tilt_range_degrees": 95.0}, "range < 90"),
    (AcquisitionSettings, {"tilt_step_degrees": 0.0}, "0 < step"),
    (AcquisitionSettings, {"dose_scheme": "random"}, "dose-symmetric"),
    (AcquisitionSettings, {"file_order": "random"}, "shuffled"),
    (AcquisitionSettings, {"frame_dose": 0.0}, "positive"),
    (AcquisitionSettings, {"hand": 2.0}, "1 or -1"),
    (AcquisitionSettings, {"amplitude_contrast": 1.0}, "below 1"),
    (AcquisitionSettings, {"optics_groups": 0}, "at least one"),
    (AcquisitionSettings, {"bfactor_per_dose": -1.0}, "negative"),
    (AcquisitionSettings, {"inelastic_loss": -0.1}, "inelastic_loss: it must not be negative"),
    (SpecimenSettings, {"particles": 0}, "at least one"),
    (SpecimenSettings, {"particles": 10**8}, "at most 100000"),
    (SpecimenSettings, {"thickness_angstrom": -1.0}, "negative"),
    (SpecimenSettings, {"tomogram_size_px": (10, 0, 10)}, "three positive"),
    (SpecimenSettings, {"min_distance_px": -1.0}, "negative"),
    (PlantedErrors, {"shift_px": -1.0}, "shift_px"),
    (PlantedErrors, {"max_displacement_px": 0.0}, "positive"),
    (
        PlantedErrors,
        {"max_displacement_px": 3.0, "shift_px": 0.0, "angle_degrees": 0.0, "position_px": 0.0},
        "at least one of the errors",
    ),
    (NoiseSettings, {"pair_snr": 0.0}, "more than 0"),
    (NoiseSettings, {"sigma": 0.0}, "positive"),
    (NoiseSettings, {"low_frequency_excess": -1.0}, "negative"),
    (NoiseSettings, {"corner_px": 0.0}, "positive"),
    (PlantedMotion, {"velocity_scale": 0.0}, "positive"),
    (PlantedMotion, {"distance_scale": 0.0}, "positive"),
    (PlantedWarp, {"model": "cubic"}, "linear, spline, Fourier"),
    (PlantedWarp, {"grid": (1, 3)}, "2 to 20"),
    (PlantedWarp, {"amplitude_px": 0.0}, "positive"),
    (DirtSettings, {"false_particles": -0.1}, "between 0 and 10"),
    (DirtSettings, {"misoriented": 1.1}, "between 0 and 1"),
    (DirtSettings, {"misoriented": 0.6, "picked_twice": 0.5}, "more than 1"),
    (DirtSettings, {"misoriented_turn_degrees": 181.0}, "0 to 180"),
    (DirtSettings, {"beads": -1}, "between 0 and"),
    (DirtSettings, {"bead_diameter_angstrom": 0.0}, "positive"),
    (DirtSettings, {"gradient": -1.0}, "negative"),
    (SimulationSettings, {"dirt": DirtSettings(bead_diameter_angstrom=900.0)}, "wider than 256 px"),
    (SimulationSettings, {"seed": -1}, "negative"),
    (SimulationSettings, {"tomograms": 0}, "at least one"),
    (SimulationSettings, {"dialect": "relion3"}, "relion5, relion4"),
    (SimulationSettings, {"image_type": "uint8"}, "float16"),
    (SimulationSettings, {"image_type": "int16", "noise": NoiseSettings(sigma=1.0)}, "in integers"),
]


@pytest.mark.parametrize(("kind", "values", "words"), REFUSED)
def test_impossible_settings_are_refused(kind: Callable[..., object], values: dict, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        kind(**values)
    argument = str(caught.value).partition(":")[0]
    fields = {f.name for settings in (kind, DirtSettings) for f in dataclasses.fields(settings)}  # type: ignore[arg-type]
    assert {name.partition("[")[0] for name in argument.split(", ")} <= fields


def test_the_command_line_hears_of_its_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options, says in (
        ("--box 15", "--box: a box of 15 px"),
        ("--second 3 --second_box 15", "--second_box: a box of 15 px"),
        ("--tilt_step 80", "--tilt_step, --tilt_range: tilts of"),
        ("--beads -1", "--beads: it must lie between"),
    ):
        assert run(["simulate", "--o", str(tmp_path / "out"), *options.split()]) == 2
        assert says in capsys.readouterr().err


def test_whole_number_images_get_noise_that_survives_rounding() -> None:
    assert SimulationSettings(image_type="int16").noise_sigma == 100
    assert SimulationSettings().noise_sigma == 1
