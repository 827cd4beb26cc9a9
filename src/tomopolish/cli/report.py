"""`tomopolish report`: the report of an output folder, once more."""

from __future__ import annotations

from pathlib import Path

import click

from tomopolish.cli.grouped import FILE, command


def _report(folder: Path) -> int:
    from tomopolish.run.commands.report import report_of_folder

    click.echo(f"Report: {report_of_folder(folder)}")
    return 0


COMMAND = command(
    "report",
    _report,
    [],
    text="Write report.html of an output folder of 'tomopolish align' from the results it holds, also of a "
    "run that was interrupted, as far as it came.",
    epilog="Example: tomopolish report Polish/job011",
)
COMMAND.params.insert(0, click.Argument(["folder"], type=FILE, metavar="FOLDER"))
