"""`tomopolish tune`: the motion prior of a project, and the command line of align with it."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from tomopolish.cli.align import COMMAND as ALIGN
from tomopolish.cli.align import settings_from
from tomopolish.cli.configuration import NOT_OPTIONS
from tomopolish.cli.grouped import Section, command, copied_options, invocation
from tomopolish.errors import InputError

if TYPE_CHECKING:
    from tomopolish.settings.alignment import MotionSettings

KEPT = (
    "i", "p", "t", "mot", "ref1", "ref2", "mask", "fsc", "relion_version",
    "b", "r", "range_reg", "min_frame", "max_frame", "pad", "ref_scale",
    "exclude_tilts", "max_tilt_angle", "max_dose",
    "freq_cutoff", "fsc_thresh_width", "use_snr_weight", "per_frame_noise", "no_whiten", "whiten_abs",
    "hp", "srp", "cutoff_fract",
    "abs_params", "s_div", "sq_exp_ker",
    "o", "j", "device", "overwrite", "strict",
)  # fmt: skip
"""Options of `align` that have the same meaning here."""

REWORDED = {
    "i": "Optimisation set.",
    "b": "Box size: edge of the box around each particle image; even.",
    "s_div": "Use this distance scale, Å per e⁻/Å², instead of searching for the best.",
    "sq_exp_ker": "Use the square-exponential covariance instead of comparing both.",
    "strict": "Stop at the first tomogram that fails instead of leaving it out.",
}

SEARCHED = ("s_div", "sq_exp_ker")
"""Options that are searched for unless they are given."""

FOUND = ("s_vel", "s_div", "sq_exp_ker", "abs_params", "motion", "o")
"""Options of the alignment that the tuning determines."""


def _sections() -> list[Section]:
    subset = Section("Subset")
    subset.value(
        "--tomograms", "N", "Number of tomograms; those with most particles are used.", type=int, default=5
    )
    subset.value(
        "--max_particles", "N", "Maximum number of particles used in each tomogram.", type=int, default=100
    )
    borrowed = Section("align")
    borrowed.options = copied_options(ALIGN, REWORDED)
    for option in borrowed.options:
        option.hidden = option.name not in KEPT  # the others are refused on the command line
        if option.name in SEARCHED:  # what align takes without them has no effect here
            option.records_default = option.show_default = False
    return [subset, borrowed]


def _tune(tomograms: int, max_particles: int, **values: Any) -> int:
    context = click.get_current_context()
    named = {option.name: option for option in ALIGN.params if _is_given(option, context)}
    for name, option in named.items():
        if name not in KEPT and name != "motion":
            raise InputError(f"{option.opts[0]} has no effect on tuning: remove it, and give it to align")

    from tomopolish.run.commands.tune import TuneSettings, run_tune
    from tomopolish.run.reporter import reporter_for

    settings = TuneSettings(
        align=settings_from({**values, "motion": "on"}),
        tomograms=tomograms,
        max_particles=max_particles,
        search_distance="s_div" not in named,
        search_kernel="sq_exp_ker" not in named,
    )
    carried = [
        word for name, option in named.items() if name not in FOUND for word in _words(option, values[name])
    ]
    reporter = reporter_for(sys.stdout)
    run_tune(settings, invocation(), lambda motion: _align_command(carried, motion), reporter)
    return 0


def _is_given(option: click.Parameter, context: click.Context) -> bool:
    """Return whether the command line, or a file of options, gives an option."""
    name = option.name or ""
    if name in NOT_OPTIONS:
        return False
    source = context.get_parameter_source(name)
    from_file = source is ParameterSource.DEFAULT_MAP
    changes = name in SEARCHED or context.params.get(name) != option.get_default(context)
    return source is ParameterSource.COMMANDLINE or (from_file and changes)


def _words(option: click.Parameter, value: Any) -> list[str]:
    if isinstance(option, click.Option) and option.is_flag:
        return [option.opts[0]]
    several = value if isinstance(value, tuple) else (value,)
    return [word for one in several for word in (option.opts[0], str(one))]


def _align_command(carried: list[str], motion: MotionSettings | None) -> str:
    if motion is None:
        return f"{shlex.join(['tomopolish', 'align', *carried])} --o FOLDER"
    prior = ["--motion", "--s_vel", f"{motion.velocity_scale:.3g}", "--s_div", f"{motion.distance_scale:.4g}"]
    prior += ["--sq_exp_ker"] if motion.squared_exponential else []
    prior += ["--abs_params"] if motion.absolute else []
    return f"{shlex.join(['tomopolish', 'align', *carried, *prior])} --o FOLDER"


COMMAND = command(
    "tune",
    _tune,
    _sections(),
    text="Find --s_vel, --s_div and the kernel of 'tomopolish align --motion' for which the images of some "
    "tomograms are most probable, averaged over all motions and projections.",
    epilog="Example: tomopolish tune --i Extract/job010/optimisation_set.star --b 128 --r 12 --j 8 --o tune/",
)
