"""`tomopolish simulate`: a complete project with known truth."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import click

from tomopolish.cli.fields import settings_of
from tomopolish.cli.grouped import FILE, NUMBER, Section, command, invocation, overwrite_flag
from tomopolish.errors import InputError
from tomopolish.settings.alignment import DEFORMATION_MODELS
from tomopolish.settings.dirt import DirtSettings
from tomopolish.settings.simulated_structure import CompanionSettings, MoleculeSettings
from tomopolish.settings.simulation import (
    DOSE_SCHEMES,
    FILE_ORDERS,
    IMAGE_TYPES,
    AcquisitionSettings,
    NoiseSettings,
    PlantedErrors,
    PlantedMotion,
    PlantedWarp,
    SimulationSettings,
    SpecimenSettings,
)

SECOND = CompanionSettings(name="second", molecule=MoleculeSettings(seed=1))


def _sections() -> list[Section]:
    return [_project(), _specimen(), _acquisition(), _noise(), _planted_errors(), _motion(), _warp(), _dirt()]


def _project() -> Section:
    section = Section("Project", SimulationSettings)
    section.value("--o", "FOLDER", "Output folder for the project.", type=FILE, required=True)
    section.value("--tomograms", "N", "Number of tomograms.")
    section.value("--seed", "N", "Seed of the random numbers: the same seed gives the same project.")
    versions = click.Choice(["5", "4"])
    section.value(
        "--dialect", "5|4", "Version of RELION whose file formats are written.", type=versions, default="5"
    )
    _choice(section, "--image_type", IMAGE_TYPES, "Data type of the images.")
    section.value("--j", "N", "Number of threads.", type=int, default=1)
    overwrite_flag(section)
    return section


def _specimen() -> Section:
    section = Section("Specimen", MoleculeSettings, SpecimenSettings)
    section.value("--map", "MRC", "Map of the structure to simulate, instead of a synthetic molecule.")
    section.value("--box", "PX", "Box size of the synthetic molecule's map; even.")
    section.value("--molecule_seed", "N", "Seed of the synthetic molecule.")
    section.value("--particles", "N", "Number of particles in each tomogram.")
    text = "Number of particles of a second structure in each tomogram; 0: none."
    section.value("--second", "N", text, default=0)
    section.value("--second_box", "PX", "Box size of the second structure; even.")
    section.value("--second_seed", "N", "Seed of the second structure.", default=SECOND.molecule.seed)
    section.value(
        "--second_snr", "RATIO", "--snr of the second structure.", type=NUMBER, default=SECOND.pair_snr
    )
    section.value("--thickness", "ANGSTROM", "Thickness of the layer that contains the particles.")
    text = "Size of the tomogram, px.  [default: the images' size and the layer's thickness]"
    section.value("--tomogram_size", "W H D", text, type=int, nargs=3)
    return section


def _acquisition() -> Section:
    section = Section("Acquisition", AcquisitionSettings)
    size = AcquisitionSettings.image_size_px
    section.value("--image_size", "W H", "Size of the tilt images, px.", type=int, nargs=2, default=size)
    section.value("--pixel_size", "ANGSTROM", "Pixel size of the tilt images.")
    section.value("--tilt_range", "DEGREES", "Largest tilt angle, to both sides.")
    section.value("--tilt_step", "DEGREES", "Tilt between neighbouring images.")
    section.value("--tilt_axis", "DEGREES", "Angle of the tilt axis in the image.")
    section.value("--dose", "DOSE", "Dose of each image, e⁻/Å².")
    text = "Dose of the first image, e⁻/Å², as in hybrid schemes; -1: as --dose."
    section.value("--first_dose", "DOSE", text)
    section.value("--hand", "1|-1", "Handedness: sign of the change of defocus with depth.")
    section.value("--defocus", "ANGSTROM", "Mean defocus.")
    _choice(section, "--dose_scheme", DOSE_SCHEMES, "Order of the tilts.")
    _choice(section, "--file_order", FILE_ORDERS, "Order of the tilts in the files.")
    return section


def _noise() -> Section:
    section = Section("Noise", NoiseSettings)
    section.value(
        "--snr",
        "RATIO",
        "Signal-to-noise power ratio of one particle in one tilt image, summed over frequencies; below about "
        "15 a single image cannot be aligned.",
    )
    text = "Noise power at low relative to that at high frequencies, minus 1."
    section.value("--noise_excess", "RATIO", text)
    return section


def _planted_errors() -> Section:
    section = Section("Errors of the input alignment (standard deviations)", PlantedErrors)
    section.value("--shift_error", "PX", "Error of the tilt images' shifts.")
    section.value("--angle_error", "DEGREES", "Error of the tilt images' angles.")
    section.value("--position_error", "PX", "Error of the particles' positions.")
    text = "Scale all errors such that this is the largest error of a particle in any image."
    section.value("--max_error", "PX", text)
    return section


def _motion() -> Section:
    section = Section("Particle motion", PlantedMotion)
    section.flag("--motion", "Simulate motion of the particles during the exposure.")
    section.value("--s_vel", "A_PER_DOSE", "Sigma of the velocity, Å per e⁻/Å².")
    section.value("--s_div", "A_PER_DOSE", "Distance over which motion is similar, Å per e⁻/Å².")
    section.flag("--sq_exp_ker", "Use the square-exponential covariance instead of the exponential one.")
    return section


def _warp() -> Section:
    section = Section("Image deformation", PlantedWarp)
    section.flag("--deformation", "Warp the tilt images.")
    _choice(section, "--def_model", DEFORMATION_MODELS, "Form of the warp.")
    section.value("--def_w", "N", "Columns of the warp's grid.")
    section.value("--def_h", "N", "Rows of the warp's grid.")
    section.value("--def_amplitude", "PX", "Root mean square displacement by the warp.")
    section.flag("--per_frame_deformation", "Use one warp per tilt image instead of one per series.")
    return section


def _dirt() -> Section:
    section = Section("Dirt (shares are of the true particles)", DirtSettings)
    section.value("--false_particles", "SHARE", "Picks where nothing is.")
    section.value("--misoriented", "SHARE", "Particles whose orientation is wrong.")
    section.value("--misoriented_turn", "DEGREES", "By how much it is.")
    section.value("--picked_twice", "SHARE", "Particles that were picked twice.")
    section.value("--bead_diameter", "ANGSTROM", "Diameter of the gold beads.")
    section.value("--gradient", "RATIO", "RMS background of each image over that of its noise.")
    section.value("--defocus_error", "ANGSTROM", "Standard deviation of the defocus' error.")
    section.value("--displaced_by", "PX", "How far displaced tilt images are off.")
    section.value("--beads", "N", "Gold beads in each tomogram.")
    section.value("--hot_pixels", "N", "Hot pixels in each image.")
    section.value("--blank_images", "N", "Tilt images of each tomogram that show noise only.")
    section.value("--covered_images", "N", "Tilt images that a bar covers to about a half.")
    section.value("--displaced_images", "N", "Tilt images that are far off.")
    return section


def _choice(section: Section, name: str, choices: tuple[str, ...], text: str) -> None:
    section.value(name, "|".join(choices), text, type=click.Choice(choices))


def settings_from(values: Mapping[str, Any]) -> SimulationSettings:
    """Return parsed options as settings; raises InputError when they cannot be simulated."""
    return settings_of(
        SimulationSettings,
        values,
        seed=values["seed"],
        dialect=f"relion{values['dialect']}",
        molecule=settings_of(MoleculeSettings, values, box_px=values["box"], seed=values["molecule_seed"]),
        acquisition=settings_of(AcquisitionSettings, values),
        specimen=settings_of(SpecimenSettings, values, particles=values["particles"]),
        noise=settings_of(NoiseSettings, values, pair_snr=values["snr"]),
        errors=settings_of(PlantedErrors, values),
        motion=settings_of(PlantedMotion, values) if values["motion"] else None,
        warp=settings_of(PlantedWarp, values) if values["deformation"] else None,
        dirt=settings_of(DirtSettings, values),
        companions=(_second_species(values),) if values["second"] else (),
    )


def _second_species(values: Mapping[str, Any]) -> CompanionSettings:
    try:
        molecule = MoleculeSettings(box_px=values["second_box"], seed=values["second_seed"])
    except InputError as problem:  # which names the options of the first species
        raise InputError(str(problem).replace("--box:", "--second_box:")) from None
    return CompanionSettings(
        name=SECOND.name, molecule=molecule, particles=values["second"], pair_snr=values["second_snr"]
    )


def _simulate(**values: Any) -> int:
    settings = settings_from(values)

    from tomopolish.run.commands.simulate import run_simulate
    from tomopolish.run.reporter import reporter_for

    run_simulate(
        values["o"],
        settings,
        invocation(),
        threads=values["j"],
        reporter=reporter_for(sys.stdout),
        overwrite=values["overwrite"],
    )
    return 0


COMMAND = command(
    "simulate",
    _simulate,
    _sections(),
    text="Write a complete RELION project of a synthetic molecule or a map: tilt images with noise, an "
    "alignment with errors, references, and the truth in truth.json.",
    epilog="Example: tomopolish simulate --o project --tomograms 2 --particles 50 --snr 100 --j 4",
)
