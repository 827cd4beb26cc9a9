"""The command line. No slow import happens here, so that `tomopolish --help` answers at once."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import click

from tomopolish.cli.failures import advice, explain
from tomopolish.cli.grouped import CONTEXT, debug_option
from tomopolish.errors import TomopolishError
from tomopolish.plain_text import one_line
from tomopolish.run.invocation import Invocation
from tomopolish.run.signals import Ending, end_interrupted, ending_in_order, keep_interrupted
from tomopolish.run.streams import forgiving_standard_streams
from tomopolish.run.verbosity import shows
from tomopolish.settings.wording import naming_options
from tomopolish.version import program_version

LOG = logging.getLogger("tomopolish")

COMPLETION = "_TOMOPOLISH_COMPLETE"
"""Variable by which a shell asks for the completion of a command line."""

SUMMARIES = {
    "align": "Refine projections and particle positions of a project.",
    "polish": "Refine a project in rounds, to its sharpest map.",
    "tune": "Determine the motion prior of a project.",
    "select": "Leave out bad particles and tilt images of a result.",
    "simulate": "Write a complete simulated project with a known truth.",
    "report": "Write the report of an output folder again.",
    "evaluate": "Compare a result with the truth of a simulation.",
    "reconstruct": "Reconstruct half maps and their FSC.",
    "export": "Write alignments and positions for other programs.",
    "demo": "Simulate, align and evaluate a small project.",
    "relion-shim": "Let RELION's Bayesian polishing job run tomopolish.",
    "relion-align": "Run align as the wrappers of relion-shim do.",
    "relion-external": "Run align or polish from an External job of RELION's GUI.",
}


class Commands(click.Group):
    """The commands; each is in the module of its name, which is imported when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the help."""
        return list(SUMMARIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command; None where there is no command of that name."""
        if cmd_name not in SUMMARIES:
            return None
        command: click.Command = importlib.import_module(
            f"tomopolish.cli.{cmd_name.replace('-', '_')}"
        ).COMMAND
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments name; for another name, the error suggests the nearest."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            nearest = get_close_matches(args[0], SUMMARIES, n=1)
            if nearest and "did you mean" not in error.message.lower():
                guess = f"{error.message.rstrip('.')}; did you mean '{nearest[0]}'?"
                raise click.UsageError(guess, ctx) from None
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(SUMMARIES.items()))


def _show_version(context: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not context.resilient_parsing:
        click.echo(f"tomopolish, version {program_version()}")
        context.exit()


COMMANDS: click.Command = Commands(
    "tomopolish",
    help="Refine cryo-electron-tomography tilt series against a known structure: the projection of every "
    "tilt image and the position of every particle, from RELION's sets to RELION's sets.",
    epilog="'tomopolish COMMAND --help' describes a command.",
    params=[
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_show_version,
            help="Show the version and exit.",
        ),
        debug_option(),
    ],
    context_settings=CONTEXT,
)


def run(arguments: Sequence[str]) -> int:
    """Carry out a command line and return its exit status; raises nothing.

    Under RELION's pipeline the job's exit file says how it ended, even if an option does not exist.
    """
    job = any(name in arguments[:2] for name in ("align", "polish"))
    if not job or not any(a.startswith("--pipeline_control") for a in arguments):
        with ending_in_order() as ending:
            return _run(arguments, ending)[0]
    from tomopolish.run.relion_job import control_of

    control = control_of(arguments)
    with ending_in_order(lambda asked: control.end(asked.status, asked)) as ending:
        try:
            control.begin()
            status, error = _run(arguments, ending)
            control.end(status, error)
        except (OSError, TomopolishError) as problem:
            return explain(problem)
    return status


def _run(arguments: Sequence[str], ending: Ending) -> tuple[int, BaseException | None]:
    """Return the exit status, and the error that ended the command, if one did."""
    invocation = Invocation(command=("tomopolish", *arguments), debug="--debug" in arguments)
    ending.advice = advice(arguments)
    with warnings.catch_warnings(), _showing_log(), naming_options():
        warnings.showwarning = _show_warning
        try:
            with ending.raising():
                status = COMMANDS.main(
                    list(arguments) or ["--help"],
                    prog_name="tomopolish",
                    standalone_mode=False,
                    obj=invocation,
                )
        except (Exception, KeyboardInterrupt) as problem:
            error: BaseException = problem
            if ending.request is not None:
                keep_interrupted(problem)
            if invocation.debug:
                traceback.print_exc()
            if isinstance(error, click.Abort):  # click's replacement of a KeyboardInterrupt
                error = error.__cause__ or KeyboardInterrupt()
            error = ending.request or error  # an interrupted library may have raised anything
            return explain(error, arguments, ending.advice), error
    return (status if isinstance(status, int) else 0), None


def main() -> None:
    """Run the `tomopolish` executable."""
    if COMPLETION in os.environ:  # a shell asks for the words that may follow
        sys.exit(COMMANDS.main(prog_name="tomopolish", complete_var=COMPLETION))
    arguments = sys.argv[1:]
    with forgiving_standard_streams() as losses:  # first, since it fills the numbers of closed streams
        with ending_in_order(own_process=True):
            status = run(arguments)
        sys.stdout.flush()
    is_lost = losses.reason is not None and not losses.is_reader_gone
    status = 1 if status == 0 and is_lost and _prints_its_result(arguments) else status
    end_interrupted(status)
    sys.exit(status)


def _prints_its_result(arguments: Sequence[str]) -> bool:
    """Return whether the command's result goes to stdout, and not only messages."""
    return not arguments or arguments[0] == "evaluate" or not {"--help", "--version"}.isdisjoint(arguments)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    LOG.warning("%s", message)


class _Lines(logging.Handler):
    """Writes messages that no reporter has shown: information to stdout, and warnings to stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "shown", False) or not shows(record.levelno):
            return
        warns = record.levelno >= logging.WARNING
        click.echo(one_line(f"{'warning: ' if warns else ''}{record.getMessage()}"), err=warns)


@contextmanager
def _showing_log() -> Iterator[None]:
    """Show log messages within the block."""
    lines, before = _Lines(), LOG.level
    LOG.addHandler(lines)
    LOG.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        LOG.setLevel(before)
        LOG.removeHandler(lines)
