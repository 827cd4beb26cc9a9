"""How sentences name what the user chose: options on the command line, arguments in Python.

Sentences are written once, with options. `in_python` turns them into sentences about arguments: whatever
Python's functions raise, return or show passes through it, and settings that refuse a value ask `as_called`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

_SAME_NAME = """
    mask fsc relion_version min_frame max_frame exclude_tilts max_dose fsc_thresh_width srp motion
    deformation device only workers scheduler worker_memory slurm tomograms max_particles scores
    min_probability truth before seed dialect image_type particles first_dose hand dose_scheme
    file_order false_particles misoriented picked_twice beads hot_pixels gradient blank_images
    covered_images displaced_images
"""
"""Options whose argument has the same name."""

_SAME_FLAG = """
    shift_only shift_only_by_particles per_frame_noise whiten_abs joint orientations astigmatism
    phase_shift tilt_scale tilt_bfactor only_do_unfinished overwrite strict evaluate dashboard
    own_references drop_flagged drop_tilts
"""
"""Flags that set an argument of the same name to True."""

ARGUMENTS: Mapping[str, str] = {
    "i": "optimisation_set",
    "p": "particles",
    "t": "tomograms",
    "mot": "trajectories",
    "ref1": "half_map1",
    "ref2": "half_map2",
    "b": "box_px",
    "r": "range_px",
    "const_p": "const_positions=True",
    "const_a": "const_angles=True",
    "const_s": "const_shifts=True",
    "range_reg": "range_penalty",
    "it": "max_iterations",
    "max_tilt_angle": "max_tilt_angle_degrees",
    "pad": "padding",
    "ref_scale": "reference_scale",
    "hold_out": "held_out_fraction",
    "no_outliers": "outliers=False",
    "freq_cutoff": "freq_cutoff_angstrom",
    "use_SNR_weight": "use_snr_weight=True",
    "no_whiten": "whiten=False",
    "hp": "hp_sigma",
    "cutoff_fract": "cutoff_fraction",
    "s_vel": "velocity_scale",
    "s_div": "distance_scale",
    "abs_params": "absolute=True",
    "sq_exp_ker": "squared_exponential=True",
    "max_ed": "max_deformations",
    "def_w": "grid[0]",
    "def_h": "grid[1]",
    "def_model": "model",
    "def_reg": "regulariser",
    "per_frame_deformation": "per_frame=True",
    "o": "output_folder",
    "j": "threads",
    "dry_run": "plan()",
    "diag": "diagnostics=True",
    "no_report": "report=False",
    "pipeline_control": "pipeline_folder",
    "tls_ca_file": "ca_file",
    "tls_cert": "cert",
    "tls_key": "key",
    "connect_timeout": "connect_timeout_s",
    "slurm_partition": "partition",
    "slurm_account": "account",
    "slurm_qos": "qos",
    "slurm_walltime": "walltime",
    "slurm_memory": "memory",
    "slurm_gpus": "gpus",
    "slurm_directive": "directives",
    "slurm_prologue": "prologue",
    "crop": "crop_px",
    "sym": "symmetry",
    "rounds": "max_rounds",
    "ini_high": "initial_resolution_angstrom",
    "no_joint": "joint=False",
    "format": "formats",
    "angpix": "voxel_angstrom",
    "magnify": "magnification",
    "map": "map_path",
    "box": "box_px",
    "molecule_seed": "seed",
    "second": "particles",
    "second_box": "box_px",
    "second_seed": "seed",
    "second_snr": "pair_snr",
    "thickness": "thickness_angstrom",
    "tomogram_size": "tomogram_size_px",
    "image_size": "image_size_px",
    "pixel_size": "pixel_size_angstrom",
    "tilt_range": "tilt_range_degrees",
    "tilt_step": "tilt_step_degrees",
    "tilt_axis": "tilt_axis_degrees",
    "dose": "frame_dose",
    "defocus": "defocus_angstrom",
    "snr": "pair_snr",
    "noise_excess": "low_frequency_excess",
    "shift_error": "shift_px",
    "angle_error": "angle_degrees",
    "position_error": "position_px",
    "max_error": "max_displacement_px",
    "def_amplitude": "amplitude_px",
    "misoriented_turn": "misoriented_turn_degrees",
    "bead_diameter": "bead_diameter_angstrom",
    "defocus_error": "defocus_error_angstrom",
    "displaced_by": "displaced_by_px",
    "debug": "the traceback",
    **{name: name for name in _SAME_NAME.split()},
    **{name: f"{name}=True" for name in _SAME_FLAG.split()},
}
"""Option, without its dashes → argument or field of the settings that means it; of a flag, with its value."""

LONG_NAMES: Mapping[str, str] = {
    "--i": "--input",
    "--p": "--particles",
    "--t": "--tomogram_set",
    "--mot": "--trajectories",
    "--ref1": "--half_map1",
    "--ref2": "--half_map2",
    "--b": "--box",
    "--r": "--range",
    "--it": "--iterations",
    "--pad": "--padding",
    "--o": "--output",
    "--j": "--threads",
}
"""Short option, which is RELION's → its long name, where the command has no other option of that name."""

OFF: Mapping[str, str] = {
    "relion_version": "auto",
    "ref_scale": "auto",
    "hold_out": "auto",
    "it": "0",
    "max_frame": "-1",
    "max_tilt_angle": "-1",
    "max_dose": "-1",
    "freq_cutoff": "-1",
    "hp": "-1",
    "max_ed": "-1",
    "first_dose": "-1",
    "ini_high": "-1",
}
"""Option → its value that is None in Python."""

VALUES: Mapping[str, str] = {"--motion auto": 'motion="auto"'}
"""Option with a value that is a word → the same in Python."""


_OPTION = re.compile(r"(?<![\w-])--([A-Za-z]\w*)(?: (-?(?:\d[\d.]*(?:e[+-]?\d+)?|inf)|nan)(?![\w.]))?")

_names_options: ContextVar[bool] = ContextVar("names_options", default=False)


@functools.cache
def options_that_set(argument: str) -> tuple[tuple[str, str], ...]:
    """Return the options that set an argument, and for flags the value that they stand for, as text."""
    stated = ((option, *text.partition("=")) for option, text in ARGUMENTS.items())
    return tuple((option, of_flag) for option, name, _, of_flag in stated if name == argument)


@contextmanager
def naming_options() -> Iterator[None]:
    """Let settings name options within the block, since their values come from a command line."""
    token = _names_options.set(True)
    try:
        yield
    finally:
        _names_options.reset(token)


def as_typed(sentence: str, arguments: Sequence[str]) -> str:
    """Return a sentence about options with the long names that a command line has instead of short ones."""
    typed = {argument.partition("=")[0] for argument in arguments}
    for short, long_name in LONG_NAMES.items():
        if long_name in typed and short not in typed:
            sentence = re.sub(rf"(?<![\w-]){short}(?![\w-])", long_name, sentence)
    return sentence


def as_called(sentence: str) -> str:
    """Return a sentence about options as the caller knows them: unchanged for the command line."""
    return sentence if _names_options.get() else in_python(sentence)


def in_python(sentence: str) -> str:
    """Return a sentence about options as one about Python's arguments; a number becomes the argument's value.

    Options that Python does not have stay as they are, so that a second call changes nothing.
    """
    for typed, argument in VALUES.items():
        sentence = sentence.replace(typed, argument)
    for option in _OPTION.findall(sentence):
        off = OFF.get(option[0])
        if off == "auto":
            sentence = re.sub(r'(?<!")\bauto\b(?!")', "None", sentence)  # not the values above
        elif off is not None:
            sentence = re.sub(rf"(?<![\w.=-]){off}(?= for\b)", "None", sentence)
    return _OPTION.sub(_argument, sentence)


def _argument(option: re.Match[str]) -> str:
    name, number = ARGUMENTS.get(option[1]), option[2]
    if name is None:
        return option[0]
    if number is None:
        return name
    return f"{name.partition('=')[0]}={number}"
