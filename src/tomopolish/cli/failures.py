"""Every way a command can fail, as one sentence on stderr and an exit status."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

from tomopolish.errors import TomopolishError
from tomopolish.run.failures import Failure, plain
from tomopolish.run.signals import Terminated

INTERRUPTED = 130
TERMINATED = 143
"""Exit status after Ctrl-C and after SIGTERM, as shells report them."""

KEPT = "no refined set was written; --only_do_unfinished goes on from the tomograms that were finished"


def explain(error: BaseException, folder: Path | None = None) -> int:
    """Say in one line on stderr what went wrong; returns the exit status.

    `folder` is the output folder, where the details of an internal error go.
    """
    if isinstance(error, Terminated):
        return _say(f"terminated; {KEPT}", TERMINATED)
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return _say(f"interrupted; {KEPT}", INTERRUPTED)
    if isinstance(error, click.ClickException):
        return _say(_usage_sentence(error), error.exit_code)
    sentence = Failure.of(error).recorded(folder, "run")
    return _say(sentence, error.exit_code if isinstance(error, TomopolishError) else 1)


def _usage_sentence(error: click.ClickException) -> str:
    sentence = " ".join(error.format_message().split())
    context = getattr(error, "ctx", None)
    return f"{sentence} ('{context.command_path} --help' lists the options)" if context else sentence


def _say(sentence: str, status: int) -> int:
    with contextlib.suppress(OSError):  # nobody reads it any more
        click.echo(f"tomopolish: {plain(sentence)}", err=True)
    return status
