"""`--motion auto` of a project: what is written, resumed, distributed, and said."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import yaml

import tomopolish
from tomopolish.cli import run
from tomopolish.dataset.project import open_dataset
from tomopolish.simulate.parts import (
    AcquisitionSettings,
    MoleculeSettings,
    NoiseSettings,
    PlantedErrors,
    PlantedMotion,
    SimulationSettings,
    SpecimenSettings,
    write_project,
)
from workers_marks import ON_FORKED_WORKERS

SETTINGS = SimulationSettings(
    seed=11,
    tomograms=2,
    molecule=MoleculeSettings(box_px=32, seed=2),
    acquisition=AcquisitionSettings(
        image_size_px=(220, 200), pixel_size_angstrom=5.0, tilt_step_degrees=10.0
    ),
    specimen=SpecimenSettings(particles=20, thickness_angstrom=400.0),
    noise=NoiseSettings(pair_snr=60.0),
    errors=PlantedErrors(shift_px=2.0, angle_degrees=0.3, position_px=1.5),
    motion=PlantedMotion(velocity_scale=0.9, distance_scale=400.0),
)
pytestmark = ON_FORKED_WORKERS
COMMAND = ["align", "--i", "optimisation_set.star", "--b", "32", "--r", "8"]
STILL = "TS_02"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tomograms with motion, of which the second has too few particles to show it, and a run."""
    folder = tmp_path_factory.mktemp("auto") / "project"
    write_project(folder, SETTINGS, threads=1)
    lines, kept = (folder / "particles.star").read_text().splitlines(keepends=True), 0
    for line in list(lines):
        if line.startswith(STILL):
            kept += 1
            if kept > 4:
                lines.remove(line)
    (folder / "particles.star").write_text("".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run([*COMMAND, "--motion", "auto", "--pipeline_control", "out", "--o", "out"]) == 0
    return folder


def test_trajectories_of_particles_that_keep_still_are_zero(project: Path) -> None:
    refined = open_dataset(project / "out/optimisation_set.star", working_directory=project)
    moved = {name: refined.load(name, geometry_only=True)[1].trajectories_px for name in ("TS_01", STILL)}
    assert np.abs(moved["TS_01"]).max() > 0.5
    np.testing.assert_array_equal(moved[STILL], 0)


def test_the_result_says_what_became_of_motion(project: Path) -> None:
    with (project / "out/summary.csv").open() as stream:
        rows = {row["tomogram"]: row for row in csv.DictReader(stream)}
    assert [rows[name]["motion"] for name in ("TS_01", STILL)] == ["kept", "none"]
    assert float(rows["TS_01"]["motion_gain"]) > float(rows["TS_01"]["motion_gain_error"]) > 0
    assert float(rows["TS_01"]["motion_velocity_scale"]) > 0
    assert rows[STILL]["motion_velocity_scale"] == rows[STILL]["motion_gain"] == ""
    log = (project / "out/run.log").read_text()
    assert "Particle motion (--motion auto): kept in 1 of 2 tomograms" in log
    report = (project / "out/report.html").read_text()
    assert "motion kept (--s_vel" in report and "no motion; the images show none" in report
    assert (project / "out/logfile.pdf").stat().st_size
    assert yaml.safe_load((project / "out/run.yaml").read_text())["options"]["motion"] == "auto"


def test_finished_tomograms_are_reused_for_the_same_option_only(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    again = [*COMMAND, "--o", "out", "--only_do_unfinished", "--dry_run"]
    assert run([*again, "--motion=auto"]) == 0
    assert "not refined again: 2 tomograms" in capsys.readouterr().out
    assert run([*again, "--motion"]) == 0
    assert "--motion auto → on" in capsys.readouterr().out


def test_python_has_the_same_word(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    loaded = tomopolish.load("optimisation_set.star")
    aligned = tomopolish.align(loaded, box_px=32, range_px=8, motion="auto")
    refined = open_dataset(Path("out/optimisation_set.star"))
    for name, result in aligned.results.items():
        trial = result.statistics.motion
        assert trial is not None and trial.helps == (name == "TS_01")
        positions = refined.load(name, geometry_only=True)[1].positions_px
        np.testing.assert_allclose(result.alignment.positions_px, positions, atol=1e-5)
    assert set(aligned.to_dataframe()["motion"]) == {"kept", "none"}
    with pytest.raises(
        tomopolish.InputError, match=r'motion=.fast. must be MotionSettings\(...\), "auto", or'
    ):
        tomopolish.align(loaded, box_px=32, range_px=8, motion="fast")
    with pytest.raises(
        tomopolish.InputError, match=r'^motion="auto" keeps motion where .* held_out_fraction=0'
    ):
        tomopolish.align(loaded, box_px=32, range_px=8, motion="auto", held_out_fraction=0.0)


def test_workers_find_the_same(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    words = ["--motion", "auto", "--workers", "1", "--no_report", "--o", "workers"]
    assert run([*COMMAND, *words]) == 0
    for name in ("motion.star", "particles.star", "tomograms.star"):
        here, there = ((project / f / name).read_text() for f in ("workers", "out"))
        assert here.replace("workers/", "out/") == there, name
