"""Pictures of the pages exist, are small and described, and are those that the script makes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages import PAGES, ROOT

PICTURES = ROOT / "docs" / "pictures"
LARGEST_BYTES = 150_000
SHOWN = [
    (page, description, target)
    for page in PAGES
    for description, target in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("page, description, target", SHOWN, ids=[f"{p.name}:{t}" for p, _, t in SHOWN])
def test_it_exists_is_small_and_described(page: Path, description: str, target: str) -> None:
    picture = page.parent / target
    assert picture.is_file()
    assert picture.stat().st_size < LARGEST_BYTES
    assert len(description.split()) > 4, "readers who cannot see the picture need its content in words"


def test_every_picture_is_shown_and_made_by_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("playwright", reason="the script's browser is not installed")
    pytest.importorskip("PIL", reason="Pillow is not installed")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import pictures

    kept = {path.name for path in PICTURES.iterdir()}
    assert kept == pictures.NAMES
    assert kept == {Path(target).name for _, _, target in SHOWN if "pictures/" in target}
