"""`tomopolish tune` from the command line: a project whose motion is known, and what is refused."""

from __future__ import annotations

import json
import shlex
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tomopolish.cli import run
from tomopolish.cli.align import COMMAND, settings_from

VELOCITY, DISTANCE = 0.5, 200.0
SIMULATION = [
    "--image_size", "300", "300", "--box", "48", "--particles", "24", "--tilt_step", "5", "--motion",
    "--s_vel", str(VELOCITY), "--s_div", str(DISTANCE), "--seed", "4",
]  # fmt: skip


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("moving") / "project"
    assert run(["simulate", "--o", str(folder), *SIMULATION]) == 0
    return folder


def test_the_velocity_is_recovered_and_the_command_line_is_ready(
    moving: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(moving)
    options = "--i optimisation_set.star --b 48 --r 16 --freq_cutoff 8 --per_frame_noise"
    assert run(["tune", *options.split(), "--s_div", str(DISTANCE), "--o", "tune"]) == 0
    text = capsys.readouterr().out
    record = json.loads((moving / "tune" / "tune.json").read_text(encoding="utf-8"))
    assert record["chosen"]["s_vel"] == pytest.approx(VELOCITY, rel=0.2)
    assert not record["chosen"]["sq_exp_ker"]
    low, high = record["velocity_interval_95"]
    assert low < record["chosen"]["s_vel"] < high
    command = text.strip().splitlines()[-1]
    assert command.startswith("tomopolish align --i optimisation_set.star --b 48 --r 16")
    words = shlex.split(command.replace("FOLDER", "out"))[2:]
    settings = settings_from(COMMAND.make_context("align", words).params)
    assert settings.motion is not None
    assert settings.motion.velocity_scale == pytest.approx(record["chosen"]["s_vel"], rel=0.01)
    assert settings.motion.distance_scale == DISTANCE
    assert settings.weights.per_frame_noise
    assert settings.weights.freq_cutoff_angstrom == 8
    picture = ET.parse(moving / "tune" / "tune.svg").getroot()
    texts = ["".join(e.itertext()) for e in picture.iter() if e.tag.endswith("text")]
    assert {"exponential kernel", "square-exponential kernel", "--s_vel", "--s_div"} <= set(texts)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--deformation"], "--deformation"),
        (["--s_vel", "0.3"], "--s_vel"),
        (["--tomograms", "0"], "--tomograms"),
        (["--max_particles", "1"], "--max_particles"),
        (["--const_p"], "--const_p"),
    ],
)
def test_what_has_no_part_in_tuning_is_refused(
    options: list[str],
    named: str,
    mini: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(mini)
    out = tmp_path / "out"
    words = ["--i", "optimisation_set.star", "--b", "48", "--o", str(out), *options]
    assert run(["tune", *words]) == 2
    errors = capsys.readouterr().err
    assert named in errors
    assert errors.count("\n") == 1
    assert not out.exists()


def test_several_species_are_refused(
    mini: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(mini)
    assert run(["tune", "--i", "a/a.star", "--i", "b/b.star", "--b", "48", "--b", "48", "--o", "out"]) == 2
    assert "one species" in capsys.readouterr().err


def test_where_nothing_moves_the_command_line_asks_for_no_motion(
    mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(mini)
    options = ["--i", "optimisation_set.star", "--b", "48", "--r", "8", "--o", str(tmp_path / "out")]
    assert run(["tune", *options]) == 0
    text = capsys.readouterr().out
    assert "no motion" in text
    assert "--motion" not in text.strip().splitlines()[-1]


def test_the_help_lists_only_what_has_a_part(capsys: pytest.CaptureFixture[str]) -> None:
    run(["tune", "--help"])
    text = capsys.readouterr().out
    assert "--tomograms" in text
    assert "--freq_cutoff" in text
    assert "--deformation" not in text
    assert "--s_vel A_PER_DOSE" not in text
    assert "species" not in text and "one for each" not in text
    assert "[default: 5000.0]" not in text
