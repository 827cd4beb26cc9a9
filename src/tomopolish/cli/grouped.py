"""Commands whose help lists options under headings, and the option types that they share."""

from __future__ import annotations

import copy
import functools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from tomopolish.cli.configuration import NOT_OPTIONS, apply_file, resolved_options
from tomopolish.cli.fields import type_and_default
from tomopolish.run.failures import Failure
from tomopolish.run.invocation import Invocation
from tomopolish.run.limits import check_address_space, threads_that_fit
from tomopolish.run.signals import AskedToEnd
from tomopolish.run.verbosity import showing
from tomopolish.settings.wording import LONG_NAMES


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
    """An option with the heading that the help lists it under.

    Attributes
    ----------
    records_default
        Whether ``run.yaml`` has its value where it was not given.
    value_alone
        Value of the option where none follows it, of one that may stand alone; None: a value must follow.
    """

    records_default = True
    value_alone: str | None = None

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


TYPES: Mapping[str, Any] = {"int": int, "float": NUMBER, "str": str, "Path": FILE}
"""Annotation of a field → type of the option that sets it."""


class Section:
    """The options under one heading of a command's help.

    Parameters
    ----------
    settings
        Classes whose fields options set: an option then has the type and the default of its field.
    """

    def __init__(self, heading: str, *settings: type[Any]) -> None:
        self.heading = heading
        self.options: list[GroupedOption] = []
        self._settings = settings

    def flag(self, name: str, text: str, **attributes: Any) -> None:
        """Add an option without a value."""
        self.options.append(
            GroupedOption([name], heading=self.heading, is_flag=True, help=text, **attributes)
        )

    def flag_or_value(self, name: str, alone: str, values: Sequence[str], text: str) -> None:
        """Add an option that may stand alone, which means the value `alone`, or have one of some values."""
        option = GroupedOption(
            [name],
            heading=self.heading,
            type=click.Choice([alone, *values]),
            is_flag=False,
            flag_value=alone,
            metavar=f"[{'|'.join(values)}]",
            help=text,
        )
        option.value_alone = alone
        self.options.append(option)

    def value(self, name: str, metavar: str, text: str, **attributes: Any) -> None:
        """Add an option with a value; its default, if any, is shown."""
        kind, default = type_and_default(name.removeprefix("--"), self._settings)
        if kind in TYPES:
            attributes.setdefault("type", TYPES[kind])
        if default is not None:
            attributes.setdefault("default", default)
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
    name: str,
    callback: Callable[..., int],
    sections: Sequence[Section],
    *,
    text: str,
    epilog: str = "",
    writes: bool | None = None,
) -> GroupedCommand:
    """Return a command with sections of options; `callback` returns the exit status.

    The callback gets at most as many threads (`--j`) as fit into the address space, where that is limited.
    Its messages and how it was run are recorded in its output folder. Messages of a command that `writes`
    can be shown in part; None: if it has an output folder (`--o`).
    """
    options: list[GroupedOption] = [option for section in sections for option in section.options]
    has_folder = any(option.name == "o" for option in options)
    other = Section("Other")
    if has_folder:
        other.value(
            "--config",
            "YAML",
            "Take options from a run.yaml, or a file of options; those on the command line take precedence.",
            is_eager=True,
            expose_value=False,
            callback=lambda context, _, path: None if path is None else apply_file(context, Path(path), name),
        )
    if has_folder if writes is None else writes:
        other.flag("--quiet", "Show only warnings and errors; run.log has everything.")
        other.flag("--verbose", "Also show the time of each step and other details, as run.log has them.")
    _add_long_names(options)
    return GroupedCommand(
        name,
        callback=functools.partial(_recorded, name, callback, has_folder),
        params=[*options, *other.options, debug_option()],
        help=text,
        epilog=epilog,
        context_settings=CONTEXT,
    )


def copied_options(source: click.Command, texts: Mapping[str, str]) -> list[GroupedOption]:
    """Return copies of a command's own options, with other help texts for those named in `texts`."""
    copies = []
    for option in source.params:
        if isinstance(option, GroupedOption) and option.name not in NOT_OPTIONS:
            copies.append(copy.copy(option))
            copies[-1].help = texts.get(option.name or "", option.help)
    return copies


def _add_long_names(options: Sequence[GroupedOption]) -> None:
    """Add long names beside RELION's short ones, unless another option of the command has that name."""
    taken = {name for option in options for name in option.opts}
    for option in options:
        long_name = LONG_NAMES.get(option.opts[0])
        if long_name is not None and long_name not in taken:
            option.opts.append(long_name)


def _recorded(name: str, callback: Callable[..., int], has_folder: bool, **values: Any) -> int:
    """Carry out a command, and record its messages and how it was run."""
    from tomopolish.run.journal.recording import LOG, SHOWN, Recording, recording

    context = click.get_current_context()
    quiet, verbose = values.pop("quiet", False), values.pop("verbose", False)
    if quiet and verbose:
        raise click.UsageError("--quiet and --verbose contradict each other: give one of them.")
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    begun = Recording(
        command=name,
        command_line=context.ensure_object(Invocation).command,
        options=resolved_options(context),
        writes_provenance=has_folder,
    )
    with showing(level), recording(begun):
        try:
            begun.status = _within_limits(callback, values)
        except (Exception, KeyboardInterrupt) as error:
            LOG.error("%s", _failure(error), extra=SHOWN)
            raise
    return begun.status


def _failure(error: BaseException) -> str:
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, KeyboardInterrupt):
        return str(error) if isinstance(error, AskedToEnd) else "interrupted"
    return Failure.of(error).sentence


def _within_limits(callback: Callable[..., int], values: Mapping[str, Any]) -> int:
    check_address_space()
    threads = values.get("j")
    alone = not any(values.get(name) for name in ("workers", "scheduler", "slurm", "cluster_profile"))
    if threads and alone and threads_that_fit(threads) < threads:
        fitting = threads_that_fit(threads)
        values = {**values, "j": fitting}
        from tomopolish.run.journal.recording import LOG

        LOG.warning(
            "--j %d is lowered to %d: the limit of address space (ulimit -v) has no room for more threads",
            threads,
            fitting,
        )
    return callback(**values)


def invocation() -> Invocation:
    """Return the invocation of the running command."""
    return click.get_current_context().ensure_object(Invocation)
