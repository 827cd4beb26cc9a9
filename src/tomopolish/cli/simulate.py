"""`tomopolish simulate`: a complete project with known truth."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import click

from tomopolish.cli.grouped import FILE, NUMBER, Section, command, invocation, overwrite_flag
from tomopolish.errors import InputError
from tomopolish.settings.dirt import DirtSettings
from tomopolish.settings.simulated_structure import CompanionSettings, MoleculeSettings
from tomopolish.settings.simulation import (
    DOSE_SCHEMES,
    FILE_ORDERS,
    IMAGE_TYPES,
    WARP_MODELS,
    AcquisitionSettings,
    NoiseSettings,
    PlantedErrors,
    PlantedMotion,
    PlantedWarp,
    SimulationSettings,
    SpecimenSettings,
)

WHOLE = SimulationSettings()
MOLECULE, ACQUISITION, SPECIMEN = WHOLE.molecule, WHOLE.acquisition, WHOLE.specimen
SECOND = CompanionSettings(name="second", molecule=MoleculeSettings(seed=1))
DIRT = WHOLE.dirt
ERRORS, NOISE, MOTION, WARP = WHOLE.errors, WHOLE.noise, PlantedMotion(), PlantedWarp()


def _sections() -> list[Section]:
    return [_project(), _specimen(), _acquisition(), _noise(), _planted_errors(), _motion(), _warp(), _dirt()]


def _project() -> Section:
    section = Section("Project")
    section.value("--o", "FOLDER", "Output folder for the project.", type=FILE, required=True)
    section.value("--tomograms", "N", "Number of tomograms.", type=int, default=WHOLE.tomograms)
    section.value(
        "--seed",
        "N",
        "Seed of the random numbers: the same seed gives the same project.",
        type=int,
        default=WHOLE.seed,
    )
    section.value(
        "--dialect",
        "5|4",
        "Version of RELION whose file formats are written.",
        type=click.Choice(["5", "4"]),
        default="5",
    )
    _choice(section, "--image_type", IMAGE_TYPES, "Data type of the images.", WHOLE.image_type)
    section.value("--j", "N", "Number of threads.", type=int, default=1)
    overwrite_flag(section)
    return section


def _specimen() -> Section:
    section = Section("Specimen")
    section.value(
        "--map", "MRC", "Map of the structure to simulate, instead of a synthetic molecule.", type=FILE
    )
    section.value(
        "--box", "PX", "Box size of the synthetic molecule's map; even.", type=int, default=MOLECULE.box_px
    )
    section.value("--molecule_seed", "N", "Seed of the synthetic molecule.", type=int, default=MOLECULE.seed)
    section.value(
        "--particles", "N", "Number of particles in each tomogram.", type=int, default=SPECIMEN.particles
    )
    section.value(
        "--second",
        "N",
        "Number of particles of a second structure in each tomogram; 0: none.",
        type=int,
        default=0,
    )
    section.value(
        "--second_box",
        "PX",
        "Box size of the second structure; even.",
        type=int,
        default=SECOND.molecule.box_px,
    )
    section.value(
        "--second_seed", "N", "Seed of the second structure.", type=int, default=SECOND.molecule.seed
    )
    section.value(
        "--second_snr", "RATIO", "--snr of the second structure.", type=NUMBER, default=SECOND.pair_snr
    )
    section.value(
        "--thickness", "ANGSTROM", "Thickness of the layer that contains the particles.",
        type=NUMBER, default=SPECIMEN.thickness_angstrom,
    )  # fmt: skip
    section.value(
        "--tomogram_size", "W H D",
        "Size of the tomogram, px.  [default: the images' size and the layer's thickness]",
        type=int, nargs=3,
    )  # fmt: skip
    return section


def _acquisition() -> Section:
    section = Section("Acquisition")
    section.value(
        "--image_size", "W H", "Size of the tilt images, px.",
        type=int, nargs=2, default=ACQUISITION.image_size_px,
    )  # fmt: skip
    for name, metavar, text, default in (
        ("--pixel_size", "ANGSTROM", "Pixel size of the tilt images.", ACQUISITION.pixel_size_angstrom),
        ("--tilt_range", "DEGREES", "Largest tilt angle, to both sides.", ACQUISITION.tilt_range_degrees),
        ("--tilt_step", "DEGREES", "Tilt between neighbouring images.", ACQUISITION.tilt_step_degrees),
        ("--tilt_axis", "DEGREES", "Angle of the tilt axis in the image.", ACQUISITION.tilt_axis_degrees),
        ("--dose", "DOSE", "Dose of each image, e⁻/Å².", ACQUISITION.frame_dose),
        (
            "--first_dose",
            "DOSE",
            "Dose of the first image, e⁻/Å², as in hybrid schemes; -1: as --dose.",
            -1.0,
        ),
        ("--hand", "1|-1", "Handedness: sign of the change of defocus with depth.", ACQUISITION.hand),
        ("--defocus", "ANGSTROM", "Mean defocus.", ACQUISITION.defocus_angstrom),
    ):
        section.value(name, metavar, text, type=NUMBER, default=default)
    _choice(section, "--dose_scheme", DOSE_SCHEMES, "Order of the tilts.", ACQUISITION.dose_scheme)
    _choice(section, "--file_order", FILE_ORDERS, "Order of the tilts in the files.", ACQUISITION.file_order)
    return section


def _noise() -> Section:
    section = Section("Noise")
    section.value(
        "--snr", "RATIO", "Signal-to-noise power ratio of one particle in one tilt image, summed over "
        "frequencies; below about 15 a single image cannot be aligned.", type=NUMBER, default=NOISE.pair_snr,
    )  # fmt: skip
    section.value(
        "--noise_excess", "RATIO", "Noise power at low relative to that at high frequencies, minus 1.",
        type=NUMBER, default=NOISE.low_frequency_excess,
    )  # fmt: skip
    return section


def _planted_errors() -> Section:
    section = Section("Errors of the input alignment (standard deviations)")
    for name, metavar, text, default in (
        ("--shift_error", "PX", "Error of the tilt images' shifts.", ERRORS.shift_px),
        ("--angle_error", "DEGREES", "Error of the tilt images' angles.", ERRORS.angle_degrees),
        ("--position_error", "PX", "Error of the particles' positions.", ERRORS.position_px),
    ):
        section.value(name, metavar, text, type=NUMBER, default=default)
    section.value(
        "--max_error", "PX",
        "Scale all errors such that this is the largest error of a particle in any image.",
        type=NUMBER,
    )  # fmt: skip
    return section


def _motion() -> Section:
    section = Section("Particle motion")
    section.flag("--motion", "Simulate motion of the particles during the exposure.")
    section.value(
        "--s_vel",
        "A_PER_DOSE",
        "Sigma of the velocity, Å per e⁻/Å².",
        type=NUMBER,
        default=MOTION.velocity_scale,
    )
    section.value(
        "--s_div", "A_PER_DOSE", "Distance over which motion is similar, Å per e⁻/Å².",
        type=NUMBER, default=MOTION.distance_scale,
    )  # fmt: skip
    section.flag("--sq_exp_ker", "Use the square-exponential covariance instead of the exponential one.")
    return section


def _warp() -> Section:
    section = Section("Image deformation")
    section.flag("--deformation", "Warp the tilt images.")
    _choice(section, "--def_model", WARP_MODELS, "Form of the warp.", WARP.model)
    section.value("--def_w", "N", "Columns of the warp's grid.", type=int, default=WARP.grid[0])
    section.value("--def_h", "N", "Rows of the warp's grid.", type=int, default=WARP.grid[1])
    section.value(
        "--def_amplitude",
        "PX",
        "Root mean square displacement by the warp.",
        type=NUMBER,
        default=WARP.amplitude_px,
    )
    section.flag("--per_frame_deformation", "Use one warp per tilt image instead of one per series.")
    return section


def _dirt() -> Section:
    section = Section("Dirt (shares are of the true particles)")
    for name, metavar, text, default in (
        ("--false_particles", "SHARE", "Picks where nothing is.", DIRT.false_particles),
        ("--misoriented", "SHARE", "Particles whose orientation is wrong.", DIRT.misoriented),
        ("--misoriented_turn", "DEGREES", "By how much it is.", DIRT.misoriented_turn_degrees),
        ("--picked_twice", "SHARE", "Particles that were picked twice.", DIRT.picked_twice),
        ("--bead_diameter", "ANGSTROM", "Diameter of the gold beads.", DIRT.bead_diameter_angstrom),
        ("--gradient", "RATIO", "RMS background of each image over that of its noise.", DIRT.gradient),
        (
            "--defocus_error",
            "ANGSTROM",
            "Standard deviation of the defocus' error.",
            DIRT.defocus_error_angstrom,
        ),
        ("--displaced_by", "PX", "How far displaced tilt images are off.", DIRT.displaced_by_px),
    ):
        section.value(name, metavar, text, type=NUMBER, default=default)
    for name, text, count in (
        ("--beads", "Gold beads in each tomogram.", DIRT.beads),
        ("--hot_pixels", "Hot pixels in each image.", DIRT.hot_pixels),
        ("--blank_images", "Tilt images of each tomogram that show noise only.", DIRT.blank_images),
        ("--covered_images", "Tilt images that a bar covers to about a half.", DIRT.covered_images),
        ("--displaced_images", "Tilt images that are far off.", DIRT.displaced_images),
    ):
        section.value(name, "N", text, type=int, default=count)
    return section


def _choice(section: Section, name: str, choices: tuple[str, ...], text: str, default: str) -> None:
    section.value(name, "|".join(choices), text, type=click.Choice(choices), default=default)


def settings_from(values: Mapping[str, Any]) -> SimulationSettings:
    """Return parsed options as settings; raises InputError when they cannot be simulated."""
    return SimulationSettings(
        seed=values["seed"],
        tomograms=values["tomograms"],
        dialect=f"relion{values['dialect']}",
        image_type=values["image_type"],
        molecule=MoleculeSettings(map_path=values["map"], box_px=values["box"], seed=values["molecule_seed"]),
        acquisition=AcquisitionSettings(
            image_size_px=values["image_size"],
            pixel_size_angstrom=values["pixel_size"],
            tilt_range_degrees=values["tilt_range"],
            tilt_step_degrees=values["tilt_step"],
            tilt_axis_degrees=values["tilt_axis"],
            dose_scheme=values["dose_scheme"],
            file_order=values["file_order"],
            frame_dose=values["dose"],
            first_dose=None if values["first_dose"] < 0 else values["first_dose"],
            hand=values["hand"],
            defocus_angstrom=values["defocus"],
        ),
        specimen=SpecimenSettings(
            particles=values["particles"],
            thickness_angstrom=values["thickness"],
            tomogram_size_px=values["tomogram_size"],
        ),
        noise=NoiseSettings(pair_snr=values["snr"], low_frequency_excess=values["noise_excess"]),
        errors=PlantedErrors(
            shift_px=values["shift_error"],
            angle_degrees=values["angle_error"],
            position_px=values["position_error"],
            max_displacement_px=values["max_error"],
        ),
        motion=_planted_motion(values) if values["motion"] else None,
        warp=_planted_warp(values) if values["deformation"] else None,
        dirt=_dirt_settings(values),
        companions=(_second_species(values),) if values["second"] else (),
    )


def _second_species(values: Mapping[str, Any]) -> CompanionSettings:
    try:
        molecule = MoleculeSettings(box_px=values["second_box"], seed=values["second_seed"])
    except InputError as problem:  # which names the options of the first species
        raise InputError(str(problem).replace("--box:", "--second_box:")) from None
    return CompanionSettings(
        name=SECOND.name,
        molecule=molecule,
        particles=values["second"],
        pair_snr=values["second_snr"],
    )


def _planted_motion(values: Mapping[str, Any]) -> PlantedMotion:
    return PlantedMotion(
        velocity_scale=values["s_vel"],
        distance_scale=values["s_div"],
        squared_exponential=values["sq_exp_ker"],
    )


def _planted_warp(values: Mapping[str, Any]) -> PlantedWarp:
    return PlantedWarp(
        model=values["def_model"],
        grid=(values["def_w"], values["def_h"]),
        amplitude_px=values["def_amplitude"],
        per_frame=values["per_frame_deformation"],
    )


def _dirt_settings(values: Mapping[str, Any]) -> DirtSettings:
    return DirtSettings(
        false_particles=values["false_particles"],
        misoriented=values["misoriented"],
        misoriented_turn_degrees=values["misoriented_turn"],
        picked_twice=values["picked_twice"],
        beads=values["beads"],
        bead_diameter_angstrom=values["bead_diameter"],
        hot_pixels=values["hot_pixels"],
        gradient=values["gradient"],
        blank_images=values["blank_images"],
        covered_images=values["covered_images"],
        defocus_error_angstrom=values["defocus_error"],
        displaced_images=values["displaced_images"],
        displaced_by_px=values["displaced_by"],
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
