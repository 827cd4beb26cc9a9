"""The page of conventions names a test for every statement, and those tests exist."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "dev" / "conventions.md").read_text(encoding="utf-8")


def test_every_reference_leads_to_a_test_and_every_listed_test_exists() -> None:
    text, _, listing = PAGE.partition("\n## Tests\n")
    cited = {int(number) for number in re.findall(r"\[(\d+)\]", text)}
    entries = re.findall(r"^(\d+)\. `([\w/]+\.py)`: (.+)$", listing, flags=re.MULTILINE)
    assert cited == {int(number) for number, _, _ in entries} == set(range(1, len(entries) + 1))
    for _, file, names in entries:
        source = (TESTS / file).read_text(encoding="utf-8")
        for name in re.findall(r"`(\w+)`", names):
            assert f"\ndef {name}(" in source, f"{file}: {name}"
