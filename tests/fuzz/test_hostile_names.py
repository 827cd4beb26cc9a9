"""Names in STAR files that point elsewhere never lead a run to write outside its output folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tomopolish.cli import run

HOSTILE = ["/tmp/tomopolish_escape", "../../escape", "..", "x" * 3000, "a/b/c"]
_ALIGN = "align --i optimisation_set.star --b 48 --r 6 --o out --pipeline_control out"
ALIGN = _ALIGN.split()


def tree(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if not path.is_relative_to(folder / "project/out")}


@pytest.mark.parametrize("name", HOSTILE, ids=lambda n: n[:12])
def test_nothing_is_written_outside_the_output_folder(project: Path, name: str) -> None:
    for file in ("tomograms.star", "particles.star", "tilt_series/TS_02.star"):
        path = project / file
        lines = []
        for line in path.read_text().splitlines():
            cells = line.split(" ")
            first = next((i for i, cell in enumerate(cells) if cell == "TS_02"), None)
            if first is not None:
                cells[first] = name
            lines.append(" ".join(cells).replace("data_TS_02", f"data_{name}"))
        path.write_text("\n".join([*lines, ""]))
    before = tree(project.parent)
    run(
        [
            "align",
            "--i",
            "optimisation_set.star",
            "--b",
            "48",
            "--r",
            "6",
            "--o",
            "out",
            "--pipeline_control",
            "out",
        ]
    )
    assert tree(project.parent) == before
    assert not Path("/tmp/tomopolish_escape.star").exists()
    assert (project / "out/particles.star").exists()
    assert name in (project / "out/particles.star").read_text()
