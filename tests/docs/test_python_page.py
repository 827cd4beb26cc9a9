"""The examples of the page on Python run as they stand, and print what the page shows."""

from __future__ import annotations

import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from pages import ROOT, blocks

import tomopolish

PAGE = ROOT / "docs" / "api.md"
EXAMPLES = [block for block in blocks() if block.page == PAGE and block.language in ("python", "text")]

NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?:e[-+]?\d+)?")
RELATIVE, LAST_DIGITS = 0.1, 3
"""Figures of two machines may differ by this share, or by so many units of the last digit that is shown."""


def test_its_examples_print_what_it_shows(
    small_project: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """With ``--rewrite-samples``, the page receives what was printed instead."""
    pytest.importorskip("pandas", reason="pandas is not installed")
    monkeypatch.chdir(small_project)
    rewriting = request.config.getoption("--rewrite-samples", default=False)
    names: dict[str, object] = {}
    printed, wrong = "", []
    for block in EXAMPLES:
        if block.language == "python":
            stream = StringIO()
            with redirect_stdout(stream):
                exec(block.text, names)
            printed = stream.getvalue()
        elif rewriting:
            page = PAGE.read_text(encoding="utf-8")
            PAGE.write_text(page.replace(f"```text\n{block.text}", f"```text\n{printed}"), encoding="utf-8")
        elif not alike(block.text, printed):
            wrong.append(f"the page shows\n{block.text}\nthe example prints\n{printed}")
    assert not wrong, "\n".join([*wrong, "pytest tests/docs --rewrite-samples updates the page"])


def alike(shown: str, printed: str) -> bool:
    """Whether two texts have the same words, and numbers that agree within the tolerance."""
    if NUMBER.sub("#", shown).split() != NUMBER.sub("#", printed).split():
        return False
    return all(
        abs(float(a) - float(b)) <= max(RELATIVE * abs(float(a)), LAST_DIGITS * unit_of(a))
        for a, b in zip(NUMBER.findall(shown), NUMBER.findall(printed), strict=True)
    )


def unit_of(number: str) -> float:
    """One in the last digit that is shown; whole numbers must be equal, or agree by their share."""
    digits = len(number.partition(".")[2])
    return 10.0**-digits if digits else 0.0


def test_it_describes_everything_that_can_be_imported() -> None:
    text = PAGE.read_text(encoding="utf-8")
    described = {name.rpartition(".")[2] for name in re.findall(r"^::: (\S+)$", text, re.MULTILINE)}
    assert set(tomopolish.__all__) - {"__version__", "TomopolishError"} <= described
