"""Output of commands as it is shown in the pages: compared with that of a fresh run, or replaced by it.

A sample is a fenced block below a mark that names the command, and the first words of each paragraph that is
shown::

    <!-- output of `tomopolish align …`: Refined tomograms; Report -->
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

from pages import PAGES

MARK = re.compile(r"^<!-- output of `([^`\n]+)`: ([^\n]+) -->\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRESS = re.compile(
    r"^.+ \(\d+/\d+\): .+ s$\n|^tomogram \d+/\d+, .*\n|^Compiling kernels .*\n", re.MULTILINE
)
NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?:e[-+]?\d+)?")
COLUMNS = 86
RELATIVE, LAST_DIGITS = 0.15, 2
"""Numbers of two runs may differ by this share, or by so many units of the last digit that is shown."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Paragraphs of a command's output in a page."""

    page: Path
    command: str
    beginnings: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}: {self.command}"


def samples() -> list[Sample]:
    """Return all samples of all pages."""
    return [
        Sample(page=page, command=mark[1], beginnings=tuple(mark[2].split("; ")), text=mark[3])
        for page in PAGES
        for mark in MARK.finditer(page.read_text(encoding="utf-8"))
    ]


def shown(output: str, beginnings: tuple[str, ...]) -> str:
    """Return the paragraphs of an output that begin with the given words, in that order."""
    paragraphs = [part.strip("\n") for part in re.split(r"\n\s*\n", PROGRESS.sub("", output))]
    chosen = []
    for words in beginnings:
        fitting = [part for part in paragraphs if part.startswith(words)]
        assert fitting, f"no paragraph of the output begins with {words!r}:\n{output}"
        chosen.append("\n".join(map(_wrapped, fitting[0].splitlines())))
    return "\n\n".join(chosen) + "\n"


def rewrite(sample: Sample, output: str) -> None:
    """Put the paragraphs of a fresh output into the page."""
    page = sample.page.read_text(encoding="utf-8")
    mark = f"<!-- output of `{sample.command}`: {'; '.join(sample.beginnings)} -->\n```text\n"
    assert page.count(mark) == 1
    fresh = shown(output, sample.beginnings)
    sample.page.write_text(page.replace(mark + sample.text, mark + fresh), encoding="utf-8")


def differences(sample: Sample, output: str) -> list[str]:
    """Return what a fresh output has otherwise than the page: its words, or numbers beyond the tolerance."""
    fresh = shown(output, sample.beginnings)
    words, fresh_words = (" ".join(NUMBER.sub("#", t).replace("-", "").split()) for t in (sample.text, fresh))
    if words != fresh_words:
        return [f"the page shows\n{sample.text}\nthe command prints\n{fresh}"]
    pairs = zip(NUMBER.findall(sample.text), NUMBER.findall(fresh), strict=True)
    return [f"the page shows {a}, the command prints {b}" for a, b in pairs if not _is_close(a, b)]


def _wrapped(line: str) -> str:
    is_prose = len(line) > COLUMNS and "  " not in line
    return textwrap.fill(line, COLUMNS, break_on_hyphens=False) if is_prose else line


def _is_close(a: str, b: str) -> bool:
    digits = min(len(n.partition(".")[2]) for n in (a, b))
    difference = abs(float(a) - float(b))
    return difference <= max(RELATIVE * abs(float(a)), LAST_DIGITS * 10.0**-digits)
