"""Failures of commands, as one sentence on stderr and an exit status."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Sequence

import click

from tomopolish.errors import TomopolishError
from tomopolish.plain_text import one_line
from tomopolish.run.failures import RESUME, Failure
from tomopolish.run.invocation import path_after
from tomopolish.run.signals import AskedToEnd
from tomopolish.settings.wording import LONG_NAMES, as_typed

ALIGNING = ("align", "polish", "relion-align", "relion-external")
"""Commands that can resume an interrupted run."""


def explain(error: BaseException, arguments: Sequence[str] = (), standing: str = "") -> int:
    """Print in one line on stderr what went wrong, and return the exit status.

    Parameters
    ----------
    arguments
        Arguments of the command line; details of an internal error go to the output folder that they name.
    standing
        End of the sentence of a command that was asked to end: the state of its files, and how to resume.
    """
    if isinstance(error, AskedToEnd | click.Abort | KeyboardInterrupt):
        asked = error if isinstance(error, AskedToEnd) else AskedToEnd(signal.SIGINT)
        return _say(f"{asked}{standing}", asked.status)
    if isinstance(error, click.ClickException):
        return _say(_usage_sentence(error), error.exit_code)
    sentence = Failure.of(error).recorded(path_after(arguments, "--o", LONG_NAMES["--o"]), "run")
    return _say(as_typed(sentence, arguments), error.exit_code if isinstance(error, TomopolishError) else 1)


def advice(arguments: Sequence[str]) -> str:
    """Return how to resume the command, as the end of a sentence; empty where it cannot be resumed."""
    return f"; {RESUME}" if any(name in arguments[:2] for name in ALIGNING) else ""


def _usage_sentence(error: click.ClickException) -> str:
    sentence = " ".join(error.format_message().split())
    context = getattr(error, "ctx", None)
    return f"{sentence} ('{context.command_path} --help' lists the options)" if context else sentence


def _say(sentence: str, status: int) -> int:
    with contextlib.suppress(OSError):  # the terminal may be gone
        click.echo(f"tomopolish: {one_line(sentence)}", err=True)
    return status
