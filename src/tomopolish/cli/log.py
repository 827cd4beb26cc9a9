"""Messages that no reporter has shown, as lines of the command line."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import click

from tomopolish.plain_text import one_line
from tomopolish.run.verbosity import shows


class _Lines(logging.Handler):
    """Writes information to stdout and warnings to stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "shown", False) or not shows(record.levelno):
            return
        warns = record.levelno >= logging.WARNING
        click.echo(one_line(f"{'warning: ' if warns else ''}{record.getMessage()}"), err=warns)


@contextmanager
def showing_log() -> Iterator[None]:
    """Show log messages until the context closes."""
    log, lines = logging.getLogger("tomopolish"), _Lines()
    before = log.level
    log.addHandler(lines)
    log.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        log.setLevel(before)
        log.removeHandler(lines)
