"""`tomopolish align`: RELION's own options, to settings, to a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click
from click.core import ParameterSource

from tomopolish.cli.cluster import cluster_from, cluster_section
from tomopolish.cli.grouped import FILE, NUMBER, Section, command, invocation, overwrite_flag
from tomopolish.cli.relion_version import relion_version_option, version_from
from tomopolish.cli.species import YAML, species_from
from tomopolish.cli.tilts import add_tilt_options, tilt_selection
from tomopolish.errors import InputError
from tomopolish.settings.alignment import (
    DEFORMATION_MODELS,
    UNAVAILABLE_OPTIONS,
    AlignSettings,
    DeformationSettings,
    FitSettings,
    InputPaths,
    MotionSettings,
    RunSettings,
    WeightSettings,
    WindowSettings,
    refuse_unavailable,
)

ONLY_WITH = {
    "--motion": ("s_vel", "s_div", "abs_params", "sq_exp_ker", "max_ed"),
    "--deformation": ("def_w", "def_h", "def_model", "def_reg", "per_frame_deformation"),
}
"""Options that do nothing unless another one is given."""

NOT_WITH: dict[str, tuple[Callable[[Mapping[str, Any]], bool], tuple[str, ...]]] = {
    "--def_model linear": (lambda v: v["deformation"] and v["def_model"] == "linear", ("def_w", "def_h")),
    "--no_whiten": (lambda v: v["no_whiten"], ("per_frame_noise",)),
    "--shift_only": (lambda v: v["shift_only"], ("const_p", "const_a", "it", "range_reg")),
    "--shift_only without --shift_only_by_particles": (
        lambda v: v["shift_only"] and not v["shift_only_by_particles"],
        ("per_frame_noise", "hold_out"),
    ),
}
"""Options that do nothing where another one is given: its name, whether it is, and theirs."""


def _sections() -> list[Section]:
    return [_input(), _alignment(), _weights(), _motion(), _deformation(), _run(), cluster_section()]


def _input() -> Section:
    section = Section("Input (paths are relative to the working directory)")
    section.value(
        "--i", "STAR", "Optimisation set; one for each of several species, or a YAML file that lists them.",
        type=FILE, multiple=True,
    )  # fmt: skip
    section.value("--p", "STAR", "Particle set, instead of the optimisation set's.", type=FILE)
    section.value("--t", "STAR", "Tomogram set, instead of the optimisation set's.", type=FILE)
    section.value("--mot", "STAR", "Particle trajectories to start from.", type=FILE)
    section.value("--ref1", "MRC", "Half map 1.", type=FILE)
    section.value("--ref2", "MRC", "Half map 2.", type=FILE)
    section.value("--mask", "MRC", "Mask of the reference.", type=FILE)
    section.value("--fsc", "STAR", "FSC of the reference, as a postprocess.star holds it.", type=FILE)
    relion_version_option(section)
    return section


def _alignment() -> Section:
    section = Section("Alignment")
    section.value(
        "--b", "PX", "Box that is cut around each particle; even. One, or one for each --i.",
        type=int, multiple=True,
    )  # fmt: skip
    section.value("--r", "PX", "Largest displacement that is searched.", type=int, default=20)
    section.flag("--const_p", "Keep the particles' positions.")
    section.flag("--const_a", "Keep the projections' angles.")
    section.flag("--const_s", "Keep the projections' shifts.")
    section.flag("--shift_only", "Refine one shift per tilt image, from whole predicted micrographs.")
    section.flag("--shift_only_by_particles", "With --shift_only: from the particles' windows instead.")
    section.value("--range_reg", "PER_PX2", "Penalty on displacements beyond --r.", type=NUMBER, default=0.0)
    section.value(
        "--it", "N", "Most iterations of the solver; 0: until it has converged.", type=int, default=0
    )
    section.value("--min_frame", "N", "First tilt image used, by exposure.", type=int, default=0)
    section.value("--max_frame", "N", "Last tilt image used, by exposure; -1: all.", type=int, default=-1)
    add_tilt_options(section)
    section.value("--pad", "FACTOR", "Oversampling of the windows.", type=NUMBER, default=1.0)
    section.value(
        "--ref_scale", "FACTOR", "Factor applied to the references; auto: estimated where far off.",
        type=str, default="auto",
    )  # fmt: skip
    section.value(
        "--hold_out", "FRACTION",
        "Share of the particle images that a first fit does without, to judge it; 0: none; auto: a tenth.",
        type=str, default="auto",
    )  # fmt: skip
    section.flag("--aniso", "Refused: it does nothing in RELION.")
    section.flag("--per_tilt_aniso", "Refused: it does nothing in RELION.")
    return section


def _weights() -> Section:
    section = Section("Weights of frequencies")
    section.value(
        "--freq_cutoff", "ANGSTROM", "Best resolution used; -1: from the FSC.", type=NUMBER, default=-1.0
    )
    section.value(
        "--fsc_thresh_width", "SHELLS", "Width of the flank after the FSC's last shell.",
        type=NUMBER, default=5.0,
    )  # fmt: skip
    section.flag("--use_SNR_weight", "Weight by the reference's signal-to-noise ratio.")
    section.flag("--per_frame_noise", "One noise spectrum per tilt image instead of one per series.")
    section.flag("--no_whiten", "Do not weight by the noise.")
    section.flag("--whiten_abs", "Weight by the noise's amplitude instead of its power.")
    section.value("--hp", "FOURIER_PX", "Width of a high-pass filter; -1: none.", type=NUMBER, default=-1.0)
    section.value(
        "--srp", "POWER", "Power of the frequency by which it is weighted.", type=NUMBER, default=0.0
    )
    section.value(
        "--cutoff_fract", "FRACTION", "Least weight at which a frequency is used.", type=NUMBER, default=0.02
    )
    return section


def _motion() -> Section:
    section = Section("Particle motion")
    section.flag("--motion", "Refine the particles' motion during the exposure.")
    section.value("--s_vel", "A_PER_DOSE", "Typical velocity, Å per e⁻/Å².", type=NUMBER, default=0.5)
    section.value(
        "--s_div", "A_PER_DOSE", "Distance over which motion is alike, Å per e⁻/Å².",
        type=NUMBER, default=5000.0,
    )  # fmt: skip
    section.flag("--abs_params", "--s_vel in Å per tilt image and --s_div in Å.")
    section.flag("--sq_exp_ker", "Square-exponential covariance instead of exponential.")
    section.value("--max_ed", "N", "Number of eigen-deformations; -1: all.", type=int, default=-1)
    return section


def _deformation() -> Section:
    section = Section("Image deformation")
    section.flag("--deformation", "Refine a warp of the tilt images.")
    section.value("--def_w", "N", "Columns of its grid.", type=int, default=3)
    section.value("--def_h", "N", "Rows of its grid.", type=int, default=3)
    section.value(
        "--def_model", "MODEL", f"Its form: {', '.join(DEFORMATION_MODELS)}.", type=str, default="spline"
    )
    section.value("--def_reg", "WEIGHT", "Weight of its regulariser; 0: estimated.", type=NUMBER, default=0.0)
    section.flag("--per_frame_deformation", "One warp per tilt image instead of one per series.")
    return section


def _run() -> Section:
    section = Section("Run")
    section.value("--o", "FOLDER", "Output folder.", type=FILE, required=True)
    section.value("--j", "N", "Threads.", type=int, default=1)
    section.value(
        "--device", "NAME", "auto, cpu, cuda, or CUDA devices as cuda:0,cuda:1: a tomogram on each.",
        type=str, default="auto",
    )  # fmt: skip
    section.flag("--dry_run", "Check everything, say what would be done, and stop.")
    section.flag("--only_do_unfinished", "Keep the tomograms that an earlier run finished.")
    overwrite_flag(section)
    section.flag("--strict", "End at the first tomogram that fails.")
    section.flag("--evaluate", "Reconstruct half maps before and after, and compare their FSC.")
    section.flag("--diag", "Write intermediate results for inspection.")
    section.flag("--no_report", "Leave out report.html.")
    section.value("--pipeline_control", "FOLDER", "Job folder of RELION's pipeline.", type=FILE)
    section.value("--theme", "NAME", "Ignored; RELION's GUI passes it.", type=str)
    return section


def _marked(sections: list[Section]) -> list[Section]:
    """Say in the help of each option that no code carries out that it is not available."""
    for option in (option for section in sections for option in section.options):
        if option.opts[0] in UNAVAILABLE_OPTIONS:
            option.help = f"{option.help} Not available yet."
    return sections


def settings_from(values: Mapping[str, Any]) -> AlignSettings:
    """Turn parsed options into settings; raises InputError on combinations that cannot work."""
    for name in ("aniso", "per_tilt_aniso"):
        if values[name]:
            raise InputError(f"--{name} does nothing in RELION and nothing here: leave it out")
    inputs = _input_paths(values)
    return AlignSettings(
        inputs=inputs,
        windows=WindowSettings(
            box_px=inputs.species[0].box_px if inputs.species else values["b"][0],
            range_px=values["r"],
            range_penalty=values["range_reg"],
            padding=values["pad"],
            min_frame=values["min_frame"],
            max_frame=_unless_negative(values["max_frame"]),
        ),
        weights=_weight_settings(values),
        fit=FitSettings(
            const_positions=values["const_p"],
            const_angles=values["const_a"],
            const_shifts=values["const_s"],
            shift_only=values["shift_only"],
            shift_only_by_particles=values["shift_only_by_particles"],
            reference_scale=_reference_scale(values["ref_scale"]),
            held_out_fraction=_fraction(values["hold_out"]),
            max_iterations=values["it"] or None,
        ),
        motion=_motion_settings(values) if values["motion"] else None,
        deformation=_deformation_settings(values) if values["deformation"] else None,
        run=RunSettings(
            output_folder=values["o"],
            threads=values["j"],
            device=values["device"],
            only_do_unfinished=values["only_do_unfinished"],
            diagnostics=values["diag"],
            evaluate=values["evaluate"],
            dry_run=values["dry_run"],
            pipeline_folder=values["pipeline_control"],
            overwrite=values["overwrite"],
            strict=values["strict"],
            report=not values["no_report"],
            cluster=cluster_from(values),
        ),
    )


def _input_paths(values: Mapping[str, Any]) -> InputPaths:
    sets, boxes = values["i"], values["b"]
    if not boxes and not any(path.suffix.lower() in YAML for path in sets):
        raise click.UsageError("Missing option '--b'.")
    species = species_from(sets, boxes)
    return InputPaths(
        species=species,
        optimisation_set=None if species or not sets else sets[0],
        particles=values["p"],
        tomograms=values["t"],
        trajectories=values["mot"],
        half_map1=values["ref1"],
        half_map2=values["ref2"],
        mask=values["mask"],
        fsc=values["fsc"],
        relion_version=version_from(values["relion_version"]),
        tilts=tilt_selection(values),
    )


def _weight_settings(values: Mapping[str, Any]) -> WeightSettings:
    return WeightSettings(
        freq_cutoff_angstrom=_unless_negative(values["freq_cutoff"]),
        fsc_thresh_width=values["fsc_thresh_width"],
        use_snr_weight=values["use_snr_weight"],
        per_frame_noise=values["per_frame_noise"],
        whiten=not values["no_whiten"],
        whiten_abs=values["whiten_abs"],
        hp_sigma=_unless_negative(values["hp"]),
        srp=values["srp"],
        cutoff_fraction=values["cutoff_fract"],
    )


def _motion_settings(values: Mapping[str, Any]) -> MotionSettings:
    return MotionSettings(
        velocity_scale=values["s_vel"],
        distance_scale=values["s_div"],
        absolute=values["abs_params"],
        squared_exponential=values["sq_exp_ker"],
        max_deformations=_unless_negative(values["max_ed"]),
    )


def _deformation_settings(values: Mapping[str, Any]) -> DeformationSettings:
    return DeformationSettings(
        model=values["def_model"],
        grid=(values["def_w"], values["def_h"]),
        regulariser=values["def_reg"],
        per_frame=values["per_frame_deformation"],
    )


def _reference_scale(given: str) -> float | None:
    """Read --ref_scale: None for auto."""
    if given == "auto":
        return None
    try:
        return float(given)
    except ValueError:
        raise InputError(f"--ref_scale {given} is no factor: give auto, or a number above 0") from None


def _fraction(given: str) -> float | None:
    """Read --hold_out: None for auto."""
    if given == "auto":
        return None
    try:
        return float(given)
    except ValueError:
        raise InputError(f"--hold_out {given} is no share: give auto, or 0 (none) to 0.5") from None


def _unless_negative(value: Any) -> Any:
    """RELION's −1 for "off" as None."""
    return None if value < 0 else value


def _align(**values: Any) -> int:
    settings = settings_from(values)
    refuse_unavailable(settings)
    _warn_of_idle_options(values)

    from tomopolish.run.align import run_align

    return run_align(settings, invocation())


def _warn_of_idle_options(values: Mapping[str, Any]) -> None:
    context = click.get_current_context()
    for governor, names in ONLY_WITH.items():
        if values[governor.removeprefix("--")]:
            continue
        for name in names:
            if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                click.echo(f"warning: --{name} has no effect without {governor}", err=True)
    for other, (given, idle) in NOT_WITH.items():
        for name in idle if given(values) else ():
            if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                click.echo(f"warning: --{name} has no effect with {other}", err=True)


COMMAND = command(
    "align",
    _align,
    _marked(_sections()),
    text="Refine the projections of tilt series and the positions of particles against a known structure. "
    "A command line of relion_tomo_align works with only the program's name changed.",
    epilog="Example: tomopolish align --i Extract/job010/optimisation_set.star --b 128 --r 12 --j 8 --o out/",
)
