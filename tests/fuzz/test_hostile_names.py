"""Names in STAR files never lead a run to write outside its output folder, and reach no screen unchanged."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tomopolish.cli import run

HOSTILE = [
    "/tmp/tomopolish_escape",
    "../../escape",
    "..",
    "x" * 3000,
    "a/b/c",
    "TS\x1b]0;\u202e\x07\udcff",
    "日本$\\frac",
]
_ALIGN = "align --i optimisation_set.star --b 48 --r 6 --hold_out 0 --o out --pipeline_control out"
ALIGN = _ALIGN.split()
TEXT: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape"}
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\udc80-\udcff]")


def tree(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if not path.is_relative_to(folder / "project/out")}


@pytest.mark.parametrize("name", HOSTILE, ids=lambda n: n[:12])
def test_nothing_is_written_outside_the_output_folder(
    project: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in ("tomograms.star", "particles.star", "tilt_series/TS_02.star"):
        path = project / file
        lines = []
        for line in path.read_text(**TEXT).split("\n"):
            cells = line.split(" ")
            first = next((i for i, cell in enumerate(cells) if cell == "TS_02"), None)
            if first is not None:
                cells[first] = name
            lines.append(" ".join(cells).replace("data_TS_02", f"data_{name}"))
        path.write_text("\n".join(lines), **TEXT)
    before = tree(project.parent)
    run(ALIGN)
    assert tree(project.parent) == before
    assert not Path("/tmp/tomopolish_escape.star").exists()
    assert (project / "out/particles.star").exists()
    assert name in (project / "out/particles.star").read_text(**TEXT)
    shown = "".join(capsys.readouterr())
    assert (name in shown) == name.isprintable()
    for text in (
        shown,
        *((project / "out" / file).read_text(**TEXT) for file in ("report.html", "note.txt")),
    ):
        assert not UNSEEN.search(text.partition("<script>")[0])  # plotly's own text holds such characters
