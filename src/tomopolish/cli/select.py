"""`tomopolish select`: sets without bad particles and tilt images, by the scores of an alignment."""

from __future__ import annotations

import sys
from typing import Any

from tomopolish.cli.fields import settings_of
from tomopolish.cli.grouped import FILE, NUMBER, Section, command, invocation, overwrite_flag


def _sections() -> list[Section]:
    source = Section("Input")
    source.value(
        "--i",
        "FOLDER",
        "Output folder of align, or an optimisation set; repeat it for species that are not in one folder.",
        type=FILE,
        multiple=True,
        required=True,
    )
    source.value(
        "--scores",
        "STAR",
        "Scores of the set; for several species, one for each.  [default: scores.star beside the set]",
        type=FILE,
        multiple=True,
    )
    choice = Section("Choice (by default, particles go that are flagged or have a probability below 0.5)")
    choice.value(
        "--min_probability",
        "P",
        "Leave out particles of a lower probability; without --drop_flagged, flags do not count.",
        type=NUMBER,
    )
    choice.flag(
        "--drop_flagged",
        "Leave out flagged particles; without --min_probability, probabilities do not count.",
    )
    choice.flag("--drop_tilts", "Leave out flagged tilt images, too.")
    output = Section("Output")
    output.value("--o", "FOLDER", "Output folder.", type=FILE, required=True)
    overwrite_flag(output)
    return [source, choice, output]


def _select(**values: Any) -> int:
    from tomopolish.run.commands.select import SelectSettings, open_sets, select_project
    from tomopolish.run.reporter import reporter_for

    settings = settings_of(SelectSettings, values)
    project = open_sets(values["i"])
    reporter = reporter_for(sys.stdout)
    selection = select_project(project, values["scores"], settings, reporter, invocation())
    for sentence in selection.sentences():
        reporter.say(sentence)
    return 0


COMMAND = command(
    "select",
    _select,
    _sections(),
    text="Write sets without the particles, and with --drop_tilts without the tilt images, that do not show "
    "what the references predict, by the scores that 'tomopolish align' wrote. Rows that remain are "
    "unchanged.",
    epilog="Example: tomopolish select --i Align/job003/ --drop_tilts --o Select/job004/",
)
