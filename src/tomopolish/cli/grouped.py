"""Commands whose help lists options under headings, and the option types that they share."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from tomopolish.run.invocation import Invocation
from tomopolish.run.limits import check_address_space, threads_that_fit


class NamedPath(click.Path):
    """A path of a file or a folder; "" is refused, since it would be the working directory."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the parsed path; refuses an empty name, as an unset variable of a script gives."""
        if not str(value).strip():
            self.fail("the name is empty: give a path ('.' is the working directory).", param, ctx)
        return super().convert(value, param, ctx)


FILE = NamedPath(path_type=Path)


class FiniteFloat(click.types.FloatParamType):
    """A float that is neither NaN nor infinite."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the parsed number; refuses NaN and infinity."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


NUMBER = FiniteFloat()


class GroupedOption(click.Option):
    """An option with the heading that the help lists it under."""

    def __init__(self, declarations: Sequence[str], *, heading: str, **attributes: Any) -> None:
        super().__init__(declarations, **attributes)
        self.heading = heading


class GroupedCommand(click.Command):
    """A command whose help shows its options under their headings, in the order of declaration."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, one section per heading."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                sections.setdefault(getattr(param, "heading", "Other"), []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


class Section:
    """The options under one heading of a command's help."""

    def __init__(self, heading: str) -> None:
        self.heading = heading
        self.options: list[GroupedOption] = []

    def flag(self, name: str, text: str, **attributes: Any) -> None:
        """Add an option without a value."""
        self.options.append(
            GroupedOption([name], heading=self.heading, is_flag=True, help=text, **attributes)
        )

    def value(self, name: str, metavar: str, text: str, **attributes: Any) -> None:
        """Add an option with a value; its default, if any, is shown."""
        attributes.setdefault("show_default", attributes.get("default") is not None)
        self.options.append(
            GroupedOption([name], heading=self.heading, metavar=metavar, help=text, **attributes)
        )


def overwrite_flag(section: Section) -> None:
    """Add `--overwrite`, an option of all commands that write into a folder."""
    section.flag("--overwrite", "Also replace files that this command did not write, but never inputs.")


CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
"""Settings that all commands share."""


def debug_option() -> GroupedOption:
    """Return the option `--debug` of every command; `tomopolish.cli.run` reads it."""
    return GroupedOption(
        ["--debug"], heading="Other", is_flag=True, expose_value=False, help="Show tracebacks of failures."
    )


def command(
    name: str, callback: Callable[..., int], sections: Sequence[Section], *, text: str, epilog: str = ""
) -> GroupedCommand:
    """Return a command with sections of options; `callback` returns the exit status.

    The callback gets at most as many threads (`--j`) as fit into the address space, where that is limited.
    """
    options: list[click.Parameter] = [option for section in sections for option in section.options]
    return GroupedCommand(
        name,
        callback=functools.partial(_within_limits, callback),
        params=[*options, debug_option()],
        help=text,
        epilog=epilog,
        context_settings=CONTEXT,
    )


def _within_limits(callback: Callable[..., int], **values: Any) -> int:
    check_address_space()
    threads = values.get("j")
    alone = not any(values.get(name) for name in ("workers", "scheduler", "slurm", "cluster_profile"))
    if threads and alone and threads_that_fit(threads) < threads:
        values["j"] = threads_that_fit(threads)
        click.echo(
            f"warning: --j {threads} is lowered to {values['j']}: the limit of address space (ulimit -v) has "
            "no room for more threads",
            err=True,
        )
    return callback(**values)


def invocation() -> Invocation:
    """Return the invocation of the running command."""
    return click.get_current_context().ensure_object(Invocation)
