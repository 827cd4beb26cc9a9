"""The log that the page shows is that of an alignment."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages import ROOT, blocks

from tomopolish.cli import run

ALIGN = "align --i Extract/job010/optimisation_set.star --b 128 --r 8 --o logged --no_report --hold_out 0"


def shape(line: str) -> str:
    """A line without figures, the machine's processors, and the project's paths."""
    line = re.sub(r"\(.*cores? here\)", "", line)
    line = line.replace("demo/aligned", "logged").replace("demo/project", "Extract/job010")
    return re.sub(r"\d[\d.:+T-]*", "#", line)


def test_its_lines_are_in_the_log(small_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small_project)
    assert run(ALIGN.split()) == 0
    log = {shape(line) for line in Path("logged/run.log").read_text().splitlines()}
    (shown,) = [b.text for b in blocks() if b.page == ROOT / "docs/logs.md" and "run.log" in b.attributes]
    assert {shape(line) for line in shown.splitlines()} <= log
