"""RELION's command lines, option by option."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from tomopolish.cli import run
from tomopolish.cli.align import COMMAND, settings_from
from tomopolish.errors import InputError
from tomopolish.settings.alignment import (
    AlignSettings,
    DeformationSettings,
    FitSettings,
    InputPaths,
    MotionSettings,
    RunSettings,
    WeightSettings,
    WindowSettings,
)
from tomopolish.settings.joint import JointSettings
from tomopolish.settings.wording import naming_options

RUNS = Path(__file__).parents[1] / "reference" / "relion" / "relion"
NEEDED = "--i optimisation_set.star --b 96 --o out/"


def parse(command: str) -> AlignSettings:
    return settings_from(COMMAND.make_context("align", shlex.split(command)).params)


def test_without_options_everything_is_relions_default() -> None:
    assert parse(NEEDED) == AlignSettings(
        inputs=InputPaths(optimisation_set=Path("optimisation_set.star")),
        windows=WindowSettings(box_px=96, range_px=20),
        run=RunSettings(output_folder=Path("out")),
    )


PARSED: dict[str, tuple[str, dict[str, Any]]] = {
    "parts": (
        "--p p.star --t t.star --mot m.star --ref1 a.mrc --ref2 b.mrc --mask m.mrc --fsc f.star",
        {
            "inputs": InputPaths(
                optimisation_set=Path("optimisation_set.star"),
                particles=Path("p.star"),
                tomograms=Path("t.star"),
                trajectories=Path("m.star"),
                half_map1=Path("a.mrc"),
                half_map2=Path("b.mrc"),
                mask=Path("m.mrc"),
                fsc=Path("f.star"),
            )
        },
    ),
    "windows": (
        "--r 8 --range_reg 10 --pad 2 --min_frame 1 --max_frame 30",
        {
            "windows": WindowSettings(
                box_px=96, range_px=8, range_penalty=10, padding=2, min_frame=1, max_frame=30
            )
        },
    ),
    "weights": (
        "--freq_cutoff 14 --fsc_thresh_width 3 --use_SNR_weight --per_frame_noise --whiten_abs --hp 4 "
        "--srp 1.5 --cutoff_fract 0.05",
        {
            "weights": WeightSettings(
                freq_cutoff_angstrom=14,
                fsc_thresh_width=3,
                use_snr_weight=True,
                per_frame_noise=True,
                whiten_abs=True,
                hp_sigma=4,
                srp=1.5,
                cutoff_fraction=0.05,
            )
        },
    ),
    "no whitening": ("--no_whiten", {"weights": WeightSettings(whiten=False)}),
    "RELION's off": (
        "--freq_cutoff -1 --hp -1 --max_frame -1",
        {"weights": WeightSettings(), "windows": WindowSettings(box_px=96)},
    ),
    "fixed positions": ("--const_p", {"fit": FitSettings(const_positions=True)}),
    "fixed angles": ("--const_a", {"fit": FitSettings(const_angles=True)}),
    "fixed shifts": ("--const_s", {"fit": FitSettings(const_shifts=True)}),
    "iterations": ("--it 10000", {"fit": FitSettings(max_iterations=10_000)}),
    "no limit": ("--it 0", {"fit": FitSettings(max_iterations=None)}),
    "shifts": ("--shift_only", {"fit": FitSettings(shift_only=True)}),
    "shifts by particles": (
        "--shift_only --shift_only_by_particles",
        {"fit": FitSettings(shift_only=True, shift_only_by_particles=True)},
    ),
    "motion": (
        "--motion --s_vel 0.1 --s_div 3000 --abs_params --sq_exp_ker --max_ed 4",
        {
            "motion": MotionSettings(
                velocity_scale=0.1,
                distance_scale=3000,
                absolute=True,
                squared_exponential=True,
                max_deformations=4,
            )
        },
    ),
    "motion where it helps": (
        "--motion auto --s_div 300",
        {"motion": MotionSettings(distance_scale=300, auto=True)},
    ),
    "motion where it helps, with =": ("--motion=auto", {"motion": MotionSettings(auto=True)}),
    "motion before another option": (
        "--motion --hold_out 0.2",
        {"motion": MotionSettings(), "fit": FitSettings(held_out_fraction=0.2)},
    ),
    "motion in full": ("--motion --max_ed -1", {"motion": MotionSettings()}),
    "warps": (
        "--deformation --def_model Fourier --def_w 4 --def_h 5 --def_reg 1.0 --per_frame_deformation",
        {"deformation": DeformationSettings(model="Fourier", grid=(4, 5), regulariser=1.0, per_frame=True)},
    ),
    "joint": (
        "--joint --phase_shift",
        {
            "joint": JointSettings(
                orientations=True, defocus=True, phase_shift=True, tilt_scale=True, tilt_bfactor=True
            )
        },
    ),
    "some views and optics": (
        "--orientations --astigmatism --tilt_scale",
        {"joint": JointSettings(orientations=True, astigmatism=True, tilt_scale=True)},
    ),
    "run": (
        "--j 8 --diag --dry_run --only_do_unfinished --pipeline_control Polish/job012/ --theme classic",
        {
            "run": RunSettings(
                output_folder=Path("out"),
                threads=8,
                diagnostics=True,
                dry_run=True,
                only_do_unfinished=True,
                pipeline_folder=Path("Polish/job012"),
            )
        },
    ),
}


@pytest.mark.parametrize("case", PARSED)
def test_options_reach_the_settings(case: str) -> None:
    options, expected = PARSED[case]
    settings = parse(f"{NEEDED} {options}")
    untouched = parse(NEEDED)
    for part in ("inputs", "windows", "weights", "fit", "motion", "deformation", "joint", "run"):
        assert getattr(settings, part) == expected.get(part, getattr(untouched, part)), part


@pytest.mark.parametrize("run_json", sorted(RUNS.glob("*/run.json")), ids=lambda path: path.parent.name)
def test_the_commands_of_the_reference_runs_parse(run_json: Path) -> None:
    program, *options = shlex.split(json.loads(run_json.read_text())["command"])
    assert program == "relion_tomo_align"
    assert parse(shlex.join([*options, "--o", "out"])).windows.range_px == 6


REFUSED = {
    "nothing": ("", "Missing option"),
    "no box": ("--i set.star --o out", "'--b'"),
    "no output": ("--i set.star --b 96", "'--o'"),
    "no input": ("--b 96 --o out", "--i"),
    "unknown option": (f"{NEEDED} --s_velo 3", "--s_velo"),
    "stray word": (f"{NEEDED} tomograms.star", "tomograms.star"),
    "no number": (f"{NEEDED} --freq_cutoff high", "--freq_cutoff"),
    "no whole number": (f"{NEEDED} --r 8.5", "--r"),
    "not a number": (f"{NEEDED} --range_reg nan", "--range_reg"),
    "infinite": (f"{NEEDED} --srp inf", "--srp"),
    "missing value": ("--i set.star --o out --b", "--b"),
    "anisotropy": (f"{NEEDED} --aniso", "--aniso does nothing"),
    "anisotropy per tilt": (f"{NEEDED} --per_tilt_aniso", "--per_tilt_aniso does nothing"),
    "motion and shifts": (f"{NEEDED} --motion --shift_only", "--shift_only and --motion"),
    "motion and positions": (f"{NEEDED} --motion --const_p", "--motion and --const_p"),
    "motion of a kind": (f"{NEEDED} --motion fast", "'--motion'"),
    "motion without judges": (f"{NEEDED} --motion auto --hold_out 0", "--motion auto keeps"),
    "motion without noise": (f"{NEEDED} --motion auto --no_whiten", "exclude --motion auto"),
    "whitening": (f"{NEEDED} --no_whiten --whiten_abs", "--no_whiten and --whiten_abs"),
    "bad warp": (f"{NEEDED} --deformation --def_model cubic", "--def_model cubic"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_command_lines_end_in_one_sentence(
    case: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options, text = REFUSED[case]
    assert run(["align", *shlex.split(options)]) == 2
    captured = capsys.readouterr()
    assert text in captured.err
    assert captured.err.startswith("tomopolish: ")
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


IDLE = {
    "--s_vel 0.1 --def_w 4": [
        "warning: --s_vel has no effect without --motion",
        "warning: --def_w has no effect without --deformation",
    ],
    "--shift_only --per_frame_noise --hold_out 0.1": [
        "warning: --per_frame_noise has no effect with --shift_only without --shift_only_by_particles",
        "warning: --hold_out has no effect with --shift_only without --shift_only_by_particles",
    ],
    "--motion auto --s_vel 0.1 --s_div 300": ["warning: --s_vel has no effect with --motion auto"],
    "--shift_only --shift_only_by_particles --per_frame_noise --hold_out 0.1": [],
}


@pytest.mark.parametrize("options", IDLE)
def test_options_that_do_nothing_beside_others_draw_a_warning(
    options: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run(["align", *shlex.split(NEEDED), *shlex.split(options)])
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert warnings == IDLE[options]


def test_the_settings_are_refused_before_files_are_looked_at() -> None:
    with naming_options(), pytest.raises(InputError, match="--shift_only and --motion"):
        parse("--i no_such_file.star --b 96 --o out --motion --shift_only")
