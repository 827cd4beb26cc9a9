"""`tomopolish report`: writes the report of an output folder again."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tomopolish.cli.grouped import FILE, Section, command, invocation, overwrite_flag


def _sections() -> list[Section]:
    section = Section("Output")
    overwrite_flag(section)
    return [section]


def _report(folder: Path, overwrite: bool) -> int:
    from tomopolish.run.commands.report import report_of_folder
    from tomopolish.run.reporter import reporter_for

    reporter = reporter_for(sys.stdout)
    path, damaged = report_of_folder(folder, invocation(), reporter, overwrite=overwrite)
    reporter.say(f"Report: {path}")
    return 1 if damaged else 0


COMMAND = command(
    "report",
    _report,
    _sections(),
    text="Write report.html of an output folder of 'tomopolish align' from its stored results. For a run "
    "that was interrupted, the report shows the finished tomograms.",
    epilog="Example: tomopolish report Polish/job011",
    writes=True,
)
COMMAND.params.insert(0, click.Argument(["folder"], type=FILE, metavar="FOLDER"))
