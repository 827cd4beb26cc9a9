"""`tomopolish align`: RELION's options, turned into settings and a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import click
from click.core import ParameterSource

from tomopolish.cli.cluster import cluster_from, cluster_section
from tomopolish.cli.fields import settings_of
from tomopolish.cli.grouped import FILE, Section, command, invocation, overwrite_flag
from tomopolish.cli.shared import add_relion_version, add_tilt_options, tilt_selection, version_from
from tomopolish.cli.species import YAML, species_from
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
    "--motion auto": (lambda v: v["motion"] == "auto", ("s_vel",)),
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
    section = Section("Input (paths are relative to the working directory)", InputPaths)
    section.value(
        "--i",
        "STAR",
        "Optimisation set; one for each of several species, or a YAML file that lists them.",
        type=FILE,
        multiple=True,
    )
    section.value("--p", "STAR", "Particle set; overrides that of --i.")
    section.value("--t", "STAR", "Tomogram set; overrides that of --i.")
    section.value("--mot", "STAR", "Trajectory set to start from; overrides that of --i.")
    section.value("--ref1", "MRC", "Reference half map 1; overrides that of --i.")
    section.value("--ref2", "MRC", "Reference half map 2; overrides that of --i.")
    section.value("--mask", "MRC", "Reference mask; overrides that of --i.")
    section.value("--fsc", "STAR", "Reference FSC, a postprocess.star; overrides that of --i.")
    add_relion_version(section)
    return section


def _alignment() -> Section:
    section = Section("Alignment", WindowSettings, FitSettings)
    section.value(
        "--b",
        "PX",
        "Box size: edge of the box around each particle image; even. One value, or one for each --i.",
        multiple=True,
    )
    section.value("--r", "PX", "Search range: largest displacement of particle images.")
    section.flag("--const_p", "Keep the positions of particles constant.")
    section.flag("--const_a", "Keep the angles of tilt images constant.")
    section.flag("--const_s", "Keep the shifts of tilt images constant.")
    section.flag("--shift_only", "Refine only one shift per tilt image, by complete predicted micrographs.")
    section.flag(
        "--shift_only_by_particles", "With --shift_only: use the particles' correlation windows instead."
    )
    section.value("--range_reg", "PER_PX2", "Penalty on displacements beyond --r, log-likelihood per px².")
    section.value("--it", "N", "Maximum number of iterations; 0: iterate until convergence.")
    section.value("--min_frame", "N", "First tilt image that is used, counted from 0 by exposure.")
    section.value(
        "--max_frame", "N", "Last tilt image that is used, counted from 0 by exposure; -1: the last."
    )
    add_tilt_options(section)
    section.value("--pad", "FACTOR", "Oversampling of the correlation windows.")
    section.value(
        "--ref_scale",
        "FACTOR",
        "Factor on the references; auto: it is estimated, and applied above 1.5 or below 1/1.5.",
    )
    section.value(
        "--hold_out",
        "FRACTION",
        "Fraction of particle images held out of a first fit, to judge it; 0: none; auto: 0.1 or more.",
    )
    section.flag(
        "--no_outliers", "Count false particles and empty images like all others; writes no scores.star."
    )
    section.flag("--aniso", "Refused, because it does nothing in RELION.")
    section.flag("--per_tilt_aniso", "Refused, because it does nothing in RELION.")
    return section


def _weights() -> Section:
    section = Section("Weights of frequencies", WeightSettings)
    section.value("--freq_cutoff", "ANGSTROM", "Highest resolution that is used; -1: determined by the FSC.")
    section.value(
        "--fsc_thresh_width", "SHELLS", "Width of the soft edge beyond the FSC's last shell, Fourier shells."
    )
    section.flag("--use_SNR_weight", "Weight by the reference's signal-to-noise ratio.")
    section.flag("--per_frame_noise", "Use one noise spectrum per tilt image instead of one per series.")
    section.flag("--no_whiten", "Do not weight by the inverse noise power.")
    section.flag("--whiten_abs", "Weight by the inverse noise amplitude instead of the inverse noise power.")
    section.value("--hp", "FOURIER_PX", "Sigma of a high-pass filter; -1: none.")
    section.value("--srp", "POWER", "Exponent p of an additional weight: spatial frequency to the power p.")
    section.value(
        "--cutoff_fract", "FRACTION", "Dose weight or relative weight below which frequencies are not used."
    )
    return section


def _motion() -> Section:
    section = Section("Particle motion", MotionSettings)
    section.flag_or_value(
        "--motion",
        "on",
        ["auto"],
        "Refine the particles' motion during the exposure; auto: with the prior that the images suggest, and "
        "only where it helps.",
    )
    section.value("--s_vel", "A_PER_DOSE", "Sigma of the particles' velocity, Å per e⁻/Å².")
    section.value(
        "--s_div",
        "A_PER_DOSE",
        "Sigma of the divergence: distance over which motion is similar, Å per e⁻/Å².",
    )
    section.flag("--abs_params", "Give --s_vel in Å per tilt image and --s_div in Å.")
    section.flag("--sq_exp_ker", "Use the square-exponential covariance instead of the exponential one.")
    section.value("--max_ed", "N", "Maximum number of eigen-deformations; -1: all.")
    return section


def _deformation() -> Section:
    section = Section("Image deformation", DeformationSettings)
    section.flag("--deformation", "Refine a warp of the tilt images.")
    section.value("--def_w", "N", "Columns of the warp's grid.")
    section.value("--def_h", "N", "Rows of the warp's grid.")
    section.value("--def_model", "MODEL", f"Form of the warp: {', '.join(DEFORMATION_MODELS)}.")
    section.value("--def_reg", "WEIGHT", "Weight of the warp's regulariser; 0: estimated.")
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
    section = Section("Run", RunSettings)
    section.value("--o", "FOLDER", "Output folder.", required=True)
    section.value("--j", "N", "Number of threads.")
    section.value(
        "--device", "NAME", "Device: auto, cpu, cuda, or several as cuda:0,cuda:1, for a tomogram each."
    )
    section.flag("--dry_run", "Check all inputs, show the plan of the run, and stop.")
    section.value(
        "--only",
        "TOMOGRAM",
        "Refine and store this tomogram only; repeatable. --only_do_unfinished then joins all.",
        multiple=True,
    )
    section.flag("--only_do_unfinished", "Reuse the tomograms that an earlier run has finished.")
    overwrite_flag(section)
    section.flag("--strict", "Stop the run at the first tomogram that fails.")
    section.flag("--evaluate", "Reconstruct half maps before and after refinement, and compare their FSC.")
    section.flag("--diag", "Write intermediate results for inspection.")
    section.flag("--no_report", "Do not write report.html.")
    section.value("--pipeline_control", "FOLDER", "Job folder of RELION's pipeline.")
    section.value("--theme", "NAME", "Ignored; RELION's GUI passes it.")
    return section


def settings_from(values: Mapping[str, Any]) -> AlignSettings:
    """Return parsed options as settings; raises InputError on invalid combinations."""
    for name in ("aniso", "per_tilt_aniso"):
        if values[name]:
            raise InputError(f"--{name} does nothing in RELION and nothing here: leave it out")
    inputs, auto = _input_paths(values), values["motion"] == "auto"
    return AlignSettings(
        inputs=inputs,
        windows=settings_of(
            WindowSettings, values, box_px=inputs.species[0].box_px if inputs.species else values["b"][0]
        ),
        weights=settings_of(WeightSettings, values),
        fit=settings_of(FitSettings, values),
        motion=settings_of(MotionSettings, values, auto=auto) if values["motion"] else None,
        deformation=settings_of(DeformationSettings, values) if values["deformation"] else None,
        joint=_joint_settings(values),
        run=settings_of(RunSettings, values, dry_run=values["dry_run"], cluster=cluster_from(values)),
    )


def _input_paths(values: Mapping[str, Any]) -> InputPaths:
    sets, boxes = values["i"], values["b"]
    if not boxes and not any(path.suffix.lower() in YAML for path in sets):
        raise click.UsageError("Missing option '--b'.")
    species = species_from(sets, boxes)
    return settings_of(
        InputPaths,
        values,
        species=species,
        optimisation_set=None if species or not sets else sets[0],
        relion_version=version_from(values["relion_version"]),
        tilts=tilt_selection(values),
        may_lack_references=values.get("may_lack_references", False),
    )


def _joint_settings(values: Mapping[str, Any]) -> JointSettings:
    usual = dict.fromkeys(USUAL, True) if values["joint"] else {}
    return JointSettings(**{field.name: values[field.name] for field in fields(JointSettings)} | usual)


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
