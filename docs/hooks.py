"""Make the parts of the site that are not pages of this folder: options, changes, equations.

Equations are written as GitHub shows them: blocks fenced with ``math``, and ``$`…`$`` within a line. They
become MathML, which browsers draw themselves, so that equations need neither scripts nor a network.
"""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import click
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from tomopolish.cli import COMMANDS, SUMMARIES

ROOT = Path(__file__).parents[1]

BLOCK = re.compile(r"^```math\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"\$`([^`\n]+)`\$")
FENCED = re.compile(r"^(```+)[^\n]*\n.*?^\1$", re.MULTILINE | re.DOTALL)
PLACE = "EQUATION{:04d}HERE"

_equations: list[str] = []


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from the parser and from CHANGELOG.md."""
    files.append(File.generated(config, "options.md", content=option_reference()))
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "changelog.md", content=changes))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the equations by placeholders."""
    _equations.clear()
    markdown = BLOCK.sub(lambda found: "\n" + _place(found[1], "block") + "\n", markdown)
    return _outside_code(markdown)


def on_page_content(content: str, **_: Any) -> str:
    """Replace the placeholders by MathML."""
    for number, equation in enumerate(_equations):
        place = PLACE.format(number)
        content = content.replace(f"<p>{place}</p>", equation).replace(place, equation)
    return content


def _outside_code(markdown: str) -> str:
    parts, end = [], 0
    for code in FENCED.finditer(markdown):
        parts += [INLINE.sub(lambda m: _place(m[1], "inline"), markdown[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, INLINE.sub(lambda m: _place(m[1], "inline"), markdown[end:])])


def _place(latex: str, display: str) -> str:
    mathml = convert(latex.strip(), display=display)
    _equations.append(f'<div class="math">{mathml}</div>' if display == "block" else mathml)
    return PLACE.format(len(_equations) - 1)


def option_reference() -> str:
    """Return all commands with all options as Markdown, in the order and under the headings of their help."""
    assert isinstance(COMMANDS, click.Group)
    lines = [
        "# Options",
        "",
        "This page is made from the program's own parser; `tomopolish COMMAND --help` shows the same. "
        "`tomopolish align` uses the names and defaults of `relion_tomo_align` for options that both have; "
        "long names stand beside the short ones. Shells can complete commands and options "
        "([how](logs.md#completion-in-the-shell)).",
        "",
    ]
    for name, summary in SUMMARIES.items():
        command = COMMANDS.get_command(click.Context(COMMANDS), name)
        assert command is not None
        lines += _command(name, summary, command)
    return "\n".join(lines)


def _command(name: str, summary: str, command: click.Command) -> list[str]:
    context = click.Context(command, info_name=f"tomopolish {name}", max_content_width=110)
    usage = " ".join([f"tomopolish {name}", *command.collect_usage_pieces(context)])
    lines = [f"## tomopolish {name}", "", f"**{summary}**", "", _plain(command.help or ""), ""]
    lines += ["```text", usage, "```", ""]
    if command.epilog:
        lines += [_plain(command.epilog), ""]
    sections: dict[str, list[str]] = {}
    for parameter in command.get_params(context):
        if "--help" in parameter.opts or getattr(parameter, "hidden", False):
            continue
        record = parameter.get_help_record(context) or (parameter.make_metavar(context), "")
        heading = getattr(parameter, "heading", "Other")
        sections.setdefault(heading, []).append(f"| `{_cell(record[0])}` | {_cell(_plain(record[1]))} |")
    for heading, rows in sections.items():
        lines += [f"**{heading}**", "", "| option | |", "|---|---|", *rows, ""]
    return lines


def _cell(text: str) -> str:
    """Escape text for a cell of a table."""
    return text.replace("|", "\\|")


def _plain(text: str) -> str:
    """Escape text so that nothing in it is markup."""
    return html.escape(text, quote=False).replace("*", "\\*")
