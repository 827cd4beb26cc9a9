"""`tomopolish polish`: rounds of alignment and reconstruction, from a project to its sharpest map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from tomopolish.cli import align
from tomopolish.cli.grouped import NUMBER, Section, command, copied_options, invocation
from tomopolish.settings.joint import JointSettings
from tomopolish.settings.polish import MOST_ROUNDS, PolishSettings

OTHERWISE: dict[str, Any] = {
    "joint": False,
    "shift_only": False,
    "shift_only_by_particles": False,
    "aniso": False,
    "per_tilt_aniso": False,
    "evaluate": False,
    "only": (),
    "diag": False,
    "theme": None,
    "may_lack_references": True,
}
"""Options of align that polish does not have, and inputs that it does not need → their values."""

CHANGED = {
    "r": "Search range of the first round, px; later rounds search less.",
    "dry_run": "Check all inputs, show the plan of the run and the disk space it needs, and stop.",
    "only_do_unfinished": "Continue an earlier run of the same options with the round that is not finished.",
}
"""Options of align with another help text."""


def _sections() -> list[Section]:
    """Return the rounds' own options, and those of align under their headings."""
    rounds = Section("Rounds")
    rounds.value("--rounds", "N", "Largest number of rounds.", type=int, default=MOST_ROUNDS)
    rounds.value(
        "--sym", "GROUP", "Point group: C1, C2 …, D2 …, T, O, I1, I2; a YAML file for --i may name others.",
        default="C1",
    )  # fmt: skip
    rounds.value(
        "--crop", "PX", "Edge of the maps.  [default: of the mask or the references, or --b]", type=int
    )
    rounds.value(
        "--ini_high", "ANGSTROM", "Resolution limit of the references in the first round; -1: by their FSC.",
        type=NUMBER, default=-1.0,
    )  # fmt: skip
    rounds.flag("--own_references", "Ignore the input's references; start from half maps of the input.")
    rounds.flag("--no_joint", "Refine the geometry alone, unless single unknowns are chosen below.")
    sections = {rounds.heading: rounds}
    for option in copied_options(align.COMMAND, CHANGED):
        if option.name not in OTHERWISE:
            sections.setdefault(option.heading, Section(option.heading)).options.append(option)
    first, *rest = list(sections.values())
    return [rest[0], first, *rest[1:]]


def settings_from(values: Mapping[str, Any]) -> PolishSettings:
    """Return parsed options as settings; raises InputError on invalid combinations."""
    is_chosen = any(values[field.name] for field in fields(JointSettings))
    usual = {"joint": not values["no_joint"] and not is_chosen}
    return PolishSettings(
        align=align.settings_from({**OTHERWISE, **values, **usual}),
        symmetry=values["sym"],
        crop_px=values["crop"],
        max_rounds=values["rounds"],
        initial_resolution_angstrom=None if values["ini_high"] < 0 else values["ini_high"],
        own_references=values["own_references"],
    )


def _polish(**values: Any) -> int:
    settings = settings_from(values)
    align.warn_of_idle_options({**OTHERWISE, **values})

    from tomopolish.rounds.polish import run_polish

    return run_polish(settings, invocation())


COMMAND = command(
    "polish",
    _polish,
    _sections(),
    text="Refine a project in rounds until its half maps gain no more: each round aligns the tilt series, "
    "orientations and optics against the maps of the last, reconstructs both half sets, and measures their "
    "FSC. Every round is kept; the best is what the output names, with a sharpened map.",
    epilog="Example: tomopolish polish --i Extract/job010/optimisation_set.star --b 128 --r 12 --j 8 "
    "--o Polish/job020/",
)
