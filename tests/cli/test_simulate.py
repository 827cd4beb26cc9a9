"""`tomopolish simulate`, `evaluate` and `demo`."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import tomopolish
from tomopolish.cli import run
from tomopolish.cli.simulate import COMMAND, settings_from
from tomopolish.settings.dirt import DirtSettings
from tomopolish.settings.simulation import (
    AcquisitionSettings,
    MoleculeSettings,
    NoiseSettings,
    PlantedErrors,
    PlantedMotion,
    PlantedWarp,
    SimulationSettings,
    SpecimenSettings,
)

SMALL = "--particles 4 --box 32 --image_size 160 144 --pixel_size 4 --tilt_step 20 --thickness 200"


def parse(options: str) -> SimulationSettings:
    return settings_from(COMMAND.make_context("simulate", shlex.split(f"--o project {options}")).params)


def simulate(folder: str, options: str = "") -> int:
    return run(["simulate", "--o", folder, *shlex.split(SMALL), *shlex.split(options)])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_defaults_are_the_simulators() -> None:
    assert parse("") == SimulationSettings()


def test_every_option_reaches_the_simulator() -> None:
    options = (
        "--seed 3 --tomograms 2 --dialect 4 --image_type int16 --map map.mrc --box 64 --molecule_seed 5 "
        "--particles 7 --thickness 500 --tomogram_size 301 302 203 --image_size 300 301 --pixel_size 2 "
        "--tilt_range 50 --tilt_step 5 --tilt_axis -30 --dose 2 --hand 1 --defocus 30000 "
        "--dose_scheme bidirectional --file_order shuffled --snr 20 --noise_excess 3 --shift_error 1 "
        "--angle_error 0.1 --position_error 0.5 --max_error 8 --motion --s_vel 0.2 --s_div 900 --sq_exp_ker "
        "--deformation --def_model spline --def_w 4 --def_h 5 --def_amplitude 2 --per_frame_deformation "
        "--false_particles 0.3 --misoriented 0.2 --misoriented_turn 20 --picked_twice 0.1 --beads 7 "
        "--bead_diameter 80 --hot_pixels 9 --gradient 0.5 --blank_images 1 --covered_images 3 "
        "--defocus_error 300 --displaced_images 2 --displaced_by 9"
    )
    assert parse(options) == SimulationSettings(
        seed=3,
        tomograms=2,
        dialect="relion4",
        image_type="int16",
        molecule=MoleculeSettings(map_path=Path("map.mrc"), box_px=64, seed=5),
        specimen=SpecimenSettings(particles=7, thickness_angstrom=500, tomogram_size_px=(301, 302, 203)),
        acquisition=AcquisitionSettings(
            image_size_px=(300, 301),
            pixel_size_angstrom=2,
            tilt_range_degrees=50,
            tilt_step_degrees=5,
            tilt_axis_degrees=-30,
            frame_dose=2,
            hand=1,
            defocus_angstrom=30000,
            dose_scheme="bidirectional",
            file_order="shuffled",
        ),
        noise=NoiseSettings(pair_snr=20, low_frequency_excess=3),
        errors=PlantedErrors(shift_px=1, angle_degrees=0.1, position_px=0.5, max_displacement_px=8),
        motion=PlantedMotion(velocity_scale=0.2, distance_scale=900, squared_exponential=True),
        warp=PlantedWarp(model="spline", grid=(4, 5), amplitude_px=2, per_frame=True),
        dirt=DirtSettings(
            false_particles=0.3,
            misoriented=0.2,
            misoriented_turn_degrees=20,
            picked_twice=0.1,
            beads=7,
            bead_diameter_angstrom=80,
            hot_pixels=9,
            gradient=0.5,
            blank_images=1,
            covered_images=3,
            defocus_error_angstrom=300,
            displaced_images=2,
            displaced_by_px=9,
        ),
    )


@pytest.mark.parametrize("dialect", ["5", "4"])
def test_a_simulated_project_loads(here: Path, dialect: str) -> None:
    assert simulate("project", f"--dialect {dialect} --tomograms 2") == 0
    project = tomopolish.load("project/optimisation_set.star")
    assert project.tomogram_names == ("TS_01", "TS_02")
    series, particles = project.first.load("TS_02")
    assert (len(series), len(particles)) == (7, 4)
    assert series.image_size_px == (160, 144)
    assert "tomopolish simulate --o project" in (here / "project/note.txt").read_text()


def test_a_simulation_replaces_only_a_simulation(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate("project") == 0
    assert simulate("project", "--seed 2") == 0
    (here / "precious").mkdir()
    (here / "precious" / "tomograms.star").write_text("data_global\n")
    assert simulate("precious") == 2
    assert "precious" in capsys.readouterr().err
    assert [path.name for path in (here / "precious").iterdir()] == ["tomograms.star"]


REFUSED = {
    "odd box": ("--box 33", "33 px"),
    "no tomogram": ("--tomograms 0", "tomogram"),
    "no thread": ("--j 0", "--j 0"),
    "unknown dialect": ("--dialect 3", "--dialect"),
    "unknown scheme": ("--dose_scheme random", "--dose_scheme"),
    "no map": ("--map nowhere.mrc", "nowhere.mrc"),
    "one size": ("--image_size 512", "--image_size"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_simulated_is_refused_in_one_sentence(
    case: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, text = REFUSED[case]
    assert simulate("project", options) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("tomopolish: ")
    assert text in errors
    assert errors.count("\n") == 1


def evaluated(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    capsys.readouterr()
    assert run(["evaluate", "--truth", "project/truth.json", *options]) == 0
    return capsys.readouterr().out


def test_an_input_is_as_wrong_as_it_was_planted(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simulate("project", "--max_error 5 --snr 200")
    output = evaluated(capsys, "--i", "project/optimisation_set.star", "--json")
    content = json.loads(output)
    assert content["rms_2d_before_angstrom"] == pytest.approx(content["rms_2d_after_angstrom"], abs=1e-3)
    assert 4 < content["rms_2d_after_angstrom"] <= 5 * 4.0
    assert content["tomograms"]["TS_01"]["after"]["visible_pairs"] == content["visible_pairs"] > 10


def test_evaluate_prints_a_table_and_says_in_one_line_what_improved(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    simulate("project", "--snr 200")
    run(shlex.split("align --i project/optimisation_set.star --b 32 --r 8 --o out"))
    output = evaluated(capsys, "--i", "out/optimisation_set.star")
    row = next(line for line in output.splitlines() if line.startswith("TS_01"))
    assert len(re.findall(r"\d+\.\d\d → \d+\.\d\d", row)) == 7
    found = re.search(r"RMS 2D error (\S+) Å before, (\S+) Å after", output.splitlines()[-1])
    assert found is not None
    before, after = map(float, found.groups())
    assert after < before / 3


def test_another_input_may_be_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simulate("project")
    run(shlex.split("align --i project/optimisation_set.star --b 32 --r 8 --o out"))
    output = evaluated(capsys, *shlex.split("--i out --before out/optimisation_set.star --json"))
    content = json.loads(output)["tomograms"]["TS_01"]
    assert content["before"] == content["after"]


@pytest.mark.parametrize("missing", ["truth.json", "set.star"])
def test_evaluate_names_a_missing_file(here: Path, capsys: pytest.CaptureFixture[str], missing: str) -> None:
    simulate("project")
    truth = missing if missing == "truth.json" else "project/truth.json"
    result = missing if missing == "set.star" else "project/optimisation_set.star"
    capsys.readouterr()
    assert run(["evaluate", "--truth", truth, "--i", result]) == 2
    errors = capsys.readouterr().err
    assert missing in errors
    assert errors.count("\n") == 1


@pytest.mark.slow
def test_the_demo_shows_its_commands_and_improves(here: Path) -> None:
    outcome = subprocess.run(
        [sys.executable, "-m", "tomopolish", "demo", "--j", "2"], capture_output=True, text=True, check=False
    )
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stderr == ""
    lines = outcome.stdout.splitlines()
    commands = [line.split()[2] for line in lines if line.startswith("$ tomopolish ")]
    assert commands == ["simulate", "align", "evaluate"]
    found = re.search(r"RMS 2D error (\S+) Å before, (\S+) Å after", lines[-1])
    assert found is not None
    before, after = map(float, found.groups())
    assert before > 8
    assert after < 1
