"""Several species on workers: the same sets as without, resumed, and with a tomogram that fails."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from star_edits import check_same_sets
from tomopolish.cli import run
from tomopolish.dataset.project import open_dataset
from tomopolish.dataset.star import read_star
from tomopolish.simulate.parts import (
    AcquisitionSettings,
    CompanionSettings,
    MoleculeSettings,
    NoiseSettings,
    PlantedErrors,
    SimulationSettings,
    SpecimenSettings,
    write_project,
)
from workers_marks import ON_FORKED_WORKERS

pytestmark = [*ON_FORKED_WORKERS, pytest.mark.usefixtures("blank_logfile")]
SETTINGS = SimulationSettings(
    seed=4,
    tomograms=2,
    molecule=MoleculeSettings(box_px=48),
    acquisition=AcquisitionSettings(image_size_px=(192, 192), tilt_step_degrees=20.0),
    specimen=SpecimenSettings(particles=4, thickness_angstrom=400.0),
    noise=NoiseSettings(pair_snr=60.0),
    errors=PlantedErrors(max_displacement_px=3.0),
    companions=(
        CompanionSettings(
            name="fas", molecule=MoleculeSettings(box_px=40, seed=1), particles=4, pair_snr=60.0
        ),
    ),
)
BOTH = ["align", "--i", "ribosome/optimisation_set.star", "--i", "fas_optimisation_set.star"]
BOTH += ["--b", "48", "--b", "40", "--r", "6", "--no_report"]
YAML = """species:
- {name: ribosome, optimisation_set: ribosome/optimisation_set.star, box: 48}
- {name: fas, optimisation_set: fas_optimisation_set.star, box: 40}
"""
WORKERS = ["--workers", "1"]
JOB = "Polish/job007"
SETS = ("tomograms.star", "tilt_series/TS_01.star", "tilt_series/TS_02.star")
SETS += tuple(f"{s}/{f}.star" for s in ("ribosome", "fas") for f in ("particles", "uncertainty"))


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project, and what a run without workers makes of it in ``alone``."""
    folder = tmp_path_factory.mktemp("species") / "project"
    write_project(folder, SETTINGS, threads=2)
    (folder / "ribosome").mkdir()
    shutil.copy(folder / "optimisation_set.star", folder / "ribosome")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run([*BOTH, "--o", "alone"]) == 0
    return folder


@pytest.fixture
def project(simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    shutil.copytree(simulated, folder)
    monkeypatch.chdir(folder)
    return folder


def exits(project: Path) -> list[str]:
    return [path.name for path in (project / JOB).glob("RELION_JOB_*")]


def test_workers_make_the_same_sets_for_relions_pipeline_and_a_rerun_takes_them(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*BOTH, *WORKERS, "--o", JOB, "--pipeline_control", JOB]
    assert run(command) == 0
    check_same_sets(project, JOB, SETS)
    assert exits(project) == ["RELION_JOB_EXIT_SUCCESS"]
    nodes = read_star(project / JOB / "RELION_OUTPUT_NODES.star").table("output_nodes")
    results = ["tomograms.star", "logfile.pdf"]
    results += [f"{s}/{f}.star" for s in ("ribosome", "fas") for f in ("optimisation_set", "particles")]
    assert nodes.strings("rlnPipeLineNodeName") == [f"{JOB}/{name}" for name in results]
    capsys.readouterr()
    assert run([*command, "--only_do_unfinished"]) == 0
    assert capsys.readouterr().out.count("finished earlier") == 2
    check_same_sets(project, JOB, SETS)


def test_a_tomogram_that_fails_keeps_its_values_for_every_species_until_it_is_mended(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "both.yaml").write_text(YAML)
    command = ["align", "--i", "both.yaml", "--r", "6", "--no_report", "--o", JOB, "--pipeline_control", JOB]
    stack = project / "tilt_series/TS_02.mrcs"
    content, times = stack.read_bytes(), stack.stat().st_mtime_ns
    damaged = np.frombuffer(content, dtype="<f4").copy()
    damaged[256:] = np.nan  # all images, behind the header
    stack.write_bytes(damaged.tobytes())
    assert run([*command, *WORKERS]) == 1
    captured = capsys.readouterr()
    assert "TS_02 failed" in captured.err and "none of the tilt images can be used" in captured.err
    assert captured.out.splitlines()[-1].startswith("TS_02 failed and keeps its input values")
    assert exits(project) == ["RELION_JOB_EXIT_FAILURE"]
    for name, source in (
        ("ribosome", "ribosome/optimisation_set.star"),
        ("fas", "fas_optimisation_set.star"),
    ):
        after = open_dataset(project / JOB / name / "optimisation_set.star")
        before = open_dataset(project / source)
        for tomogram, changed in (("TS_01", True), ("TS_02", False)):
            found, was = after.load(tomogram), before.load(tomogram)
            moved = np.abs(found[1].positions_px - was[1].positions_px).max()
            turned = np.abs(found[0].projections_px - was[0].projections_px).max()
            assert (moved > 0.1) == changed and (turned > 1e-3) == changed
    stack.write_bytes(content)
    assert stack.stat().st_mtime_ns != times
    assert run([*command, *WORKERS, "--only_do_unfinished"]) == 0
    out = capsys.readouterr().out
    assert "TS_01 (1/2): finished earlier" in out and "TS_02 (2/2): finished" not in out
    assert exits(project) == ["RELION_JOB_EXIT_SUCCESS"]
    check_same_sets(project, JOB, SETS)


@pytest.mark.parametrize("options", [[], ["--dry_run"], WORKERS])
@pytest.mark.parametrize("output", [".", "fas"])
def test_a_folder_whose_inputs_would_be_replaced_is_refused_before_any_work(
    project: Path, options: list[str], output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if output == "fas":
        shutil.copy(project / "tomograms.star", project / "fas")
        text = (project / "fas_optimisation_set.star").read_text()
        (project / "fas_optimisation_set.star").write_text(
            text.replace("tomograms.star", "fas/tomograms.star")
        )
        text = (project / "ribosome/optimisation_set.star").read_text()
        (project / "ribosome/optimisation_set.star").write_text(text.replace(" tomo", " fas/tomo"))
    before = {path: path.stat().st_mtime_ns for path in project.rglob("*")}
    assert run([*BOTH, *options, "--o", output]) == 2
    assert "another folder" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in project.rglob("*")} == before
