"""A small project that commands may run in, and write into."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

INPUTS = ("optimisation_set.star", "tomograms.star", "particles.star", "fsc.star")
MAPS = ("ref_half1.mrc", "ref_half2.mrc", "mask.mrc")


def write_project_of_two(mini: Path, folder: Path) -> None:
    """Write a copy of the small reference project with its tomogram twice; maps and images are links."""
    (folder / "tilt_series").mkdir(parents=True)
    for name in INPUTS:
        shutil.copy2(mini / name, folder)
    for name in (*MAPS, "tilt_series/TS_01.mrcs", "tilt_series/TS_01.star"):
        (folder / name).symlink_to(mini / name)
    (folder / "tilt_series/TS_02.mrcs").symlink_to(mini / "tilt_series/TS_01.mrcs")
    series = (mini / "tilt_series/TS_01.star").read_text()
    (folder / "tilt_series/TS_02.star").write_text(series.replace("TS_01", "TS_02"))
    for name in ("tomograms.star", "particles.star"):
        lines = (mini / name).read_text().rstrip("\n").split("\n")
        second = [line.replace("TS_01", "TS_02") for line in lines if line.startswith("TS_01")]
        (folder / name).write_text("\n".join([*lines, *second, ""]))


@pytest.fixture
def project(mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy of the small reference project with its tomogram twice; it is the working directory."""
    folder = tmp_path / "project"
    write_project_of_two(mini, folder)
    monkeypatch.chdir(folder)
    return folder
