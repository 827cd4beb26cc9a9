"""The commands in the README are accepted by the program."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import tomopolish
from tomopolish.cli import SUMMARIES
from tomopolish.cli.align import COMMAND, settings_from

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL = [
    line
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.replace("\\\n", "").splitlines()
]


def test_its_alignments_parse() -> None:
    for line in [line for line in SHELL if line.startswith("tomopolish align ")]:
        settings = settings_from(COMMAND.make_context("align", shlex.split(line)[2:]).params)
        assert settings.windows.box_px == 128


@pytest.mark.parametrize("target", ["demo", "test"])
def test_its_make_targets_exist(target: str) -> None:
    assert any(line.startswith(f"make {target}") for line in SHELL)
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def test_it_names_every_command() -> None:
    for name in SUMMARIES:
        assert f"tomopolish {name}" in README


def test_its_python_runs(project: Path) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    small = code.replace("box_px=128", "box_px=48").replace("range_px=12", "range_px=6")
    assert small != code
    names: dict[str, object] = {}
    exec(small, names)
    assert names["align"] is tomopolish.align
    assert (project / "out" / "optimisation_set.star").is_file()
