"""`tomopolish align`: RELION's options, turned into settings and a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import click
from click.core import ParameterSource

from tomopolish.cli.cluster import cluster_from, cluster_section
from tomopolish.cli.grouped import FILE, NUMBER, Section, command, invocation, overwrite_flag
from tomopolish.cli.relion_version import relion_version_option, version_from
from tomopolish.cli.species import YAML, species_from
from tomopolish.cli.tilts import add_tilt_options, tilt_selection
from tomopolish.errors import InputError
from tomopolish.run.journal.recording import LOG
from tomopolish.settings.alignment import (
    DEFORMATION_MODELS,
    AlignSettings,
    DeformationSettings,
    FitSettings,
    InputPaths,
    MotionSettings,
    RunSettings,
    WeightSettings,
    WindowSettings,
)
from tomopolish.settings.joint import USUAL, JointSettings

ONLY_WITH = {
    "--motion": ("s_vel", "s_div", "abs_params", "sq_exp_ker", "max_ed"),
    "--deformation": ("def_w", "def_h", "def_model", "def_reg", "per_frame_deformation"),
}
"""Options that do nothing without another option."""

NOT_WITH: dict[str, tuple[Callable[[Mapping[str, Any]], bool], tuple[str, ...]]] = {
    "--def_model linear": (lambda v: v["deformation"] and v["def_model"] == "linear", ("def_w", "def_h")),
    "--no_whiten": (lambda v: v["no_whiten"], ("per_frame_noise",)),
    "--shift_only": (lambda v: v["shift_only"], ("const_p", "const_a", "it", "range_reg")),
    "--shift_only without --shift_only_by_particles": (
        lambda v: v["shift_only"] and not v["shift_only_by_particles"],
        ("per_frame_noise", "hold_out"),
    ),
}
"""Option → whether it is in use, and the options that do nothing with it."""


def _sections() -> list[Section]:
    alignment = [_input(), _alignment(), _weights(), _motion(), _deformation(), _joint()]
    return [*alignment, _run(), cluster_section()]


def _input() -> Section:
    section = Section("Input (paths are relative to the working directory)")
    section.value(
        "--i", "STAR", "Optimisation set; one for each of several species, or a YAML file that lists them.",
        type=FILE, multiple=True,
    )  # fmt: skip
    section.value("--p", "STAR", "Particle set; overrides that of --i.", type=FILE)
    section.value("--t", "STAR", "Tomogram set; overrides that of --i.", type=FILE)
    section.value("--mot", "STAR", "Trajectory set to start from; overrides that of --i.", type=FILE)
    section.value("--ref1", "MRC", "Reference half map 1; overrides that of --i.", type=FILE)
    section.value("--ref2", "MRC", "Reference half map 2; overrides that of --i.", type=FILE)
    section.value("--mask", "MRC", "Reference mask; overrides that of --i.", type=FILE)
    section.value("--fsc", "STAR", "Reference FSC, a postprocess.star; overrides that of --i.", type=FILE)
    relion_version_option(section)
    return section


def _alignment() -> Section:
    section = Section("Alignment")
    section.value(
        "--b", "PX",
        "Box size: edge of the box around each particle image; even. One value, or one for each --i.",
        type=int, multiple=True,
    )  # fmt: skip
    section.value("--r", "PX", "Search range: largest displacement of particle images.", type=int, default=20)
    section.flag("--const_p", "Keep the positions of particles constant.")
    section.flag("--const_a", "Keep the angles of tilt images constant.")
    section.flag("--const_s", "Keep the shifts of tilt images constant.")
    section.flag("--shift_only", "Refine only one shift per tilt image, by complete predicted micrographs.")
    section.flag(
        "--shift_only_by_particles", "With --shift_only: use the particles' correlation windows instead."
    )
    section.value(
        "--range_reg",
        "PER_PX2",
        "Penalty on displacements beyond --r, log-likelihood per px².",
        type=NUMBER,
        default=0.0,
    )
    section.value(
        "--it", "N", "Maximum number of iterations; 0: iterate until convergence.", type=int, default=0
    )
    section.value(
        "--min_frame", "N", "First tilt image that is used, counted from 0 by exposure.", type=int, default=0
    )
    section.value(
        "--max_frame", "N", "Last tilt image that is used, counted from 0 by exposure; -1: the last.",
        type=int, default=-1,
    )  # fmt: skip
    add_tilt_options(section)
    section.value("--pad", "FACTOR", "Oversampling of the correlation windows.", type=NUMBER, default=1.0)
    section.value(
        "--ref_scale", "FACTOR",
        "Factor on the references; auto: it is estimated, and applied above 1.5 or below 1/1.5.",
        type=str, default="auto",
    )  # fmt: skip
    section.value(
        "--hold_out", "FRACTION",
        "Fraction of particle images held out of a first fit, to judge it; 0: none; auto: 0.1 or more.",
        type=str, default="auto",
    )  # fmt: skip
    section.flag(
        "--no_outliers", "Count false particles and empty images like all others; writes no scores.star."
    )
    section.flag("--aniso", "Refused, because it does nothing in RELION.")
    section.flag("--per_tilt_aniso", "Refused, because it does nothing in RELION.")
    return section


def _weights() -> Section:
    section = Section("Weights of frequencies")
    section.value(
        "--freq_cutoff", "ANGSTROM", "Highest resolution that is used; -1: determined by the FSC.",
        type=NUMBER, default=-1.0,
    )  # fmt: skip
    section.value(
        "--fsc_thresh_width", "SHELLS", "Width of the soft edge beyond the FSC's last shell, Fourier shells.",
        type=NUMBER, default=5.0,
    )  # fmt: skip
    section.flag("--use_SNR_weight", "Weight by the reference's signal-to-noise ratio.")
    section.flag("--per_frame_noise", "Use one noise spectrum per tilt image instead of one per series.")
    section.flag("--no_whiten", "Do not weight by the inverse noise power.")
    section.flag("--whiten_abs", "Weight by the inverse noise amplitude instead of the inverse noise power.")
    section.value("--hp", "FOURIER_PX", "Sigma of a high-pass filter; -1: none.", type=NUMBER, default=-1.0)
    section.value(
        "--srp", "POWER", "Exponent p of an additional weight: spatial frequency to the power p.",
        type=NUMBER, default=0.0,
    )  # fmt: skip
    section.value(
        "--cutoff_fract", "FRACTION", "Dose weight or relative weight below which frequencies are not used.",
        type=NUMBER, default=0.02,
    )  # fmt: skip
    return section


def _motion() -> Section:
    section = Section("Particle motion")
    section.flag_or_value(
        "--motion", "on", ["auto"],
        "Refine the particles' motion during the exposure; auto: with the prior that the images suggest, and "
        "only where it helps.",
    )  # fmt: skip
    section.value(
        "--s_vel", "A_PER_DOSE", "Sigma of the particles' velocity, Å per e⁻/Å².", type=NUMBER, default=0.5
    )
    section.value(
        "--s_div", "A_PER_DOSE",
        "Sigma of the divergence: distance over which motion is similar, Å per e⁻/Å².",
        type=NUMBER, default=5000.0,
    )  # fmt: skip
    section.flag("--abs_params", "Give --s_vel in Å per tilt image and --s_div in Å.")
    section.flag("--sq_exp_ker", "Use the square-exponential covariance instead of the exponential one.")
    section.value("--max_ed", "N", "Maximum number of eigen-deformations; -1: all.", type=int, default=-1)
    return section


def _deformation() -> Section:
    section = Section("Image deformation")
    section.flag("--deformation", "Refine a warp of the tilt images.")
    section.value("--def_w", "N", "Columns of the warp's grid.", type=int, default=3)
    section.value("--def_h", "N", "Rows of the warp's grid.", type=int, default=3)
    section.value(
        "--def_model",
        "MODEL",
        f"Form of the warp: {', '.join(DEFORMATION_MODELS)}.",
        type=str,
        default="spline",
    )
    section.value(
        "--def_reg", "WEIGHT", "Weight of the warp's regulariser; 0: estimated.", type=NUMBER, default=0.0
    )
    section.flag("--per_frame_deformation", "Use one warp per tilt image instead of one per series.")
    return section


def _joint() -> Section:
    section = Section("Joint refinement with the geometry")
    section.flag("--joint", "The usual set: --orientations --defocus --tilt_scale --tilt_bfactor.")
    section.flag("--orientations", "Refine the orientations of particles.")
    section.flag("--defocus", "Refine the defocus of each tilt image.")
    section.flag("--astigmatism", "Refine the astigmatism of each tilt image.")
    section.flag("--phase_shift", "Refine the phase shift of each tilt image.")
    section.flag("--tilt_scale", "Refine the CTF scale of each tilt image.")
    section.flag("--tilt_bfactor", "Refine the B factor of each tilt image.")
    return section


def _run() -> Section:
    section = Section("Run")
    section.value("--o", "FOLDER", "Output folder.", type=FILE, required=True)
    section.value("--j", "N", "Number of threads.", type=int, default=1)
    section.value(
        "--device", "NAME", "Device: auto, cpu, cuda, or several as cuda:0,cuda:1, for a tomogram each.",
        type=str, default="auto",
    )  # fmt: skip
    section.flag("--dry_run", "Check all inputs, show the plan of the run, and stop.")
    section.value(
        "--only", "TOMOGRAM",
        "Refine and store this tomogram only; repeatable. --only_do_unfinished then joins all.",
        type=str, multiple=True,
    )  # fmt: skip
    section.flag("--only_do_unfinished", "Reuse the tomograms that an earlier run has finished.")
    overwrite_flag(section)
    section.flag("--strict", "Stop the run at the first tomogram that fails.")
    section.flag("--evaluate", "Reconstruct half maps before and after refinement, and compare their FSC.")
    section.flag("--diag", "Write intermediate results for inspection.")
    section.flag("--no_report", "Do not write report.html.")
    section.value("--pipeline_control", "FOLDER", "Job folder of RELION's pipeline.", type=FILE)
    section.value("--theme", "NAME", "Ignored; RELION's GUI passes it.", type=str)
    return section


def settings_from(values: Mapping[str, Any]) -> AlignSettings:
    """Return parsed options as settings; raises InputError on invalid combinations."""
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
            reference_scale=_unless_auto(
                values, "ref_scale", "is not a valid factor: give auto, or a number above 0"
            ),
            held_out_fraction=_unless_auto(
                values, "hold_out", "is not a valid share: give auto, or 0 (none) to 0.5"
            ),
            max_iterations=values["it"] or None,
            outliers=not values["no_outliers"],
        ),
        motion=_motion_settings(values) if values["motion"] else None,
        deformation=_deformation_settings(values) if values["deformation"] else None,
        joint=_joint_settings(values),
        run=RunSettings(
            output_folder=values["o"],
            threads=values["j"],
            device=values["device"],
            only=values["only"],
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
        may_lack_references=values.get("may_lack_references", False),
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
        auto=values["motion"] == "auto",
    )


def _deformation_settings(values: Mapping[str, Any]) -> DeformationSettings:
    return DeformationSettings(
        model=values["def_model"],
        grid=(values["def_w"], values["def_h"]),
        regulariser=values["def_reg"],
        per_frame=values["per_frame_deformation"],
    )


def _joint_settings(values: Mapping[str, Any]) -> JointSettings:
    usual = dict.fromkeys(USUAL, True) if values["joint"] else {}
    return JointSettings(**{field.name: values[field.name] for field in fields(JointSettings)} | usual)


def _unless_auto(values: Mapping[str, Any], option: str, problem: str) -> float | None:
    """Return the number that an option states; None for auto."""
    text = values[option]
    if text == "auto":
        return None
    try:
        return float(text)
    except ValueError:
        raise InputError(f"--{option} {text} {problem}") from None


def _unless_negative(value: Any) -> Any:
    """Return a value, with None for RELION's −1, "off"."""
    return None if value < 0 else value


def _align(**values: Any) -> int:
    settings = settings_from(values)
    warn_of_idle_options(values)

    from tomopolish.run.align import run_align

    return run_align(settings, invocation())


def warn_of_idle_options(values: Mapping[str, Any]) -> None:
    """Warn of options on the command line that do nothing with, or without, another option."""
    context = click.get_current_context()
    for governor, names in ONLY_WITH.items():
        if values[governor.removeprefix("--")]:
            continue
        for name in names:
            if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                LOG.warning("--%s has no effect without %s", name, governor)
    for governing, (is_given, idle) in NOT_WITH.items():
        for name in idle if is_given(values) else ():
            if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                LOG.warning("--%s has no effect with %s", name, governing)


COMMAND = command(
    "align",
    _align,
    _sections(),
    text="Refine the projections of tilt series and the positions of particles against a known structure. "
    "A command line of relion_tomo_align works when only the program's name is changed.",
    epilog="Example: tomopolish align --i Extract/job010/optimisation_set.star --b 128 --r 12 --j 8 --o out/",
)
